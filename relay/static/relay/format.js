/** How numbers are written on the pages: pure functions on decimal text, no floats in prices. */

import { approximate, canonical, rounded, shifted } from "./decimals.js";

/** Shown where there is no value. */
export const NOTHING = "–";

const MINUS = "−"; // as wide as "+", unlike a hyphen
const EXACT = 12; // characters that a quantity may take as it is
/** @type {[string, number][]} */
const UNITS = [
  ["T", 1e12],
  ["B", 1e9],
  ["M", 1e6],
  ["K", 1e3],
];

/**
 * Group the thousands: "80682.00" gives "80,682.00". Text that is not a decimal comes back as it is.
 *
 * @param {string} text
 * @param {number} [digits] at least so many behind the point, so that a column is straight
 */
export function grouped(text, digits = 0) {
  if (!isDecimal(text)) return text;
  const isNegative = text.startsWith("-");
  const [whole, fraction = ""] = text.replace(/^[+-]/, "").split(".");
  const thousands = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  const padded = fraction.padEnd(digits, "0");
  return (isNegative ? MINUS : "") + thousands + (padded ? `.${padded}` : "");
}

/**
 * A fraction as percents with a sign: "0.0125" gives "+1.25%".
 *
 * @param {string} text
 * @param {number} [digits] behind the point: fewer are filled with zeros
 * @param {number} [most] digits behind the point; what has more is rounded
 */
export function percent(text, digits = 2, most = digits) {
  if (!isDecimal(text)) return NOTHING;
  const value = rounded(shifted(text, 2), most);
  const isZero = canonical(value) === "0";
  const sign = isZero || value.startsWith("-") ? "" : "+";
  return `${sign}${grouped(isZero ? value.replace("-", "") : value, digits)}%`;
}

/**
 * A quantity short enough for a small field: a large one in four figures with a unit, which says
 * that it is rounded ("1234567.8" gives "1.235 M"); any other as it is, unless that is too long.
 */
export function compact(text) {
  if (!isDecimal(text)) return NOTHING;
  const value = approximate(text);
  for (const [unit, size] of UNITS) {
    const share = value / size;
    if (Math.abs(share) >= 1e4) return `${grouped(share.toFixed(0))} ${unit}`;
    if (Math.abs(share) >= 1) return `${share.toPrecision(4)} ${unit}`;
  }
  const whole = grouped(text);
  if (whole.length <= EXACT) return whole;
  const leading = Math.abs(value) < 1 && value !== 0 ? Math.ceil(-Math.log10(Math.abs(value))) - 1 : 0;
  return grouped(rounded(text, leading + 4));
}

/** `grouped` where that takes no more than so many characters, else `compact`: never cut off. */
export function fitted(text, digits, room) {
  const whole = grouped(text, digits);
  if (whole.length <= room) return whole;
  const unpadded = grouped(text);
  return unpadded.length <= room ? unpadded : compact(text);
}

/** The time of day of a Unix time in ms, in the reader's zone: "14:03:59". */
export function timeOfDay(at) {
  const time = new Date(at);
  if (Number.isNaN(time.getTime())) return NOTHING;
  return [time.getHours(), time.getMinutes(), time.getSeconds()]
    .map((part) => String(part).padStart(2, "0"))
    .join(":");
}

/** A span as hours, minutes and seconds: 3_723_000 gives "01:02:03"; never negative. */
export function countdown(milliseconds) {
  if (!Number.isFinite(milliseconds)) return NOTHING;
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  return [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60]
    .map((part) => String(part).padStart(2, "0"))
    .join(":");
}

/** How long something takes or is ago, short: "12 ms", "3.4 s", "5 min", "2 h". */
export function span(milliseconds) {
  if (!Number.isFinite(milliseconds)) return NOTHING;
  if (milliseconds < 1_000) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 10_000) return `${(milliseconds / 1_000).toFixed(1)} s`;
  if (milliseconds < 120_000) return `${Math.round(milliseconds / 1_000)} s`;
  if (milliseconds < 7_200_000) return `${Math.round(milliseconds / 60_000)} min`;
  return `${Math.round(milliseconds / 3_600_000)} h`;
}

/** A quantity of bytes in four figures or fewer: 1_231_000 gives "1.23 MB". */
export function bytes(count) {
  if (!Number.isFinite(count)) return NOTHING;
  if (count < 1_000) return `${Math.round(count)} B`;
  if (count < 999_500) return `${(count / 1e3).toPrecision(3)} kB`;
  if (count < 999_500_000) return `${(count / 1e6).toPrecision(3)} MB`;
  return `${(count / 1e9).toPrecision(3)} GB`;
}

function isDecimal(text) {
  return typeof text === "string" && /^[+-]?(\d+\.?\d*|\.\d+)$/.test(text);
}
