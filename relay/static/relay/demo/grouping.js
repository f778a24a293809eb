/**
 * Levels of a book joined into price steps, exactly: no float takes part.
 *
 * A bid belongs to the step below it and an ask to the step above, so that no step promises a
 * better price than the book has.
 */

import { fractionDigits, units, written } from "../decimals.js";

const MULTIPLES = [1n, 2n, 5n, 10n, 20n, 50n, 100n, 200n, 500n, 1_000n]; // of the tick

/**
 * The price step of a symbol: the largest number of which every price seen is a multiple.
 *
 * The first prices alone suggest too large a step, so it is never used to round a price: it only
 * decides which steps are offered, and it becomes smaller with each price that asks for it.
 */
export class Tick {
  #units = 0n;
  #scale = 0;
  #isCompared = false; // whether two prices that differ were seen

  /** The step as decimal text such as "0.1"; null before the second price. */
  text = null;

  /**
   * Take a price into account.
   *
   * @param {string} price decimal text
   * @throws {NotADecimal}
   */
  see(price) {
    const scale = Math.max(this.#scale, fractionDigits(price));
    const known = this.#units * 10n ** BigInt(scale - this.#scale);
    const seen = units(price, scale);
    this.#scale = scale;
    this.#units = commonDivisor(known, seen < 0n ? -seen : seen);
    const isSecond = !this.#isCompared && known !== 0n && seen !== known;
    this.#isCompared ||= isSecond;
    const isNews = isSecond || this.#units !== known;
    if (this.#isCompared && isNews) this.text = trimmed(written(this.#units, scale));
  }
}

/** Whether a value is a multiple of a step; both are decimal texts, the step above zero. */
export function isMultiple(value, step) {
  const scale = Math.max(fractionDigits(value), fractionDigits(step));
  return units(value, scale) % units(step, scale) === 0n;
}

/** The price steps to choose from, smallest (the tick) first, as decimal texts. */
export function steps(tick) {
  const scale = fractionDigits(tick);
  const smallest = units(tick, scale);
  return MULTIPLES.map((multiple) => trimmed(written(smallest * multiple, scale)));
}

/**
 * The first rows of one side, each `{price, size, total, isPartial}` in decimal text.
 *
 * @param {{price: string, size: string}[]} levels best first
 * @param {object} options
 * @param {string|null} options.step null: one row a level
 * @param {boolean} options.isBid which way prices are rounded
 * @param {number} options.count rows at most
 * @param {boolean} options.isWhole whether the book holds every level; else its last step may
 *   reach beyond it, and `isPartial` says so
 */
export function rowsOf(levels, { step, isBid, count, isWhole }) {
  const sizeScale = scaleOf(levels, "size");
  const scale = Math.max(scaleOf(levels, "price"), step === null ? 0 : fractionDigits(step));
  const width = step === null ? 1n : units(step, scale);
  const rows = [];
  let total = 0n;
  for (const { price, size } of levels) {
    const key = rounded(units(price, scale), width, isBid);
    const last = rows.at(-1);
    const amount = units(size, sizeScale);
    if (last !== undefined && last.key === key) {
      last.size += amount;
      last.total += amount;
    } else {
      if (rows.length === count) return rows.map((row) => finished(row, scale, sizeScale));
      rows.push({ key, size: amount, total: total + amount, isPartial: false });
    }
    total += amount;
  }
  if (!isWhole && width > 1n && rows.length) rows.at(-1).isPartial = true;
  return rows.map((row) => finished(row, scale, sizeScale));
}

/** Why a chart of this book's depth would show nothing, in words; "" where it shows something. */
export function emptiness(book, depth) {
  if (book === undefined) return "";
  const { bids, asks } = book;
  if (bids.length > 1 || asks.length > 1) return "";
  if (bids.length + asks.length === 0) return "The book is empty";
  return depth === 1
    ? "Best price is one level a side: choose more levels to see the depth"
    : "The book has one level a side: too little to draw";
}

/**
 * The running sums of both sides over the price, for a chart: floats, for a screen alone.
 *
 * @returns {[number[], (number|null)[], (number|null)[]]} prices rising, bids' sums, asks' sums
 */
export function depthColumns({ bids, asks }) {
  const below = running(bids).reverse();
  const above = running(asks);
  return [
    [...below, ...above].map(([price]) => price),
    [...below.map(([, total]) => total), ...above.map(() => null)],
    [...below.map(() => null), ...above.map(([, total]) => total)],
  ];
}

function running(levels) {
  let total = 0;
  return levels.map(({ price, size }) => {
    total += Number(size);
    return [Number(price), total];
  });
}

function finished({ key, size, total, isPartial }, scale, sizeScale) {
  return {
    price: written(key, scale),
    size: written(size, sizeScale),
    total: written(total, sizeScale),
    isPartial,
  };
}

/** @param {bigint} price @param {bigint} width @param {boolean} isDown */
function rounded(price, width, isDown) {
  const rest = ((price % width) + width) % width;
  if (rest === 0n) return price;
  return isDown ? price - rest : price - rest + width;
}

function scaleOf(levels, key) {
  let scale = 0;
  for (const level of levels) scale = Math.max(scale, fractionDigits(level[key]));
  return scale;
}

function commonDivisor(left, right) {
  while (right !== 0n) [left, right] = [right, left % right];
  return left;
}

/** The text without zeros that end its fraction. */
export function trimmed(text) {
  return text.includes(".") ? text.replace(/0+$/, "").replace(/\.$/, "") : text;
}
