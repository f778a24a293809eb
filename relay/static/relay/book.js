/**
 * One order book by Bybit's rules, from the messages of one `orderbook` topic.
 *
 * A snapshot replaces, a delta amends, size 0 deletes, `u` = 1 starts over; prices are compared
 * as decimals and kept as the strings that came. Below depth 1 every delta must continue the
 * `u` before it. Source: Bybit v5 docs, WebSocket, Public, Orderbook.
 */

import { canonical, compareCanonical } from "./decimals.js";

/**
 * What a message led to. `GAP` leaves no right book until the next snapshot; `CROSSED` until a
 * message heals it, which may be the next: exchanges publish the two sides apart.
 */
export const Outcome = Object.freeze({
  APPLIED: "applied",
  IGNORED: "ignored", // a delta, and nothing to amend
  GAP: "gap", // `u` does not follow
  CROSSED: "crossed", // best bid at or above best ask
});

/** An order book that is either right or says that it is not (`isLive`). */
export class OrderBook {
  #bids = new Side((left, right) => compareCanonical(right, left));
  #asks = new Side(compareCanonical);
  #isCounted;
  #mayHeal = false; // crossed, and nothing was missed

  /** @param {{depth: number}} options depth 1 repeats and skips `u`, so it is not counted there */
  constructor({ depth }) {
    this.depth = depth;
    this.#isCounted = depth > 1;
    /** Whether this is the exchange's book; else it is only the last one known. */
    this.isLive = false;
    /** Bybit's `u`, `seq`, `ts` and `cts` (Unix ms) of the last message applied, else null. */
    this.updateId = null;
    this.sequence = null;
    this.ts = null;
    this.cts = null;
  }

  /** Levels `{price, size}` as the strings that came, best first. Not to be changed. */
  get bids() {
    return this.#bids.levels;
  }

  /** As `bids`. */
  get asks() {
    return this.#asks.levels;
  }

  /**
   * Fold in one message of the topic.
   *
   * @param {object} message as parsed from the wire
   * @returns {string} an `Outcome`
   * @throws {NotADecimal|TypeError} for a message of another shape; the book is then not live
   */
  apply(message) {
    const { b: bids, a: asks, u: updateId, seq = null } = message.data;
    const replaces = message.type === "snapshot" || updateId === 1;
    if (!replaces && !this.isLive && !this.#mayHeal) return Outcome.IGNORED;
    const follows = !this.#isCounted || updateId === this.updateId + 1;
    this.isLive = this.#mayHeal = false; // until this message is in, whole
    if (!replaces && !follows) return Outcome.GAP;
    if (replaces) {
      this.#bids.clear();
      this.#asks.clear();
    }
    for (const [price, size] of bids) this.#bids.set(price, size);
    for (const [price, size] of asks) this.#asks.set(price, size);
    this.updateId = updateId;
    this.sequence = seq;
    this.ts = message.ts;
    this.cts = message.cts ?? null;
    this.#mayHeal = this.#isCrossed();
    this.isLive = !this.#mayHeal;
    return this.isLive ? Outcome.APPLIED : Outcome.CROSSED;
  }

  /** Trust nothing until the next snapshot; the last levels stay to be looked at. */
  interrupt() {
    this.isLive = this.#mayHeal = false;
  }

  #isCrossed() {
    const [bid] = this.#bids.levels;
    const [ask] = this.#asks.levels;
    return Boolean(bid && ask) && compareCanonical(bid.key, ask.key) >= 0;
  }
}

/** One side: levels sorted best first, found by the value of their price. */
class Side {
  #isBefore;

  constructor(order) {
    this.#isBefore = (left, right) => order(left, right) < 0;
    this.levels = [];
  }

  clear() {
    this.levels = []; // a new list: who drew the old one keeps it whole
  }

  set(price, size) {
    const key = canonical(price);
    const isDeletion = canonical(size) === "0";
    const index = this.#find(key);
    const isKnown = this.levels[index]?.key === key;
    if (isDeletion) {
      if (isKnown) this.levels.splice(index, 1);
    } else {
      this.levels.splice(index, isKnown ? 1 : 0, { price, size, key });
    }
  }

  /** The index of the first level that does not come before `key`. */
  #find(key) {
    let low = 0;
    let high = this.levels.length;
    // Snapshots come sorted, so most keys belong at the end.
    if (high && this.#isBefore(this.levels[high - 1].key, key)) return high;
    while (low < high) {
      const half = (low + high) >> 1;
      if (this.#isBefore(this.levels[half].key, key)) low = half + 1;
      else high = half;
    }
    return low;
  }
}
