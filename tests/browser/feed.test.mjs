import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { delay } from "../../relay/static/relay/backoff.js";
import * as module from "../../relay/static/relay/marketfeed.js";
import { Stage, book, trades } from "./fixtures.mjs";

const { MarketFeed } = module;

const BOOK = { topic: "orderbook", symbol: "XYZUSDT", levels: 50 };
const TRADES = { topic: "publicTrade", symbol: "XYZUSDT" };

function connected(...requests) {
  const stage = new Stage();
  const feed = new MarketFeed({ url: "http://relay.test/ws", environment: stage.environment });
  const subscriptions = requests.map((request) => feed.subscribe(request));
  stage.socket.open();
  stage.socket.receive({ method: "pong" });
  return { stage, feed, subscriptions, subscription: subscriptions[0] };
}

test("the address follows the page's scheme and names the category", () => {
  const stage = new Stage();
  const feed = new MarketFeed({
    category: "spot",
    url: "https://relay.test/ws",
    environment: stage.environment,
  });
  feed.connect();
  assert.equal(stage.socket.url, "wss://relay.test/ws?category=spot");
});

test("the first subscribe connects, and asks in the native dialect once open", () => {
  const stage = new Stage();
  const feed = new MarketFeed({ url: "ws://relay.test/ws", environment: stage.environment });
  assert.equal(feed.state, "closed");
  const subscription = feed.subscribe(BOOK);
  assert.equal(feed.state, "connecting");
  assert.deepEqual(stage.socket.sent, []);
  stage.socket.open();
  assert.equal(feed.state, "connecting"); // it may still be refused
  stage.socket.receive({ method: "pong" });
  assert.equal(feed.state, "live");
  assert.equal(subscription.state, "waiting");
  assert.deepEqual(stage.socket.requests, [
    { method: "subscribe", topic: "orderbook", symbol: "XYZUSDT", levels: 50, id: 1 },
  ]);
});

test("a page that is refused is never live, and is told why in words", () => {
  const refusals = [
    [4003, { code: "foreign_origin", message: "this origin may not connect" }, "closed", "this origin may not connect"],
    [4003, null, "closed", "this origin may not connect (4003)"],
    [4004, null, "closed", "the relay has no such path: its socket is at /ws (4004)"],
    [4100, null, "reconnecting", "the relay is full (4100)"],
    [4999, null, "reconnecting", "connection lost (4999)"],
  ];
  for (const [code, bye, state, reason] of refusals) {
    const stage = new Stage();
    const feed = new MarketFeed({ url: "http://relay.test/ws", environment: stage.environment });
    const states = [];
    feed.addEventListener("state", () => states.push(feed.state));
    feed.subscribe(BOOK);
    stage.socket.open();
    if (bye) stage.socket.receive({ type: "bye", ...bye });
    stage.socket.end(code);
    assert.deepEqual([states, feed.reason], [["connecting", state], reason]);
  }
});

test("a relay without the exchange is stale from the first word on", () => {
  const stage = new Stage();
  const feed = new MarketFeed({ url: "http://relay.test/ws", environment: stage.environment });
  const states = [];
  feed.addEventListener("state", () => states.push(feed.state));
  feed.subscribe(BOOK);
  stage.socket.open();
  stage.socket.receive({ type: "status", category: "linear", upstream: "down", since: 1 });
  stage.socket.receive({ method: "pong" });
  assert.deepEqual(states, ["connecting", "stale"]);
  assert.equal(feed.reason, "the relay is not connected to the exchange"); // it may never have been
  stage.socket.receive({ type: "status", category: "linear", upstream: "live", since: 2 });
  assert.deepEqual([feed.state, feed.reason], ["live", null]);
  stage.socket.receive({ type: "status", category: "linear", upstream: "down", since: 3 });
  assert.equal(feed.reason, "the relay has lost the exchange");
});

test("a snapshot makes a topic live and its listener hears every message", () => {
  const { stage, feed } = connected(BOOK);
  const heard = [];
  const subscription = feed.subscribe(BOOK, (_, message) => heard.push(message?.data.u ?? null));
  stage.socket.receive(book("snapshot", 10));
  stage.socket.receive(book("delta", 11, { b: [["10.05", "0"], ["10.06", "2"]], a: [] }));
  assert.deepEqual(heard, [10, 11]);
  assert.equal(subscription.state, "live");
  assert.equal(subscription.image.bids[0].price, "10.06");
});

