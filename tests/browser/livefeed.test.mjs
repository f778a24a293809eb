import assert from "node:assert/strict";
import { test } from "node:test";

import { LiveFeed } from "../../relay/static/relay/live/feed.js";
import { Stage } from "./fixtures.mjs";

/** A feed on a stage where `live.json` answers what `answer` says. */
function opened({ isHidden = () => false } = {}) {
  const stage = new Stage();
  const asked = [];
  const answers = { status: 200, now: () => picture(stage.time) };
  const fetch = async (url) => {
    asked.push(url.search);
    const { status, now } = answers;
    if (status === 0) throw new TypeError("cannot be reached");
    return { status, ok: status === 200, json: async () => now() };
  };
  const feed = new LiveFeed({
    socketUrl: "ws://relay.test/ws",
    jsonUrl: "http://relay.test/live.json",
    isHidden,
    environment: { ...stage.environment, fetch },
  });
  feed.start();
  return { stage, feed, asked, answers };
}

const picture = (at, more = {}) => ({ generated_at: new Date(at).toISOString(), ...more });
const settled = () => new Promise((resolve) => setImmediate(resolve));

test("a socket that opens is asked at once, and what it pushes is the picture", () => {
  const { stage, feed, asked } = opened();
  feed.ask({ search: "btc" });
  stage.socket.open();
  assert.deepEqual(stage.socket.sent, [{ topics: { search: "btc" } }]);
  stage.socket.receive(picture(stage.time));
  assert.deepEqual([feed.by, feed.reason, feed.receivedAt], ["socket", null, stage.time]);
  feed.ask({ search: "eth" });
  assert.deepEqual(stage.socket.sent.at(-1), { topics: { search: "eth" } });
  stage.advance(4_000);
  assert.deepEqual(asked, []);
});

test("while the socket is away the page asks each second, with the same question", async () => {
  const { stage, feed, asked } = opened();
  feed.ask({ search: "btc", category: "", offset: 0 });
  stage.socket.end(1006);
  await settled();
  assert.deepEqual([feed.by, feed.reason], ["polling", "the live socket was closed (1006)"]);
  assert.ok(feed.retryAt > stage.time);
  stage.advance(1_000);
  await settled();
  assert.deepEqual(asked.slice(0, 2), ["?search=btc&offset=0&history=yes", "?search=btc&offset=0"]);
});

test("asking goes on until a socket pushes again", async () => {
  const { stage, feed, asked } = opened();
  stage.socket.end(1006);
  await settled();
  const before = asked.length;
  stage.advance(1_000);
  await settled();
  assert.ok(asked.length > before);
  assert.equal(stage.sockets.length, 2);
  stage.socket.open();
  stage.socket.receive(picture(stage.time));
  assert.equal(feed.by, "socket");
  const until = asked.length;
  stage.advance(3_000);
  await settled();
  assert.equal(asked.length, until);
});

test("a socket that opens and says nothing is given up", async () => {
  const { stage, feed } = opened();
  stage.socket.open();
  stage.socket.receive(picture(stage.time));
  stage.advance(5_001);
  await settled();
  assert.equal(stage.sockets[0].isClosed, true);
  assert.deepEqual([feed.by, feed.reason], ["polling", "the live socket fell silent"]);
});

test("a socket that is refused for good is not tried again, and the words say why", async () => {
  const { stage, feed, answers } = opened();
  answers.status = 403;
  stage.socket.open();
  stage.socket.end(4001);
  await settled();
  assert.equal(feed.fault, "you are no longer signed in, or lack the permission");
  assert.equal(feed.retryAt, null);
  stage.advance(60_000);
  assert.equal(stage.sockets.length, 1);
});

test("whoever signs in again gets the socket back", async () => {
  const { stage, feed, answers } = opened();
  answers.status = 403;
  stage.socket.end(4001);
  await settled();
  answers.status = 200;
  stage.advance(1_000);
  await settled();
  assert.equal(feed.fault, null);
  assert.equal(stage.sockets.length, 2);
});

test("an answer that a later question has overtaken is dropped", async () => {
  const { stage, feed, answers } = opened();
  stage.socket.end(1006);
  await settled();
  answers.now = () => picture(stage.time, { which: "late" });
  feed.ask({ search: "a" });
  answers.now = () => picture(stage.time, { which: "last" });
  feed.ask({ search: "b" });
  const shown = [];
  feed.addEventListener("picture", () => shown.push(feed.picture.which));
  await settled();
  assert.deepEqual(shown, ["last"]);
});

test("a server that cannot be reached is said, and is asked again", async () => {
  const { stage, feed, asked, answers } = opened();
  answers.status = 0;
  stage.socket.end(1006);
  await settled();
  assert.equal(feed.fault, "cannot be reached");
  assert.equal(feed.by, null);
  const before = asked.length;
  stage.advance(1_000);
  assert.ok(asked.length > before);
});

test("a hidden page asks for nothing until somebody looks", async () => {
  let isHidden = true;
  const { stage, feed, asked } = opened({ isHidden: () => isHidden });
  stage.socket.end(4003);
  stage.advance(10_000);
  await settled();
  assert.deepEqual(asked, []);
  isHidden = false;
  feed.look();
  await settled();
  assert.equal(feed.by, "polling");
});

test("a closed feed neither asks nor connects", async () => {
  const { stage, feed, asked } = opened();
  feed.close();
  stage.advance(60_000);
  await settled();
  assert.deepEqual([asked.length, stage.sockets.length, stage.sockets[0].isClosed], [0, 1, true]);
});

test("a push that cannot be read is no picture", () => {
  const { stage, feed } = opened();
  stage.socket.open();
  stage.socket.receive("{");
  assert.equal(feed.picture, null);
});
