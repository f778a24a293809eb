/** The order book as a ladder: steps of price, running sums as bars, changes that flash. */

import { approximate, compare, fractionDigits, middle, subtract } from "../decimals.js";
import { NOTHING, fitted, grouped } from "../format.js";
import { byId, mark, put } from "./dom.js";
import { rowsOf, trimmed } from "./grouping.js";
import { Rows, heading } from "./rows.js";

const FLASH = 350; // ms a change stays lit

const COLUMNS = ["Price", "Size", "Total"];

/** Both sides and what stands between them. */
export class Ladder {
  #asks = new Rows(byId("asks"), COLUMNS);
  #bids = new Rows(byId("bids"), COLUMNS);
  #known = { asks: new Map(), bids: new Map() }; // price -> size as drawn last
  #lit = { asks: new Map(), bids: new Map() }; // price -> {tone, until}
  #mid = { value: null, tone: null };
  #page = {
    mid: byId("mid"),
    spread: byId("spread"),
    share: byId("spread-share"),
    balance: byId("balance"),
    bought: byId("bought"),
    sold: byId("sold"),
  };

  /** The elements whose size decides how many rows there are. */
  get elements() {
    return [this.#asks.element, this.#bids.element];
  }

  /** Keep as many rows as there is room for, equally many on both sides. */
  fit() {
    const count = Math.min(this.#asks.room(), this.#bids.room());
    this.#asks.resize(count);
    this.#bids.resize(count);
  }

  /** Begin another market: nothing has changed yet, and the headings say its units. */
  reset({ price, size }) {
    for (const rows of [this.#asks, this.#bids]) {
      rows.name([heading("Price", price), heading("Size", size), heading("Total", size)]);
    }
    this.forget();
    this.#mid = { value: null, tone: null };
  }

  /** Let nothing flash at the next drawing: it is not a change of the market. */
  forget() {
    for (const side of ["asks", "bids"]) {
      this.#known[side].clear();
      this.#lit[side].clear();
    }
  }

  /**
   * Draw a book.
   *
   * @param {object|undefined} image an `OrderBook`
   * @param {{step: string|null, digits: {price: number, size: number}, depth: number, tick: string|null}} view
   *   `digits.price` covers every price of the book; `digits.size` grows here with what is seen, so
   *   that columns stay straight
   * @param {number} now Unix ms
   * @returns {number|null} ms after which to draw again because a flash ends
   */
  draw(image, { step, digits, depth, tick }, now) {
    const sides = [
      { name: "asks", rows: this.#asks, levels: image?.asks ?? [], isBid: false, shown: [], sum: 0 },
      { name: "bids", rows: this.#bids, levels: image?.bids ?? [], isBid: true, shown: [], sum: 0 },
    ];
    let deepest = 0;
    for (const side of sides) {
      const { rows, levels, isBid } = side;
      const isWhole = levels.length < depth;
      side.shown = rowsOf(levels, { step, isBid, count: rows.count, isWhole });
      if (side.shown.length) digits.size = Math.max(digits.size, fractionDigits(side.shown[0].size));
      side.sum = side.shown.length ? approximate(side.shown.at(-1).total) : 0;
      deepest = Math.max(deepest, side.sum);
    }
    const priceDigits = step === null ? digits.price : fractionDigits(step);
    const longest = Math.max(0, ...sides.map(({ shown }) => lengthOf(shown[0], priceDigits)));
    for (const side of sides) {
      side.rows.divide(longest);
      this.#light(side, now);
      this.#drawSide(side, deepest, priceDigits, digits.size);
    }
    // A mid may need the digit of half a tick, and shows it always, so as not to jump.
    const midDigits = tick === null ? 0 : fractionDigits(trimmed(tick)) + 1;
    this.#drawMiddle(image, digits.price, Math.max(digits.price, midDigits));
    this.#drawBalance(sides[1].sum, sides[0].sum);
    return this.#nextChange(now);
  }

  #drawSide({ name, rows, shown, isBid }, deepest, priceDigits, sizeDigits) {
    const lit = this.#lit[name];
    for (let index = 0; index < rows.count; index += 1) {
      const row = shown[isBid ? index : rows.count - 1 - index]; // best prices meet in the middle
      if (row === undefined) {
        rows.clear(index);
        continue;
      }
      const { price, size, total, isPartial } = row;
      const sizes = [size, total].map((one) => fitted(one, sizeDigits, rows.sizeRoom - (isPartial ? 2 : 0)));
      rows.write(index, [cut(price, priceDigits), ...sizes]);
      rows.fill(index, deepest > 0 ? approximate(total) / deepest : 0);
      rows.mark(index, isPartial ? "partial" : null);
      rows.flash(index, lit.get(price)?.tone ?? null);
    }
  }

  /** Note which sizes differ from those drawn last; a price that comes into view is not a change. */
  #light({ name, shown }, now) {
    const lit = this.#lit[name];
    const before = this.#known[name];
    const after = new Map();
    for (const [price, { until }] of lit) if (until <= now) lit.delete(price);
    for (const { price, size } of shown) {
      const old = before.get(price);
      if (old !== undefined && old !== size) {
        lit.set(price, { tone: compare(size, old) > 0 ? "up" : "down", until: now + FLASH });
      }
      after.set(price, size);
    }
    this.#known[name] = after;
  }

  #nextChange(now) {
    let soonest = Infinity;
    for (const lit of Object.values(this.#lit)) {
      for (const { until } of lit.values()) soonest = Math.min(soonest, until);
    }
    return soonest === Infinity ? null : Math.max(1, soonest - now);
  }

  #drawMiddle(image, digits, midDigits) {
    const page = this.#page;
    const bid = image?.bids[0];
    const ask = image?.asks[0];
    if (!bid || !ask) {
      for (const element of [page.mid, page.spread]) put(element, NOTHING);
      put(page.share, "");
      mark(page.mid, "tone", null);
      return;
    }
    const mid = middle(ask.price, bid.price);
    const spread = subtract(ask.price, bid.price);
    const basisPoints = (approximate(spread) / approximate(mid)) * 10_000;
    if (this.#mid.value !== null && mid !== this.#mid.value) {
      const rise = compare(mid, this.#mid.value);
      if (rise !== 0) this.#mid.tone = rise > 0 ? "up" : "down";
    }
    this.#mid.value = mid;
    put(page.mid, grouped(mid, midDigits));
    const best = `Middle of the best bid ${grouped(bid.price)} and the best ask ${grouped(ask.price)}`;
    if (page.mid.title !== best) page.mid.title = best;
    mark(page.mid, "tone", this.#mid.tone);
    put(page.spread, grouped(spread, digits));
    put(page.share, Number.isFinite(basisPoints) ? `${basisPoints.toFixed(2)} bp` : "");
  }

  #drawBalance(bought, sold) {
    const page = this.#page;
    const all = bought + sold;
    const share = all > 0 ? (bought / all) * 100 : 50;
    page.balance.style.setProperty("--share", `${share.toFixed(1)}%`);
    put(page.bought, all > 0 ? `${share.toFixed(0)}%` : NOTHING);
    put(page.sold, all > 0 ? `${(100 - Number(share.toFixed(0))).toFixed(0)}%` : NOTHING);
  }
}

function lengthOf(row, digits) {
  return row === undefined ? 0 : cut(row.price, digits).length;
}

/** A price with so many digits behind the point: zeros beyond them are left out, and no other. */
function cut(price, digits) {
  const surplus = fractionDigits(price) - digits;
  const hasZeros = surplus > 0 && /^0+$/.test(price.slice(-surplus));
  return grouped(hasZeros ? price.slice(0, -surplus).replace(/\.$/, "") : price, digits);
}