test("candles are asked for by interval and are live with their first message", () => {
  const { stage, subscription } = connected({ topic: "kline", symbol: "XYZUSDT", interval: 5 });
  const [{ topic, symbol, interval, levels }] = stage.socket.requests;
  assert.deepEqual([topic, symbol, interval, levels], ["kline", "XYZUSDT", "5", undefined]);
  assert.equal(subscription.topic, "kline.5.XYZUSDT");
  stage.socket.receive({ method: "subscribe", success: true, id: 1 });
  assert.equal(subscription.state, "waiting");
  const data = [{ start: 300_000, close: "1", confirm: false }];
  stage.socket.receive({ topic: "kline.5.XYZUSDT", data, ts: 1, type: "snapshot" });
  assert.deepEqual([subscription.state, subscription.image.rows], ["live", data]);
});

test("two holders share one subscription, and the last to leave ends it", () => {
  const { stage, feed, subscription } = connected(BOOK);
  const other = feed.subscribe(BOOK);
  assert.equal(stage.socket.requests.length, 1);
  subscription.close();
  subscription.close();
  assert.equal(stage.socket.requests.length, 1);
  assert.equal(other.state, "waiting");
  other.close();
  const { method, topic, levels } = stage.socket.requests[1];
  assert.deepEqual([method, topic, levels], ["unsubscribe", "orderbook", 50]);
  stage.socket.receive(book("snapshot", 10)); // still on its way: nobody minds
  assert.equal(feed.counts.messages, 0);
});

test("a gap makes one topic stale and asks for its snapshot again", () => {
  const { stage, feed, subscriptions } = connected(BOOK, TRADES);
  const [orders, tape] = subscriptions;
  stage.socket.receive(book("snapshot", 10));
  stage.socket.receive(trades(1));
  stage.socket.receive(book("delta", 12));
  assert.equal(orders.state, "stale");
  assert.equal(tape.state, "live");
  assert.equal(feed.state, "live");
  stage.advance(0);
  const methods = stage.socket.requests.slice(2).map(({ method, topic }) => `${method} ${topic}`);
  assert.deepEqual(methods, ["unsubscribe orderbook", "subscribe orderbook"]);
  stage.socket.receive(book("delta", 13));
  assert.equal(orders.state, "stale");
  stage.socket.receive(book("snapshot", 13));
  assert.equal(orders.state, "live");
  assert.deepEqual([feed.counts.gaps, feed.counts.resyncs], [1, 1]);
});

test("a book that is crossed for a moment is right again when it has healed", () => {
  const { stage, feed, subscription } = connected(BOOK);
  stage.socket.receive(book("snapshot", 10));
  const [ask] = subscription.image.asks;
  for (let u = 11; u < 31; u += 2) {
    stage.socket.receive(book("delta", u, { b: [[ask.price, "1"]], a: [] }));
    assert.equal(subscription.state, "stale");
    stage.advance(100);
    stage.socket.receive(book("delta", u + 1, { b: [[ask.price, "0"]], a: [] }));
    assert.equal(subscription.state, "live");
    stage.advance(1_000);
    stage.socket.receive({ method: "pong" });
  }
  assert.deepEqual([feed.counts.gaps, feed.counts.resyncs], [0, 0]);
  assert.ok(stage.socket.requests.every(({ method }) => method !== "unsubscribe"));
});

test("a book that stays crossed is asked for again", () => {
  const { stage, feed, subscription } = connected(BOOK);
  stage.socket.receive(book("snapshot", 10));
  const [ask] = subscription.image.asks;
  stage.socket.receive(book("delta", 11, { b: [[ask.price, "1"]], a: [] }));
  stage.advance(1_000);
  assert.deepEqual(
    stage.socket.requests.map(({ method }) => method),
    ["subscribe", "unsubscribe", "subscribe"],
  );
  assert.deepEqual([feed.counts.gaps, subscription.state], [1, "stale"]);
});

test("a snapshot in the midst of a book counts as a resync, and as a gap where it jumps", () => {
  const { stage, feed, subscription } = connected(BOOK);
  const counted = () => [feed.counts.gaps, feed.counts.resyncs];
  stage.socket.receive(book("snapshot", 10));
  assert.deepEqual(counted(), [0, 0]);
  stage.socket.receive(book("snapshot", 11));
  assert.deepEqual(counted(), [0, 1]);
  stage.socket.receive(book("snapshot", 20));
  assert.deepEqual(counted(), [1, 2]);
  stage.socket.receive(book("snapshot", 1)); // the exchange began anew: nothing was missed
  assert.deepEqual(counted(), [1, 2]);
  assert.equal(subscription.state, "live");
});

