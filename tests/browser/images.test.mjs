import assert from "node:assert/strict";
import { test } from "node:test";

import { OrderBook } from "../../relay/static/relay/book.js";
import { Candles } from "../../relay/static/relay/candles.js";
import { Tape } from "../../relay/static/relay/tape.js";
import { Ticker } from "../../relay/static/relay/ticker.js";
import { book as bookMessage, cases, trades } from "./fixtures.mjs";

const pairs = (levels) => levels.map(({ price, size }) => [price, size]);

for (const [name, fixture] of cases("books")) {
  test(`book: ${name}`, () => {
    const depth = Number(fixture.topic.split(".")[1]);
    const book = new OrderBook({ depth });
    const outcomes = fixture.messages.map((message) => book.apply(message));
    assert.deepEqual(outcomes, fixture.outcomes);
    const { updateId: u, sequence: seq, ts, cts } = book;
    const state = { b: pairs(book.bids), a: pairs(book.asks), u, seq, ts, cts };
    assert.deepEqual(book.isLive ? state : null, fixture.expected);
  });
}

for (const [name, fixture] of cases("tickers")) {
  test(`ticker: ${name}`, () => {
    const ticker = new Ticker();
    const outcomes = fixture.messages.map((message) => ticker.apply(message));
    assert.deepEqual(outcomes, fixture.outcomes);
    assert.deepEqual({ data: ticker.data, ts: ticker.ts, cs: ticker.sequence }, fixture.expected);
  });
}

test("deltas of depth 1, as sent until 2025, are not counted either", () => {
  const best = new OrderBook({ depth: 1 });
  best.apply(bookMessage("snapshot", 700));
  assert.equal(best.apply(bookMessage("delta", 704, { b: [["10.05", "2"]], a: [] })), "applied");
  assert.deepEqual([pairs(best.bids), best.isLive], [[["10.05", "2"]], true]);
});

test("a book message of another shape leaves no right book", () => {
  for (const data of [{}, { b: [], a: [["x", "1"]], u: 5001 }, { b: [["1", null]], a: [], u: 5001 }]) {
    const book = new OrderBook({ depth: 50 });
    book.apply(bookMessage("snapshot", 5000));
    assert.throws(() => book.apply({ type: "snapshot", data }));
    assert.equal(book.isLive, false);
  }
});

test("a thousand seeded deltas give the book that a plain map gives", () => {
  let seed = 11;
  const random = (below) => {
    seed = (seed * 48271) % 2147483647;
    return seed % below;
  };
  const reference = { b: new Map(), a: new Map() };
  const side = (name, low) => {
    const changes = [];
    for (let count = random(4); count >= 0; count -= 1) {
      const ticks = low + random(40);
      const size = random(3) === 0 ? 0 : 1 + random(9);
      if (size) reference[name].set(ticks, String(size));
      else reference[name].delete(ticks);
      changes.push([(ticks / 100).toFixed(2), String(size)]);
    }
    return changes;
  };
  const book = new OrderBook({ depth: 50 });
  book.apply(bookMessage("snapshot", 2, { b: [], a: [] }));
  for (let u = 3; u < 1003; u += 1) {
    const outcome = book.apply(bookMessage("delta", u, { b: side("b", 960), a: side("a", 1000) }));
    assert.equal(outcome, "applied");
    const sorted = (name, sign) =>
      [...reference[name]].sort(([left], [right]) => sign * (left - right))
        .map(([ticks, size]) => [(ticks / 100).toFixed(2), size]);
    assert.deepEqual(pairs(book.bids), sorted("b", -1));
    assert.deepEqual(pairs(book.asks), sorted("a", 1));
  }
});

const ids = (tape) => tape.rows.map((row) => ("missing" in row ? `missing ${row.missing}` : row.i));

test("trades are shown newest first and each once", () => {
  const tape = new Tape();
  tape.apply(trades(1, 2));
  tape.apply(trades(2, 3));
  assert.deepEqual(ids(tape), ["3", "2", "1"]);
});

test("the tape keeps so many rows and no more", () => {
  const tape = new Tape({ length: 3 });
  tape.apply(trades(1, 2, 3, 4, 5));
  assert.deepEqual(ids(tape), ["5", "4", "3"]);
});

test("trades that the relay dropped are a row of the tape", () => {
  const tape = new Tape();
  tape.apply(trades(1));
  tape.miss(12);
  tape.miss(3);
  tape.apply(trades(20));
  assert.deepEqual(ids(tape), ["20", "missing 15", "1"]);
});

test("a greeting that overlaps closes the hole of a reconnect", () => {
  const tape = new Tape();
  tape.apply(trades(1, 2));
  tape.interrupt();
  tape.apply(trades(1, 2, 3));
  assert.deepEqual(ids(tape), ["3", "2", "1"]);
});

test("a greeting that does not overlap shows that some are missing", () => {
  const tape = new Tape();
  tape.apply(trades(1, 2));
  tape.interrupt();
  tape.apply(trades(8, 9));
  assert.deepEqual(ids(tape), ["9", "8", "missing null", "2", "1"]);
});

test("a candle replaces the one with its start, also after the next has begun", () => {
  const candles = new Candles({ length: 3 });
  const tell = (...data) => candles.apply({ topic: "kline.1.XYZUSDT", type: "snapshot", ts: 5, data });
  const row = (start, close, confirm = false) => ({ start, close, confirm });
  assert.deepEqual([candles.rows, candles.isLive], [[], false]);
  assert.equal(tell(row(60, "1")), "applied");
  tell(row(60, "2"));
  tell(row(120, "3"));
  tell(row(60, "2.5", true));
  assert.deepEqual(candles.rows, [row(120, "3"), row(60, "2.5", true)]);
  tell(row(120, "3", true), row(180, "4"));
  tell(row(240, "5"));
  assert.deepEqual(candles.rows.map(({ start }) => start), [240, 180, 120]);
  assert.equal(candles.isLive, true);
  candles.interrupt();
  assert.deepEqual([candles.isLive, candles.rows.length], [false, 3]);
});
