// relay/static/relay/pacer.js: requests wait for their turn, each once.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Pacer } from "../../relay/static/relay/pacer.js";

const request = (id, method = "subscribe", symbol = "BTCUSDT") => ({
  method,
  topic: "tickers",
  symbol,
  id,
});

test("what is asked for again and again waits once, so that the queue has a bound", () => {
  const pacer = new Pacer();
  pacer.reset(0);
  for (let id = 0; id < 60; id += 1) pacer.add(request(id, "subscribe", `X${id}`));
  assert.equal(pacer.take(0).ready.length, 60);
  for (let id = 100; id < 1_000; id += 2) {
    pacer.add(request(id, "unsubscribe"));
    pacer.add(request(id + 1));
  }
  pacer.add(request(1_000, "subscribe", "ETHUSDT"));
  const { ready } = pacer.take(10_000);
  assert.deepEqual(ready, [
    request(998, "unsubscribe"),
    request(999),
    request(1_000, "subscribe", "ETHUSDT"),
  ]);
});
