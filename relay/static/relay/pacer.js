/** Keeps requests below the relay's limit (20 a second, 100 at once, unless the operator changed it). */

const BURST = 60; // requests at once, below the relay's 100
const REFILL = 100; // ms per further request, half of what the relay allows

const FIELDS = ["method", "topic", "symbol", "levels"]; // what a request asks for

/** Requests that leave no faster than the relay accepts them. */
export class Pacer {
  #queue = [];
  #tokens = BURST;
  #countedAt = 0;

  reset(now) {
    this.#queue = [];
    this.#tokens = BURST;
    this.#countedAt = now;
  }

  /** Have a request leave in its turn; one for the same topic that still waits does not leave. */
  add(request) {
    const isOther = (waiting) => FIELDS.some((field) => waiting[field] !== request[field]);
    this.#queue = this.#queue.filter(isOther);
    this.#queue.push(request);
  }

  /** Return what may leave now, and after how many ms to ask again (null: nothing is left). */
  take(now) {
    const refilled = Math.floor((now - this.#countedAt) / REFILL);
    this.#tokens = Math.min(BURST, this.#tokens + refilled);
    this.#countedAt += refilled * REFILL;
    const ready = this.#queue.splice(0, this.#tokens);
    this.#tokens -= ready.length;
    return { ready, wait: this.#queue.length ? REFILL : null };
  }
}
