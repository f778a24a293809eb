import assert from "node:assert/strict";
import { test } from "node:test";

import { compact, countdown, fitted, grouped, percent, span } from "../../relay/static/relay/format.js";

test("thousands are grouped and columns padded without touching the value", () => {
  assert.equal(grouped("80682.00"), "80,682.00");
  assert.equal(grouped("1234567.891", 2), "1,234,567.891");
  assert.equal(grouped("999"), "999");
  assert.equal(grouped("1000", 2), "1,000.00");
  assert.equal(grouped("-1234.5"), "−1,234.5");
  assert.equal(grouped("9007199254740993.1"), "9,007,199,254,740,993.1");
});

test("what is no number is shown as it came", () => {
  assert.equal(grouped("<img src=x>"), "<img src=x>");
  assert.equal(percent("<img src=x>"), "–");
  assert.equal(compact(undefined), "–");
});

test("percents carry a sign, except zero", () => {
  assert.deepEqual(
    ["0.0125", "-0.0125", "0.0001", "0", "-0.000001", "0.123456"].map((text) => percent(text)),
    ["+1.25%", "−1.25%", "+0.01%", "0.00%", "0.00%", "+12.35%"],
  );
  assert.equal(percent("0.0001", 4), "+0.0100%");
  assert.equal(percent("0.00005461", 4, 12), "+0.005461%");
  assert.equal(percent("0.01005"), "+1.01%"); // which a float would round to 1.00
});

test("large quantities are short", () => {
  assert.deepEqual(["1234567.8", "52345678901"].map(compact), ["1.235 M", "52.35 B"]);
});

test("quantities that are not large are exact, unless they are too long", () => {
  const exact = ["999", "0.5", "0", "0.00004", "912.3456", "-912.3456"];
  assert.deepEqual(exact.map(compact), ["999", "0.5", "0", "0.00004", "912.3456", "−912.3456"]);
  assert.deepEqual(["0.000000123456", "912.3456789123"].map(compact), ["0.0000001235", "912.3457"]);
});

test("spans and countdowns", () => {
  assert.deepEqual([12, 3_400, 42_000, 300_000, NaN].map(span), ["12 ms", "3.4 s", "42 s", "5 min", "–"]);
  assert.deepEqual([3_723_000, -5, NaN].map(countdown), ["01:02:03", "00:00:00", "–"]);
});

test("a number that would be cut off is written short instead", () => {
  assert.equal(fitted("1234567.5", 3, 13), "1,234,567.500");
  assert.equal(fitted("1234567.5", 3, 12), "1,234,567.5");
  assert.equal(fitted("1234567.512", 3, 12), "1.235 M");
  assert.equal(fitted("25556230324712", 0, 12), "25.56 T");
  assert.equal(fitted("49380000000000000000", 0, 12), "49,380,000 T");
  assert.equal(fitted("0.00000012", 12, 12), "0.00000012");
});
