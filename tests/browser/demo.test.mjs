import assert from "node:assert/strict";
import { test } from "node:test";

import { examples } from "../../relay/static/relay/demo/examples.js";
import { Tick, depthColumns, emptiness, isMultiple, rowsOf, steps } from "../../relay/static/relay/demo/grouping.js";
import { PriceHistory, exchangeCandles } from "../../relay/static/relay/demo/history.js";
import { fromAddress, kindOf, resolved, toAddress, unitsOf } from "../../relay/static/relay/demo/market.js";

const levels = (...pairs) => pairs.map(([price, size]) => ({ price, size }));
const BIDS = levels(["100.90", "1"], ["100.40", "2.5"], ["99.90", "1"], ["99.80", "4"]);
const ASKS = levels(["101.00", "1"], ["101.10", "2"], ["102.00", "3"], ["102.10", "1"]);
const rows = (side, options) =>
  rowsOf(side, { step: null, isBid: false, count: 10, isWhole: true, ...options })
    .map(({ price, size, total, isPartial }) => [price, size, total, isPartial]);

test("the tick is what every price seen is a multiple of", () => {
  const tickOf = (...prices) => {
    const tick = new Tick();
    for (const price of prices) tick.see(price);
    return tick.text;
  };
  assert.equal(tickOf(...[...BIDS, ...ASKS].map(({ price }) => price)), "0.1");
  assert.equal(tickOf("8205", "8270", "8280"), "5");
  assert.equal(tickOf("0.0000001", "0.0000004"), "0.0000001");
  assert.equal(tickOf("100", "200"), "100");
  assert.equal(tickOf("1"), null);
  assert.equal(tickOf("1.0", "1"), null);
  assert.equal(tickOf(), null);
});

test("the tick becomes smaller with a price that asks for it, and never larger", () => {
  const tick = new Tick();
  const seen = ["80671.80", "80672.00", "80671.90", "80672", "80671.85"].map((price) => {
    tick.see(price);
    return tick.text;
  });
  assert.deepEqual(seen, [null, "0.2", "0.1", "0.1", "0.05"]);
  assert.ok(isMultiple("0.2", "0.10") && !isMultiple("0.1", "0.2"));
});

test("a depth chart that has nothing to draw says why", () => {
  const one = levels(["1", "1"]);
  assert.match(emptiness({ bids: one, asks: one }, 1), /choose more levels/);
  assert.match(emptiness({ bids: one, asks: one }, 50), /one level a side/);
  assert.equal(emptiness({ bids: [], asks: [] }, 50), "The book is empty");
  assert.equal(emptiness({ bids: BIDS, asks: [] }, 50), "");
  assert.equal(emptiness(undefined, 50), "");
});

test("the steps begin with the tick", () => {
  assert.deepEqual(steps("0.10"), ["0.1", "0.2", "0.5", "1", "2", "5", "10", "20", "50", "100"]);
});

test("without a step every level is a row, with the exact running sum", () => {
  assert.deepEqual(rows(levels(["1.1", "0.1"], ["1.2", "0.2"])), [
    ["1.1", "0.1", "0.1", false],
    ["1.2", "0.2", "0.3", false],
  ]);
});

test("a bid belongs to the step below it and an ask to the step above", () => {
  assert.deepEqual(rows(BIDS, { step: "1", isBid: true }), [
    ["100.00", "3.5", "3.5", false],
    ["99.00", "5.0", "8.5", false],
  ]);
  assert.deepEqual(rows(ASKS, { step: "1" }), [
    ["101.00", "1", "1", false],
    ["102.00", "5", "6", false],
    ["103.00", "1", "7", false],
  ]);
});

test("the last step of a book cut short is known in part alone", () => {
  assert.deepEqual(rows(ASKS, { step: "1", isWhole: false }).map((row) => row[3]), [false, false, true]);
  assert.deepEqual(rows(ASKS, { step: "1", isWhole: false, count: 2 }).map((row) => row[3]), [false, false]);
  assert.deepEqual(rows(ASKS, { isWhole: false }).map((row) => row[3]), [false, false, false, false]);
});