test("a feed that is disconnected on purpose waits for connect and knows its topics", () => {
  const { stage, feed, subscription } = connected(BOOK);
  stage.socket.receive(book("snapshot", 10));
  feed.disconnect();
  assert.deepEqual([feed.state, feed.reason, subscription.state], ["closed", "paused", "stale"]);
  assert.deepEqual([stage.timers.size, stage.socket.isClosed], [0, true]);
  feed.connect();
  stage.socket.open();
  assert.deepEqual(stage.socket.requests.map(({ topic }) => topic), ["orderbook"]);
  stage.socket.receive(book("snapshot", 90));
  assert.deepEqual([feed.state, feed.reason, subscription.state], ["live", null, "live"]);
});

test("a topic that was given up is not resynchronised", () => {
  const { stage, subscription } = connected(BOOK);
  stage.socket.receive(book("snapshot", 10));
  stage.socket.receive(book("delta", 12));
  subscription.close();
  stage.advance(1_000);
  assert.deepEqual(stage.socket.requests.map(({ method }) => method), ["subscribe", "unsubscribe"]);
});

test("a topic that is never right does not resynchronise in a loop", () => {
  const { stage, feed } = connected(BOOK);
  for (let second = 0; second < 60; second += 1) {
    stage.socket.receive(book("snapshot", 10, { b: [["11", "1"]], a: [["10", "1"]] }));
    stage.socket.receive({ method: "pong" });
    stage.advance(1_000);
  }
  assert.ok(feed.counts.resyncs >= 1 && feed.counts.resyncs <= 8, String(feed.counts.resyncs));
});

test("a message that cannot be read counts as a message that is missing", () => {
  const { stage, feed, subscription } = connected(BOOK);
  stage.socket.receive(book("snapshot", 10));
  stage.socket.receive(book("delta", 11, { b: [["<img>", "1"]], a: [] }));
  stage.socket.receive("not JSON");
  assert.equal(subscription.state, "stale");
  assert.equal(feed.counts.unreadable, 2);
});

test("the relay's loss of the exchange makes everything stale until it is back", () => {
  const { stage, feed, subscriptions } = connected(BOOK, TRADES);
  const [orders, tape] = subscriptions;
  stage.socket.receive(book("snapshot", 10));
  stage.socket.receive(trades(1));
  const status = { type: "status", category: "linear", since: 1_700_000_000_000 };
  stage.socket.receive({ ...status, upstream: "down" });
  assert.deepEqual([feed.state, orders.state, tape.state], ["stale", "stale", "stale"]);
  stage.socket.receive({ ...status, upstream: "live" });
  assert.deepEqual([feed.state, orders.state, tape.state], ["live", "stale", "live"]);
  stage.socket.receive(book("snapshot", 90));
  assert.equal(orders.state, "live");
});

test("a status of another category changes nothing", () => {
  const { stage, feed } = connected(BOOK);
  stage.socket.receive({ type: "status", category: "spot", upstream: "down", since: 1 });
  assert.equal(feed.state, "live");
});

test("after a loss it reconnects, subscribes again and trusts only the new snapshot", () => {
  const { stage, feed, subscription } = connected(BOOK);
  stage.socket.receive(book("snapshot", 10));
  stage.socket.end(1006);
  assert.equal(feed.state, "reconnecting");
  assert.equal(subscription.state, "stale");
  assert.equal(feed.retryAt, stage.time + 375);
  stage.advance(375);
  assert.equal(stage.sockets.length, 2);
  stage.socket.open();
  assert.equal(feed.state, "reconnecting");
  stage.socket.receive({ method: "pong" });
  assert.deepEqual([feed.state, feed.reason], ["live", null]);
  assert.equal(stage.socket.requests[0].method, "subscribe");
  stage.socket.receive(book("delta", 11));
  assert.equal(subscription.state, "stale");
  stage.socket.receive(book("snapshot", 11));
  assert.equal(subscription.state, "live");
});

