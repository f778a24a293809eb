/**
 * One ticker, merged from the messages of one `tickers` topic.
 *
 * Linear and inverse send a snapshot and then deltas: a key that is missing is unchanged, a key
 * that is present replaces, even when empty. Spot and option send snapshots alone.
 * Source: Bybit v5 docs, WebSocket, Public, Ticker.
 */

import { Outcome } from "./book.js";

/** The latest value of every key, as the strings that came. */
export class Ticker {
  constructor() {
    /** Whether this is the exchange's ticker; else it is only the last one known. */
    this.isLive = false;
    /** Bybit's keys, such as `lastPrice`; empty before the first snapshot. */
    this.data = {};
    this.ts = null;
    this.sequence = null;
  }

  /**
   * Fold in one message of the topic.
   *
   * @returns {string} an `Outcome`: applied, or ignored (a delta before its snapshot)
   */
  apply(message) {
    const isDelta = message.type === "delta";
    if (isDelta && !this.isLive) return Outcome.IGNORED;
    this.data = isDelta ? { ...this.data, ...message.data } : { ...message.data };
    this.ts = message.ts;
    this.sequence = message.cs ?? null;
    this.isLive = true;
    return Outcome.APPLIED;
  }

  /** Trust nothing until the next snapshot; the last values stay to be looked at. */
  interrupt() {
    this.isLive = false;
  }
}