test("prices finer than a float are joined exactly", () => {
  const fine = levels(["9007199254740993.1", "1"], ["9007199254740993.3", "1"], ["9007199254740993.6", "1"]);
  assert.deepEqual(rows(fine, { step: "0.5" }).map((row) => row[0]), ["9007199254740993.5", "9007199254740994.0"]);
});

test("the depth of a book rises from the middle to both ends", () => {
  assert.deepEqual(depthColumns({ bids: BIDS.slice(0, 2), asks: ASKS.slice(0, 2) }), [
    [100.4, 100.9, 101, 101.1],
    [3.5, 1, null, null],
    [null, null, 1, 3],
  ]);
});

const trade = (i, T, p, v = "1", S = "Buy") => ({ i: String(i), T, p, v, S });

test("trades of a second make a candle, and a second without one is flat", () => {
  const history = new PriceHistory();
  history.add([trade(1, 10_000, "5"), trade(2, 10_900, "7", "2", "Sell"), trade(3, 12_000, "6")]);
  assert.deepEqual(
    history.candles(1, 10).map(({ at, open, high, low, close, buys, sells }) => [at, open, high, low, close, buys, sells]),
    [[10, 5, 7, 5, 7, 1, 2], [11, 7, 7, 7, 7, 0, 0], [12, 6, 6, 6, 6, 1, 0]],
  );
});

test("a candle has its prices as the exchange wrote them", () => {
  const history = new PriceHistory();
  history.add([trade(1, 10_000, "80671.90"), trade(2, 10_900, "80672.00"), trade(3, 11_000, "80671.50")]);
  history.add([trade(4, 13_000, "80671.7")]);
  const texts = { open: "80671.90", high: "80672.00", low: "80671.50", close: "80671.50" };
  const flat = Object.fromEntries(Object.keys(texts).map((key) => [key, "80671.50"]));
  const last = Object.fromEntries(Object.keys(texts).map((key) => [key, "80671.7"]));
  assert.deepEqual(history.candles(2, 10).map((candle) => candle.texts), [texts, last]);
  assert.deepEqual(history.candles(1, 10).map((candle) => candle.texts).slice(1), [flat, flat, last]);
});

test("candles of several seconds join them, the newest ones alone", () => {
  const history = new PriceHistory();
  for (let second = 0; second < 30; second += 1) history.add([trade(second, second * 1_000, String(second))]);
  const candles = history.candles(5, 3).map(({ at, open, close }) => [at, open, close]);
  assert.deepEqual(candles, [[15, 15, 19], [20, 20, 24], [25, 25, 29]]);
});

test("a repeated greeting counts nothing twice and is no hole", () => {
  const history = new PriceHistory();
  history.add([trade(1, 1_000, "5"), trade(2, 1_000, "5")]);
  history.interrupt();
  history.add([trade(2, 1_000, "5"), trade(3, 3_000, "6")]);
  assert.deepEqual(history.candles(1, 10).map(({ close, buys }) => [close, buys]), [[5, 2], [5, 0], [6, 1]]);
});

test("what may be missing is not drawn as if nothing had traded", () => {
  const history = new PriceHistory();
  history.add([trade(1, 1_000, "5")]);
  history.interrupt();
  history.add([trade(9, 4_000, "8")]);
  assert.deepEqual(history.candles(1, 10).map(({ close }) => close), [5, null, null, 8]);
});

test("the exchange's candles stand where they began, and a missing one is null", () => {
  const row = (start, close) => ({ start, open: "1.0", high: "9", low: "0.5", close, volume: "7" });
  const rows = [row(240_000, "4"), row(120_000, "2"), row(60_000, "1.50")];
  const candles = exchangeCandles(rows, 60, 3);
  assert.deepEqual(candles.map(({ at, close }) => [at, close]), [[120, 2], [180, null], [240, 4]]);
  assert.deepEqual(candles[0].texts, { open: "1.0", high: "9", low: "0.5", close: "2" });
  assert.deepEqual([candles[0].buys + candles[0].sells, candles[1].texts], [7, null]);
  assert.deepEqual(exchangeCandles([], 60, 3), []);
});

const MARKETS = {
  linear: { depths: [1, 50, 200], depth: 200, symbols: ["BTCUSDT"] },
  option: { depths: [25, 100], depth: 100, symbols: [] },
};

