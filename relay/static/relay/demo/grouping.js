/**
 * Levels of a book joined into price steps, exactly: no float takes part.
 *
 * A bid belongs to the step below it and an ask to the step above, so that no step promises a
 * better price than the book has.
 */

import { fractionDigits, units, written } from "../decimals.js";

const MULTIPLES = [1n, 2n, 5n, 10n, 20n, 50n, 100n, 200n, 500n, 1_000n]; // of the tick

/**
 * The price step of a symbol, as its book shows it: all prices are multiples of it.
 *
 * @param {{bids: object[], asks: object[]}} book levels best first
 * @returns {string|null} such as "0.10"; null with fewer than two levels
 */
export function tickOf({ bids, asks }) {
  const levels = [...bids, ...asks];
  if (levels.length < 2) return null;
  const scale = scaleOf(levels, "price");
  let step = 0n;
  const first = units(levels[0].price, scale);
  for (const { price } of levels) step = commonDivisor(step, distance(units(price, scale), first));
  return step === 0n ? null : written(step, scale);
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
  return levels.map(({ price, size }) => [Number(price), (total += Number(size))]);
}

function finished({ key, size, total, isPartial }, scale, sizeScale) {
  return {
    price: written(key, scale),
    size: written(size, sizeScale),
    total: written(total, sizeScale),
    isPartial,
  };
}

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

function distance(left, right) {
  return left > right ? left - right : right - left;
}

function commonDivisor(left, right) {
  while (right !== 0n) [left, right] = [right, left % right];
  return left;
}

/** The text without zeros that end its fraction. */
export function trimmed(text) {
  return text.includes(".") ? text.replace(/0+$/, "").replace(/\.$/, "") : text;
}
