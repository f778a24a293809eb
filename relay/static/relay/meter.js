/** What the connection light measures: values of the last seconds, and how many a second. */

/** The middle of what was measured lately. */
export class Meter {
  #samples = []; // [at, value], oldest first
  #window;

  /** @param {number} window ms that a sample counts */
  constructor(window = 3_000) {
    this.#window = window;
  }

  add(value, now) {
    this.#samples.push([now, value]);
    this.#forget(now);
  }

  /** The median, or null where nothing was measured lately. */
  median(now) {
    this.#forget(now);
    if (this.#samples.length === 0) return null;
    const values = this.#samples.map(([, value]) => value).sort((left, right) => left - right);
    return values[Math.floor(values.length / 2)];
  }

  #forget(now) {
    const first = this.#samples.findIndex(([at]) => at > now - this.#window);
    this.#samples = first < 0 ? [] : this.#samples.slice(first);
  }
}

/** How fast a count rises. */
export class Rate {
  #counted = null; // [at, count] of the last look

  /** Return the rise per second since the last look, or null at the first. */
  look(count, now) {
    const last = this.#counted;
    this.#counted = [now, count];
    if (last === null || now <= last[0] || count < last[1]) return null;
    return ((count - last[1]) * 1_000) / (now - last[0]);
  }
}
