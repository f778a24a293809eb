/**
 * The latest trades of one `publicTrade` topic, newest first, and where some are missing.
 *
 * Trades are events: nothing repeats them, except the relay's greeting of the last 50. So they
 * are told apart by their id, and a gap is a row of the tape, never silence.
 */

import { Outcome } from "./book.js";

/** Rows are Bybit's trade objects, or gaps: `{missing: count}`, null where the count is unknown. */
export class Tape {
  #isInterrupted = false;
  #rows = [];

  /** @param {{length?: number}} options how many rows to keep */
  constructor({ length = 100 } = {}) {
    this.length = length;
    this.isLive = false;
    this.ts = null;
  }

  /** Newest first. Not to be changed. */
  get rows() {
    return this.#rows;
  }

  /**
   * Put the trades of one message on top, each once.
   *
   * @returns {string} `Outcome.APPLIED`: trades build on nothing
   */
  apply(message) {
    const known = new Set(this.#rows.map((row) => row.i));
    const fresh = message.data.filter((trade) => !known.has(trade.i));
    const overlaps = fresh.length < message.data.length;
    if (this.#isInterrupted && this.#rows.length && fresh.length && !overlaps) this.miss(null);
    this.#isInterrupted = false;
    this.#push(fresh.reverse()); // the wire has the oldest first
    this.ts = message.ts;
    this.isLive = true;
    return Outcome.APPLIED;
  }

  /** Note that trades were lost here: `count` of them, or null where the count is unknown. */
  miss(count) {
    const [top] = this.#rows;
    if (top !== undefined && "missing" in top) {
      const isKnown = top.missing !== null && count !== null;
      this.#rows = [{ missing: isKnown ? top.missing + count : null }, ...this.#rows.slice(1)];
    } else {
      this.#push([{ missing: count }]);
    }
  }

  /** The stream broke: what comes next may follow a gap. */
  interrupt() {
    this.isLive = false;
    this.#isInterrupted = true;
  }

  #push(rows) {
    this.#rows = [...rows, ...this.#rows].slice(0, this.length);
  }
}