test("failures grow the pause, and a connection that held resets it", () => {
  const { stage, feed } = connected(BOOK);
  const pauses = [];
  const fail = () => {
    stage.socket.end(1006);
    pauses.push(feed.retryAt - stage.time);
    stage.advance(feed.retryAt - stage.time);
  };
  for (let attempt = 0; attempt < 8; attempt += 1) fail();
  assert.deepEqual(pauses, [375, 750, 1500, 3000, 6000, 6000, 6000, 6000]);
  stage.socket.open();
  stage.advance(5_000);
  stage.socket.receive({ method: "pong" });
  fail();
  assert.equal(pauses.at(-1), 375);
});

test("codes 4000 to 4099 end it, with the relay's words", () => {
  const { stage, feed, subscription } = connected(BOOK);
  stage.socket.receive({ type: "bye", code: "forbidden", message: "foreign origin" });
  stage.socket.end(4003);
  assert.deepEqual([feed.state, feed.reason, subscription.state], ["closed", "foreign origin", "waiting"]);
  stage.advance(3_600_000);
  assert.equal(stage.sockets.length, 1);
  feed.connect();
  assert.equal(stage.sockets.length, 2);
});

test("codes 4100 to 4199 wait for seconds, 4200 to 4299 hardly at all", () => {
  assert.equal(delay(4100, 0, 0), 4_000);
  assert.ok(delay(4199, 0, 0.99) < 8_000);
  assert.ok(delay(4200, 0, 0.99) < 250);
  assert.ok(delay(4299, 3, 0) >= 2_000, "a relay that keeps closing is not hammered");
  assert.ok(delay(1006, 99, 0.999999) <= 8_000);
  assert.ok(delay(4100, 99, 0) >= 15_000);
  assert.deepEqual([4000, 4099].map((code) => delay(code, 0, 0)), [null, null]);
});

test("a relay that does not answer the ping is given up", () => {
  const { stage, feed } = connected(BOOK);
  stage.socket.receive({ method: "pong" });
  const first = stage.socket;
  stage.advance(5_000); // the next ping
  stage.advance(4_999);
  assert.deepEqual([feed.state, first.isClosed], ["stale", false]);
  stage.advance(1);
  assert.deepEqual([feed.state, first.isClosed], ["reconnecting", true]);
  first.end(1006); // the browser notices at last: nothing changes
  stage.advance(400);
  assert.equal(stage.sockets.length, 2);
});

test("a relay that falls silent is stale within 3 s and goes on where it stopped", () => {
  const { stage, feed, subscriptions } = connected(BOOK, TRADES);
  const [orders, tape] = subscriptions;
  stage.socket.receive(book("snapshot", 10));
  stage.advance(2_199);
  assert.deepEqual([feed.state, orders.state, feed.isSilent], ["live", "live", false]);
  stage.advance(1);
  assert.deepEqual([feed.state, orders.state, feed.isSilent], ["stale", "stale", true]);
  assert.deepEqual([feed.reason, tape.state], ["the relay does not answer", "waiting"]);
  stage.socket.receive({ method: "pong" });
  assert.deepEqual([feed.state, orders.state, feed.isSilent], ["live", "live", false]);
  assert.deepEqual([feed.reason, tape.state], [null, "waiting"]);
  stage.socket.receive(book("delta", 11));
  assert.deepEqual([orders.state, feed.counts.gaps, stage.sockets.length], ["live", 0, 1]);
});

test("a quiet relay that answers is live, and is asked no more than once a second", () => {
  const { stage, feed } = connected(BOOK);
  const isPing = ({ method }) => method === "ping";
  for (let tenth = 0; tenth < 300; tenth += 1) {
    const before = stage.socket.sent.length;
    stage.advance(100);
    const asked = stage.socket.sent.slice(before).filter(isPing);
    if (asked.length) stage.socket.receive({ method: "pong" });
    assert.equal(feed.state, "live");
  }
  const pings = stage.socket.sent.filter(isPing).length;
  assert.ok(pings >= 28 && pings <= 37, `${pings} pings in 30 s`);
});

test("what a silent relay said of the exchange holds when it speaks again", () => {
  const { stage, feed, subscription } = connected(BOOK);
  stage.socket.receive(book("snapshot", 10));
  stage.socket.receive({ type: "status", category: "linear", upstream: "down", since: 1 });
  stage.advance(3_000);
  assert.equal(feed.reason, "the relay does not answer");
  stage.socket.receive({ method: "pong" });
  assert.deepEqual([feed.state, feed.reason], ["stale", "the relay has lost the exchange"]);
  assert.equal(subscription.state, "stale");
});