test("an address names a market, and nonsense is the standard one", () => {
  const read = (query) => fromAddress(new URLSearchParams(query), MARKETS);
  const standard = { category: "linear", symbol: "BTCUSDT", depth: 200, step: null };
  assert.deepEqual(read(""), standard);
  assert.deepEqual(read("category=__proto__&depth=7"), standard);
  const chosen = { category: "option", symbol: "BTC-25JUN27-80000-C", depth: 25, step: "10" };
  assert.deepEqual(read(toAddress(chosen)), chosen);
  assert.equal(read("category=option").symbol, "");
  for (const step of ["0", "-1", "1e3", "<img>", "NaN"]) assert.equal(read(`step=${step}`).step, null);
});

test("what a visitor types is completed to a symbol", () => {
  const known = { spot: ["BTCUSDT", "ETHUSDT"], linear: ["BTCUSDT", "ETHUSDT", "BTCPERP"], inverse: ["BTCUSD"], option: ["BTC-25JUN27-80000-C-USDT"] };
  const read = (category, ...texts) => texts.map((text) => resolved(text, category, known[category]));
  assert.deepEqual(read("linear", "eth", " btcusdt ", "btcp", "btc", "BTCUSD"), ["ETHUSDT", "BTCUSDT", "BTCPERP", "BTCUSDT", "BTCUSDT"]);
  assert.deepEqual(read("linear", "ada", "1000pepe", "usdc", "wbtc"), ["ADAUSDT", "1000PEPEUSDT", "USDCUSDT", "WBTCUSDT"]);
  assert.deepEqual(read("spot", "ethbtc", "solusdc", "btceur"), ["ETHBTC", "SOLUSDC", "BTCEUR"]);
  assert.deepEqual(read("linear", "BTC-26JUN26", "btcusdz26"), ["BTC-26JUN26", "BTCUSDZ26"]);
  assert.deepEqual(read("inverse", "btc", "sol", "btcusdz26"), ["BTCUSD", "SOLUSD", "BTCUSDZ26"]);
  assert.deepEqual(read("option", "btc", "BTC-25JUN27-80000-C", "eth"), ["BTC-25JUN27-80000-C-USDT", "BTC-25JUN27-80000-C", "ETH"]);
  assert.equal(resolved("  ", "linear", known.linear), "");
});

test("units and kinds come from the symbol", () => {
  const units = (category, symbol) => Object.values(unitsOf({ category, symbol })).join(" ");
  assert.equal(units("linear", "BTCUSDT"), "USDT BTC USDT");
  assert.equal(units("linear", "BTCPERP"), "USDC BTC USDC");
  assert.equal(units("linear", "BTC-26JUN26"), "  ");
  assert.equal(units("spot", "ETHBTC"), "BTC ETH BTC");
  assert.equal(units("inverse", "BTCUSD"), "USD USD BTC");
  assert.equal(units("inverse", "BTCUSDZ26"), "USD USD BTC");
  assert.equal(units("option", "BTC-25JUN27-80000-C-USDT"), "USDT BTC USDT");
  assert.equal(units("linear", "<img src=x>"), "  ");
  assert.equal(kindOf({ category: "inverse", symbol: "BTCUSDZ26" }), "Inverse future");
  assert.equal(kindOf({ category: "linear", symbol: "BTCUSDT" }), "Linear perpetual");
});

test("a symbol of any spelling of the exchange is in the texts to paste", () => {
  for (const symbol of ["XRP-30OCT26-0.4-P-USDT", "SOLUSDT_SOL/USDT"]) {
    const market = { category: "option", symbol, depth: 25 };
    for (const { name, text } of examples(market, { host: "relay.test", isSecure: true })) {
      assert.ok(name === "curl" || text.includes(symbol), text);
    }
  }
});

test("a symbol out of an address never reaches a text to paste into a terminal", () => {
  const hostile = { category: "linear", symbol: "'; RM -RF ~; '", depth: 50 };
  for (const { text } of examples(hostile, { host: "relay.test", isSecure: true })) {
    assert.ok(!text.includes("RM -RF"), text);
  }
});
