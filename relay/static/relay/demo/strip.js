/**
 * The ticker strip: which of Bybit's ticker keys a category has, and how each is written.
 *
 * A field is `{label, write, of}`; `write(data, now)` gives the text, or `{text, tone, exact}` with a
 * tone of "up" or "down", and the exchange's own number where the text abbreviates it; `of` is which
 * of `unitsOf` a quantity counts.
 */

import { canonical } from "../decimals.js";
import { NOTHING, compact, countdown, grouped, percent } from "../format.js";

const MOST_DIGITS = 12; // behind the point of a percentage: more than the exchange sends

const price = (key) => (data) => (data[key] ? grouped(data[key]) : NOTHING);
const quantity = (key) => (data) => ({ text: compact(data[key]), exact: data[key] });

function share(key, digits = 2) {
  return (data) => {
    const text = percent(data[key], digits);
    return { text, exact: percent(data[key], digits, MOST_DIGITS), tone: text.startsWith("+") ? "up" : text.startsWith("−") ? "down" : null };
  };
}

const FUNDING = [
  // A dated future has none.
  { label: "Funding", write: (data) => (data.fundingRate ? percent(data.fundingRate, 4, MOST_DIGITS) : NOTHING) },
  {
    label: "Funding in",
    write: ({ nextFundingTime }, now) =>
      nextFundingTime ? countdown(Number(nextFundingTime) - now) : NOTHING,
  },
];

function greek(key) {
  return (data) => {
    try {
      return canonical(data[key]).replace("-", "−");
    } catch {
      return NOTHING;
    }
  };
}

const DAY = [
  { label: "24h high", write: price("highPrice24h") },
  { label: "24h low", write: price("lowPrice24h") },
  { label: "24h volume", write: quantity("volume24h"), of: "size" },
  { label: "24h turnover", write: quantity("turnover24h"), of: "turnover" },
];
const DERIVATIVE = [
  { label: "Mark", write: price("markPrice") },
  { label: "Index", write: price("indexPrice") },
  ...FUNDING,
  ...DAY,
  { label: "Open interest", write: quantity("openInterest"), of: "size" },
];

/** The change of a day; it stands next to the last price. */
export const CHANGE = Object.freeze({
  spot: share("price24hPcnt"),
  linear: share("price24hPcnt"),
  inverse: share("price24hPcnt"),
  option: share("change24h"),
});

/** The other fields of each category, in order. */
export const FIELDS = Object.freeze({
  spot: DAY,
  linear: DERIVATIVE,
  inverse: DERIVATIVE,
  option: [
    { label: "Mark", write: price("markPrice") },
    { label: "Underlying", write: price("underlyingPrice") },
    { label: "Implied volatility", write: (data) => percent(data.markPriceIv, 2, MOST_DIGITS).replace("+", "") },
    { label: "Delta", write: greek("delta") },
    { label: "Open interest", write: quantity("openInterest"), of: "size" },
    { label: "24h volume", write: quantity("volume24h"), of: "size" },
  ],
});
