/**
 * The latest candles of one `kline` topic, newest first.
 *
 * Each message has the whole of a candle so far, so it replaces the one with the same start; a
 * candle that has ended comes once more with `confirm: true`, at times after the next has begun.
 * Source: Bybit v5 docs, WebSocket, Public, Kline.
 */

import { Outcome } from "./book.js";

/** Rows are Bybit's candle objects, such as `{start, end, open, high, low, close, volume, confirm}`. */
export class Candles {
  #rows = [];

  /** @param {{length?: number}} options how many rows to keep */
  constructor({ length = 200 } = {}) {
    this.length = length;
    this.isLive = false;
    this.ts = null;
  }

  /** Newest first. Not to be changed. */
  get rows() {
    return this.#rows;
  }

  /**
   * Put the candles of one message in their places.
   *
   * @returns {string} `Outcome.APPLIED`: a candle builds on nothing
   */
  apply(message) {
    const starts = new Set(message.data.map(({ start }) => start));
    const kept = this.#rows.filter(({ start }) => !starts.has(start));
    const rows = [...message.data, ...kept].sort((left, right) => right.start - left.start);
    this.#rows = rows.slice(0, this.length);
    this.ts = message.ts;
    this.isLive = true;
    return Outcome.APPLIED;
  }

  /** Trust nothing until the next message; the last candles stay to be looked at. */
  interrupt() {
    this.isLive = false;
  }
}
