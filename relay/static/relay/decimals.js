/**
 * Decimal strings, exactly: "80682" and "80682.00" are one price, and a float is a wrong price.
 *
 * Everything takes and returns plain decimal text such as "-0.05"; no exponents, no NaN.
 * Numbers (floats) leave this module only through `approximate`, for lengths on a screen.
 */

const PLAIN = /^([+-]?)(\d*)(?:\.(\d*))?$/;

/** Thrown for text that is not a plain decimal. */
export class NotADecimal extends Error {
  constructor(text) {
    super(`expected a decimal, received ${JSON.stringify(text)}`);
    this.name = "NotADecimal";
  }
}

/**
 * Return the one way to write this value: equal decimals have equal canonical texts.
 *
 * @param {string} text such as "080682.00"
 * @returns {string} such as "80682"
 * @throws {NotADecimal}
 */
export function canonical(text) {
  const match = typeof text === "string" ? PLAIN.exec(text) : null;
  if (match === null || !(match[2] || match[3])) throw new NotADecimal(text);
  const whole = match[2].replace(/^0+/, "") || "0";
  const fraction = (match[3] ?? "").replace(/0+$/, "");
  const digits = fraction ? `${whole}.${fraction}` : whole;
  return match[1] === "-" && digits !== "0" ? `-${digits}` : digits;
}

/** Compare two canonical texts by value: negative, zero or positive, as sorting wants it. */
export function compareCanonical(left, right) {
  if (left === right) return 0;
  const isLeftNegative = left[0] === "-";
  if (isLeftNegative !== (right[0] === "-")) return isLeftNegative ? -1 : 1;
  const difference = compareMagnitudes(left, right);
  return isLeftNegative ? -difference : difference;
}

/** Compare two decimal texts by value. */
export function compare(left, right) {
  return compareCanonical(canonical(left), canonical(right));
}

/** Whether the value is zero, however it is written. */
export function isZero(text) {
  return canonical(text) === "0";
}

/** The exact sum, written with the longer of both fractions. */
export function add(left, right) {
  const scale = Math.max(fractionDigits(left), fractionDigits(right));
  return written(units(left, scale) + units(right, scale), scale);
}

/** The exact difference, written with the longer of both fractions. */
export function subtract(left, right) {
  const scale = Math.max(fractionDigits(left), fractionDigits(right));
  return written(units(left, scale) - units(right, scale), scale);
}

/** The exact middle of two values, with one more digit only where it is needed. */
export function middle(left, right) {
  const scale = Math.max(fractionDigits(left), fractionDigits(right));
  const sum = units(left, scale) + units(right, scale);
  return sum % 2n === 0n ? written(sum / 2n, scale) : written(sum * 5n, scale + 1);
}

/** The value times ten to the power `places`, exactly: `shifted("0.0125", 2)` is "1.25". */
export function shifted(text, places) {
  const scale = fractionDigits(text);
  const value = units(text, scale);
  return places <= scale
    ? written(value, scale - places)
    : written(value * 10n ** BigInt(places - scale), 0);
}

/** The value with at most so many digits behind the point; a half goes away from zero. */
export function rounded(text, digits) {
  const scale = fractionDigits(text);
  if (scale <= digits) return text;
  const width = 10n ** BigInt(scale - digits);
  const value = units(text, scale);
  const half = value < 0n ? -width / 2n : width / 2n;
  return written((value + half) / width, digits);
}

/** How many digits stand behind the point. */
export function fractionDigits(text) {
  const point = text.indexOf(".");
  return point < 0 ? 0 : text.length - point - 1;
}

/** A float near the value: for lengths and colours, never for a price. */
export function approximate(text) {
  return Number(canonical(text));
}

function compareMagnitudes(left, right) {
  const from = left[0] === "-" ? 1 : 0; // both have the same sign here
  const difference = wholeDigits(left) - wholeDigits(right);
  if (difference !== 0) return difference;
  // Equally long whole parts: text order is value order, as "." sorts before the digits.
  return left.slice(from) < right.slice(from) ? -1 : 1;
}

function wholeDigits(text) {
  const point = text.indexOf(".");
  return point < 0 ? text.length : point;
}

/** The value in units of ten to the power `-scale`, as a BigInt; `scale` covers its fraction. */
export function units(text, scale) {
  const plain = canonical(text);
  const missing = scale - fractionDigits(plain);
  return BigInt(plain.replace(".", "") + "0".repeat(missing));
}

/** Units as decimal text with `scale` digits behind the point: the inverse of `units`. */
export function written(value, scale) {
  const sign = value < 0n ? "-" : "";
  const digits = (value < 0n ? -value : value).toString().padStart(scale + 1, "0");
  if (scale === 0) return sign + digits;
  return `${sign}${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
}
