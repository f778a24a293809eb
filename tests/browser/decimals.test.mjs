import assert from "node:assert/strict";
import { test } from "node:test";

import {
  NotADecimal,
  add,
  canonical,
  compare,
  isZero,
  middle,
  shifted,
  subtract,
} from "../../relay/static/relay/decimals.js";

test("equal values have one canonical text", () => {
  for (const [text, expected] of [
    ["80682.00", "80682"],
    ["080682", "80682"],
    ["0.10", "0.1"],
    [".5", "0.5"],
    ["5.", "5"],
    ["+1", "1"],
    ["-0.0", "0"],
    ["-0.50", "-0.5"],
    ["100", "100"],
  ]) {
    assert.equal(canonical(text), expected, text);
  }
});

test("what is not a plain decimal is refused", () => {
  for (const text of ["", ".", "-", "1e5", "NaN", "Infinity", "1,000", " 1", "0x10", null, 5, undefined]) {
    assert.throws(() => canonical(text), NotADecimal, String(text));
  }
});

test("comparison is by value and not by text", () => {
  const rising = ["-100", "-9.5", "-0.1", "0", "0.09", "0.1", "0.11", "9.45", "9.5", "10", "99.95", "100"];
  for (const [index, left] of rising.entries()) {
    for (const [other, right] of rising.entries()) {
      assert.equal(Math.sign(compare(left, right)), Math.sign(index - other), `${left} and ${right}`);
    }
  }
});

test("comparison agrees with whole numbers on a thousand seeded pairs", () => {
  let seed = 7;
  const random = (below) => {
    seed = (seed * 48271) % 2147483647;
    return seed % below;
  };
  for (let round = 0; round < 1000; round += 1) {
    const left = random(100_000) - 50_000;
    const right = random(3) === 0 ? left : random(100_000) - 50_000;
    const places = random(4);
    const compared = compare(shifted(String(left), -places), `${shifted(String(right), -places)}`);
    assert.equal(Math.sign(compared), Math.sign(left - right), `${left} ${right} ${places}`);
  }
});

test("sums and differences are exact where floats are not", () => {
  assert.equal(add("0.1", "0.2"), "0.3");
  assert.equal(add("9007199254740993", "0.01"), "9007199254740993.01");
  assert.equal(subtract("80683.00", "80682.5"), "0.50");
  assert.equal(subtract("1", "1.005"), "-0.005");
});

test("the middle takes one more digit only where it needs it", () => {
  assert.equal(middle("10.05", "10.07"), "10.06");
  assert.equal(middle("10.05", "10.06"), "10.055");
  assert.equal(middle("1", "2"), "1.5");
});

test("zero is zero however written", () => {
  assert.deepEqual(["0", "0.000", "-0", "0.001"].map(isZero), [true, true, true, false]);
});

test("shifting moves the point", () => {
  assert.equal(shifted("0.0125", 2), "1.25");
  assert.equal(shifted("1.5", 3), "1500");
  assert.equal(shifted("5", -3), "0.005");
});