test("a silent connection that breaks says so to the topics that were in doubt", () => {
  const { stage, feed } = connected(TRADES);
  const told = [];
  feed.subscribe(BOOK, ({ state }) => told.push([state, feed.isSilent]));
  stage.socket.receive(book("snapshot", 10));
  stage.advance(3_000);
  stage.socket.end(1006);
  assert.deepEqual(told, [["live", false], ["stale", true], ["stale", false]]);
  stage.advance(1_000);
  stage.socket.open();
  stage.socket.receive({ method: "pong" });
  assert.equal(told.length, 3); // only a snapshot makes it live again
});

test("data is as good a sign of life as a pong", () => {
  const { stage, feed } = connected(BOOK);
  for (let second = 0; second < 60; second += 1) {
    stage.socket.receive(book("snapshot", 10 + second));
    stage.advance(1_000);
  }
  assert.equal(feed.state, "live");
});

test("a refusal reaches the topic it is about, also after a success", () => {
  const { stage, subscriptions } = connected(BOOK, TRADES);
  const [orders, tape] = subscriptions;
  const error = { code: "refused_by_exchange", message: "error:handler not found" };
  const answer = { method: "subscribe", topic: "orderbook.50.XYZUSDT", id: 1 };
  stage.socket.receive({ ...answer, success: true });
  stage.socket.receive({ ...answer, success: false, error });
  assert.deepEqual([orders.state, orders.error, tape.state], ["refused", error, "waiting"]);
  stage.socket.end(1006);
  stage.advance(1_000);
  stage.socket.open();
  assert.deepEqual(stage.socket.requests.map(({ topic }) => topic), ["publicTrade"]);
});

test("a refusal of the moment is asked again", () => {
  const { stage, subscription } = connected(BOOK);
  const error = { code: "rate_limited", message: "too many requests" };
  stage.socket.receive({ method: "subscribe", success: false, id: 1, error });
  assert.equal(subscription.state, "waiting");
  stage.advance(2_000);
  assert.deepEqual(stage.socket.requests.map(({ id }) => id), [1, 2]);
});

test("a quiet trade topic is live with its ack", () => {
  const { stage, subscription } = connected(TRADES);
  stage.socket.receive({ method: "subscribe", success: true, id: 1, topic: "publicTrade.XYZUSDT" });
  assert.deepEqual([subscription.state, subscription.image.rows], ["live", []]);
});

test("trades the relay dropped become a row of the tape", () => {
  const { stage, subscription } = connected(TRADES);
  stage.socket.receive(trades(1));
  stage.socket.receive({ type: "gap", topic: "publicTrade.XYZUSDT", dropped: 12 });
  assert.deepEqual(subscription.image.rows[0], { missing: 12 });
});

test("two hundred topics are asked for no faster than the relay accepts", () => {
  const many = Array.from({ length: 200 }, (_, index) => ({ topic: "tickers", symbol: `S${index}` }));
  const { stage } = connected(...many);
  assert.equal(stage.socket.requests.length, 60);
  stage.advance(1_000);
  stage.socket.receive({ method: "pong" });
  assert.ok(stage.socket.requests.length <= 80);
  for (let second = 0; second < 14; second += 1) {
    stage.socket.receive({ method: "pong" });
    stage.advance(1_000);
  }
  assert.equal(new Set(stage.socket.requests.map(({ symbol }) => symbol)).size, 200);
});

test("closing forgets every topic, timer and socket", () => {
  const { stage, feed, subscription } = connected(BOOK);
  stage.socket.receive(book("snapshot", 10));
  feed.close();
  assert.deepEqual([feed.state, subscription.state, stage.socket.isClosed], ["closed", "closed", true]);
  assert.equal(stage.timers.size, 0);
});

test("an idle connection that the relay closes comes back with the next subscribe", () => {
  const { stage, feed, subscription } = connected(BOOK);
  subscription.close();
  stage.socket.end(4100);
  assert.deepEqual([feed.state, stage.timers.size], ["closed", 0]);
  feed.subscribe(TRADES);
  assert.equal(stage.sockets.length, 2);
});

test("the types declare what the module exports", () => {
  const types = new URL("../../relay/static/relay/marketfeed.d.ts", import.meta.url);
  const declared = readFileSync(types, "utf8").matchAll(/^export (?:class|const) (\w+)/gm);
  assert.deepEqual([...declared].map(([, name]) => name).sort(), Object.keys(module).sort());
});
