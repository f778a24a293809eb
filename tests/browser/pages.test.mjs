import assert from "node:assert/strict";
import { test } from "node:test";

import { Meter, Rate } from "../../relay/static/relay/meter.js";
import { chosenTopics, freshness, tabulated, topicRow, totals } from "../../relay/static/relay/picture.js";
import { CHANGE, FIELDS } from "../../relay/static/relay/demo/strip.js";

const NOW = 1_700_000_000_000;

function topic(name, subscribers, category = "linear") {
  const rates = { messages_per_second: 12.5, deliveries_per_second: 40 };
  return { category, topic: name, state: "live", subscribers, ...rates, age_ms: 30 };
}

test("topics with most subscribers come first, ties by name", () => {
  const topics = [topic("b", 1), topic("c", 5), topic("a", 1), topic("a", 1, "inverse")];
  const names = chosenTopics(topics, "").map(({ category, topic: name }) => `${category}:${name}`);
  assert.deepEqual(names, ["linear:c", "inverse:a", "linear:a", "linear:b"]);
});

test("the filter wants every word, in any letters", () => {
  const topics = [topic("orderbook.50.BTCUSDT", 1), topic("tickers.BTCUSDT", 1, "spot")];
  assert.deepEqual(chosenTopics(topics, " btc SPOT ").map(({ topic: name }) => name), ["tickers.BTCUSDT"]);
});

test("totals are sums over the topics", () => {
  const picture = { topics: [topic("a", 2), topic("b", 3)], processes: [{}], upstream: {} };
  assert.deepEqual(totals(picture).map(([, text]) => text), ["2", "5", "25/s", "80/s", "1"]);
});

test("a topic's missing numbers are shown as missing", () => {
  assert.deepEqual(topicRow({ category: "spot", topic: "x", state: "stale", age_ms: null }).slice(3), ["–", "–", "–", "–"]);
});

test("unknown keys become columns, lists and objects do not", () => {
  const { columns, rows } = tabulated(
    [{ name: "web-1", pid: 4321, since: NOW - 5_000, lagging: true, topics: ["a"], queue_ms: 12 }, { name: "web-2", clients: 3 }],
    NOW,
  );
  assert.deepEqual(columns.map(({ heading }) => heading), ["Name", "Pid", "Since", "Lagging", "Queue", "Clients"]);
  assert.deepEqual(rows, [
    ["web-1", "4321", "5.0 s ago", "yes", "12 ms", "–"],
    ["web-2", "–", "–", "–", "–", "3"],
  ]);
});

test("numbers are called old when answers stop, and when they stop changing", () => {
  const fresh = { receivedAt: NOW, changedAt: NOW, fault: null };
  assert.equal(freshness(fresh, NOW + 1_000).age, "fresh");
  assert.equal(freshness(fresh, NOW + 6_000).words, "These numbers are 6.0 s old");
  assert.equal(freshness({ ...fresh, changedAt: NOW - 60_000 }, NOW).age, "old");
  const failing = { receivedAt: null, changedAt: null, fault: "the server answered 500" };
  assert.deepEqual(freshness(failing, NOW), { age: "old", words: "No numbers yet: the server answered 500" });
});

test("a meter gives the middle of the last seconds and then nothing", () => {
  const meter = new Meter(1_000);
  for (const [index, value] of [5, 900, 7].entries()) meter.add(value, NOW + index);
  assert.equal(meter.median(NOW + 10), 7);
  assert.equal(meter.median(NOW + 5_000), null);
});

test("a rate is per second and starts over with a new count", () => {
  const rate = new Rate();
  assert.deepEqual([rate.look(10, NOW), rate.look(30, NOW + 2_000), rate.look(0, NOW + 3_000)], [null, 10, null]);
});

test("every field of every category survives an empty and a hostile ticker", () => {
  const hostile = new Proxy({}, { get: () => "<img src=x onerror=alert(1)>" });
  for (const [category, fields] of Object.entries(FIELDS)) {
    for (const { label, write } of [...fields, { label: "change", write: CHANGE[category] }]) {
      for (const data of [{}, hostile]) {
        const written = write(data, NOW);
        assert.equal(typeof (written.text ?? written), "string", `${category} ${label}`);
      }
    }
  }
});
