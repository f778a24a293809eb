import assert from "node:assert/strict";
import { test } from "node:test";

import {
  CONNECTION_COLUMNS,
  EVENT_COLUMNS,
  FaultWatch,
  History,
  TILES,
  TOPIC_COLUMNS,
  allIsWell,
  categoryFacts,
  categoryState,
  clientConnections,
  faultsIn,
  freshness,
  noneOf,
  pageNumbers,
  queryOf,
  questionOf,
  sortedBy,
  sparkline,
  text,
  upstreamConnections,
  viewFrom,
} from "../../relay/static/relay/live/picture.js";

const NOW = 1_700_000_000_000;

/** A relay where all is well: one process, one worker, linear alone. */
function picture({ totals = {}, linear = {}, ...rest } = {}) {
  return {
    generated_at: new Date(NOW).toISOString(),
    totals: { clients: 2, topics: 3, lagging: 0, unsent: 0, redis_delay_ms: null, ...totals },
    upstream: {
      spot: { state: "idle", since: NOW, topics: 0, confirmed: 0, connections: [] },
      linear: {
        state: "live",
        since: NOW - 60_000,
        epoch: 7,
        worker: "up-1",
        standbys: [],
        topics: 3,
        confirmed: 3,
        messages_per_second: 12.5,
        connections: [connection(1, "live"), connection(2, "live")],
        ...linear,
      },
    },
    processes: [{ process: "p1", name: "web-1" }],
    workers: [{ process: "w1", name: "up-1", leads: ["linear"], stands_by: [] }],
    connections: [],
    events: [],
    ...rest,
  };
}

function connection(number, state, error = null) {
  return { number, state, since: NOW - 60_000, topics: 2, confirmed: state === "live" ? 2 : 0, error };
}

const wordsOf = (faults) => faults.map(({ words }) => words);

test("where nothing is wrong there is no fault, and the words say what runs", () => {
  assert.deepEqual(faultsIn(picture()), []);
  assert.equal(allIsWell(picture()), "All is well: linear live, 3 topics, 2 clients, none lags.");
  assert.equal(
    allIsWell(picture({ linear: { state: "idle" } })),
    "All is well: no client follows a topic now.",
  );
});

test("a lost exchange is said with its error and since when", () => {
  const connections = [connection(1, "down", "refused")];
  const [fault] = faultsIn(picture({ linear: { state: "down", connections } }));
  assert.equal(fault.words, "linear: the exchange is lost, 3 topics stand still");
  assert.deepEqual(
    [fault.level, fault.detail, fault.since],
    ["bad", "refused; it is tried again by itself", NOW - 60_000],
  );
});

test("what took the exchange from several categories is said once", () => {
  const connections = [connection(1, "down", "refused")];
  const before = picture({ linear: { state: "down", connections } });
  const { linear } = before.upstream;
  const upstream = { ...before.upstream, spot: { ...linear, since: NOW - 90_000, topics: 5 } };
  const [fault, ...others] = faultsIn({ ...before, upstream, workers: [{ ...before.workers[0], leads: ["linear", "spot"] }] });
  assert.equal(fault.words, "spot, linear: the exchange is lost, 8 topics stand still");
  assert.equal(fault.since, NOW - 90_000);
  assert.deepEqual(others, []);
});

test("while nobody knows whether exchange or worker failed, neither is blamed", () => {
  const [fault] = faultsIn(picture({ linear: { state: "down" } }));
  assert.equal(fault.words, "linear: nothing is known of the exchange, 3 topics stand still");
});

test("a process without Redis says so, and not that everybody else has failed", () => {
  const cutOff = picture({
    layer_down_since: NOW - 9_000,
    workers: [],
    linear: { state: "down", connections: [] },
    states: { stale: 3 },
  });
  const [fault, ...others] = faultsIn(cutOff);
  assert.deepEqual([fault.level, fault.words, fault.since], ["bad", "Redis cannot be reached", NOW - 9_000]);
  assert.match(fault.detail, /^3 topics of this process stand still/);
  assert.deepEqual(others, []);
  const redis = TILES.find(({ key }) => key === "redis_delay_ms");
  assert.deepEqual([redis.write(null, cutOff), redis.isFault(null, cutOff)], ["away", true]);
  assert.deepEqual([redis.write(null, picture()), redis.isFault(null, picture())], ["no Redis", false]);
});

test("a process that is cut off and has no reader does not say that nothing is followed", () => {
  const cutOff = picture({
    layer_down_since: NOW - 9_000,
    totals: { topics: 0, clients: 0 },
    workers: [],
    linear: { state: "idle", worker: "", topics: 0, confirmed: 0, connections: [] },
  });
  const [fault] = faultsIn(cutOff);
  assert.match(fault.detail, /^this process has no reader, and cannot see how many topics of the others stand still/);
  assert.match(noneOf("topics", cutOff), /cannot see/);
  assert.equal(noneOf("topics", picture()), "No client follows a topic now.");
  assert.match(noneOf("upstream", cutOff), /cannot see/);
  assert.match(noneOf("workers", cutOff), /cannot see/);
  assert.deepEqual(categoryFacts(cutOff.upstream.linear, cutOff).map(([, words]) => words), Array(4).fill("not known"));
  assert.equal(categoryState(cutOff.upstream.linear, cutOff, NOW), "not known");
  assert.equal(categoryState(picture().upstream.linear, picture(), NOW), "live for 60 s");
});

test("a worker that fell silent is said until another takes its place", () => {
  const silent = { at: NOW - 400_000, kind: "silent", category: "", topic: "", words: "no report any more of up-2" };
  const missing = [{ kind: "worker", name: "up-2", since: NOW - 400_000 }];
  const [fault, ...others] = faultsIn(picture({ missing, events: [{ ...silent, at: NOW - 1_000 }] }));
  assert.deepEqual(
    [fault.level, fault.words, fault.since, fault.isLasting],
    ["warn", "1 upstream worker is missing", NOW - 400_000, true],
  );
  assert.match(fault.detail, /^up-2 fell silent/);
  assert.deepEqual(others, []);
  assert.deepEqual(faultsIn(picture({ missing: [], events: [silent] })), []);
});

test("a category without a leader counts nothing, because nobody tells", () => {
  const { linear } = picture({ linear: { state: "down", worker: "", epoch: 7, topics: 0, confirmed: 0 } }).upstream;
  const facts = Object.fromEntries(categoryFacts(linear, picture()));
  assert.deepEqual([facts.Confirmed, facts.Leader, facts.Epoch], ["–", "none", "–"]);
});

test("a leader that is missing for a moment is not called missing since long ago", () => {
  const watch = new FaultWatch();
  const faults = faultsIn(picture({ workers: [] })); // the category's state is a minute old
  assert.deepEqual(watch.look(faults, NOW), []);
  assert.deepEqual(watch.look(faults, NOW + 4_000).map(({ since }) => since), [NOW]);
  const down = faultsIn(picture({ workers: [], linear: { state: "down", since: NOW - 500, connections: [] } }));
  assert.deepEqual(new FaultWatch().look(down, NOW).map(({ since }) => since), [NOW - 500]);
});

test("a lost part of the connections is said with what it carries", () => {
  const connections = [connection(1, "live"), connection(2, "down", "no pong")];
  const [fault] = faultsIn(picture({ linear: { connections } }));
  assert.equal(fault.words, "linear: 1 of 2 connections down, 2 topics stand still");
});

test("a category that is wanted and has no leader is said before all that follows from it", () => {
  const faults = faultsIn(picture({ workers: [], linear: { state: "down", connections: [] } }));
  assert.deepEqual(wordsOf(faults), ["linear: no upstream worker leads"]);
});

test("a relay without any worker is not well, though nobody wants anything", () => {
  const idle = picture({ workers: [], linear: { state: "idle", worker: "", topics: 0, confirmed: 0, connections: [] } });
  const [fault, ...others] = faultsIn(idle);
  assert.deepEqual([fault.level, fault.words], ["bad", "No upstream worker reports"]);
  assert.match(fault.detail, /manage.py run_upstream/);
  assert.deepEqual(others, []);
});

test("what is broken comes before what is slow", () => {
  const faults = faultsIn(
    picture({
      totals: { lagging: 1, unsent: 300_000, redis_delay_ms: 300 },
      linear: { state: "down", connections: [connection(1, "down")] },
      events: [{ at: NOW - 1_000, kind: "gap", category: "linear", topic: "a", words: "" }],
    }),
  );
  assert.deepEqual(wordsOf(faults), [
    "linear: the exchange is lost, 3 topics stand still",
    "Redis takes 300 ms for a message",
    "1 client reads too slowly",
    "1 gap in the last five minutes",
  ]);
});

test("stale topics are said with their number, unless a lost exchange says it already", () => {
  const states = { live: 1, stale: 2 };
  assert.deepEqual(wordsOf(faultsIn(picture({ states }))), ["2 topics are stale"]);
  const connections = [connection(1, "down")];
  const lost = faultsIn(picture({ states, linear: { state: "down", connections } }));
  assert.deepEqual(wordsOf(lost), ["linear: the exchange is lost, 3 topics stand still"]);
});

test("what happened lately says how often, where and how", () => {
  const event = (kind, ago, topic, words) => ({ at: NOW - ago, kind, category: "linear", topic, words });
  const faults = faultsIn(
    picture({
      events: [
        event("gap", 1_000, "b", "expected u 4, received 6"),
        event("silent", 2_000, "", "no report any more of web-2"),
        event("gap", 3_000, "a", "expected u 1, received 3"),
        event("resync", 4_000, "a", "asked for by an operator"),
      ],
    }),
  );
  assert.deepEqual(
    faults.map(({ words, detail }) => `${words}: ${detail}`),
    [
      "1 process fell silent in the last five minutes: the last 2.0 s ago on linear: no report any more of web-2",
      "2 gaps in the last five minutes: the last 1.0 s ago on b: expected u 4, received 6",
    ],
  );
});

test("an old gap is history and no fault", () => {
  const events = [{ at: NOW - 400_000, kind: "gap", category: "linear", topic: "a", words: "" }];
  assert.deepEqual(faultsIn(picture({ events })), []);
});

test("a fault that is gone again at once is never shown, one that stays says since when", () => {
  const watch = new FaultWatch();
  const fault = { key: "a", since: null, patience: 3_000 };
  assert.deepEqual(watch.look([fault], NOW), []);
  assert.deepEqual(watch.look([], NOW + 2_000), []);
  assert.deepEqual(watch.look([fault], NOW + 4_000), []);
  assert.deepEqual(watch.look([fault], NOW + 7_000), [{ ...fault, since: NOW + 4_000 }]);
});

test("numbers are called old when answers stop, and when they stop changing", () => {
  const fresh = { receivedAt: NOW, changedAt: NOW, by: "socket", reason: null, fault: null, retryAt: null };
  assert.deepEqual(freshness(fresh, NOW + 1_000), { age: "fresh", words: "Live, pushed each second" });
  assert.equal(freshness(fresh, NOW + 6_000).words, "These numbers are 6.0 s old");
  assert.equal(freshness({ ...fresh, changedAt: NOW - 60_000 }, NOW).age, "old");
  const failing = { ...fresh, receivedAt: null, changedAt: null, fault: "the server answered 500" };
  assert.deepEqual(freshness(failing, NOW), {
    age: "old",
    words: "No numbers yet: the server answered 500",
  });
});

test("polling says that it polls, why, and when the socket is tried again", () => {
  const feed = { receivedAt: NOW, changedAt: NOW, by: "polling", fault: null };
  const words = (more) => freshness({ ...feed, reason: null, retryAt: null, ...more }, NOW).words;
  assert.equal(words({}), "Live, asked for each second");
  assert.equal(words({ fault: "the server answered 500" }), "No new numbers: the server answered 500");
  assert.equal(
    words({ reason: "closed (1006)", retryAt: NOW + 4_000 }),
    "Live, asked for each second: closed (1006); it is tried again in 4.0 s",
  );
});

test("history grows by one value a second and leaves holes for those that never came", () => {
  const history = new History();
  const at = (seconds) => new Date(NOW + seconds * 1_000).toISOString();
  history.take(picture({ history: { clients: [5, 6] }, generated_at: at(0) }));
  history.take(picture({ totals: { clients: 7 }, generated_at: at(1) }));
  history.take(picture({ totals: { clients: 8 }, generated_at: at(1.1) })); // asked for by a click
  history.take(picture({ totals: { clients: 9 }, generated_at: at(4) }));
  assert.deepEqual(history.of("clients"), [5, 6, 7, null, null, 9]);
  assert.deepEqual(history.of("upstream.linear"), [12.5, 12.5, null, null, 12.5]);
  assert.deepEqual(history.of("never"), []);
});

test("history keeps five minutes", () => {
  const history = new History();
  history.take(picture({ history: { clients: Array(300).fill(1) } }));
  const later = new Date(NOW + 3_600_000).toISOString();
  history.take(picture({ totals: { clients: 2 }, generated_at: later }));
  assert.deepEqual(history.of("clients"), [...Array(299).fill(null), 2]);
});

test("a sparkline stands on zero, ends at the right and breaks where values are missing", () => {
  assert.deepEqual(sparkline([2, 4, null, 4], 10), {
    line: "M296,5.0L297,1.0M299,1.0",
    area: "M296,10L296,5.0L297,1.0L297,10ZM299,10L299,1.0L299,10Z",
    lowest: 2,
    highest: 4,
  });
  assert.deepEqual(sparkline([], 10), { line: "", area: "", lowest: null, highest: null });
  assert.equal(sparkline([0, 0], 10).line, "M298,9.0L299,9.0");
});

test("a view survives the way through the address", () => {
  const view = viewFrom("?q=btc+spot&category=spot&state=stale&o=-age_ms&p=3&tab=events");
  assert.deepEqual(view, {
    search: "btc spot",
    category: "spot",
    state: "stale",
    sort: "age_ms",
    descending: true,
    page: 3,
    tab: "events",
  });
  assert.deepEqual(viewFrom(queryOf(view)), view);
  assert.equal(queryOf(viewFrom("")), "");
});

test("an address that makes no sense shows the usual view", () => {
  assert.deepEqual(viewFrom("?o=<img>&p=-1&tab=nothing"), viewFrom(""));
});

test("a heading sorts numbers largest first and words from A, and turns at the second click", () => {
  const [topic, gaps] = ["topic", "gaps"].map((key) => TOPIC_COLUMNS.find((one) => one.key === key));
  const byGaps = sortedBy({ ...viewFrom(""), page: 4 }, gaps);
  assert.deepEqual([byGaps.sort, byGaps.descending, byGaps.page], ["gaps", true, 1]);
  assert.equal(sortedBy(byGaps, gaps).descending, false);
  assert.equal(sortedBy(byGaps, topic).descending, false);
});

test("the server is asked for one page", () => {
  const asked = questionOf({ ...viewFrom("?q=x"), page: 3 });
  assert.deepEqual([asked.search, asked.offset, asked.limit], ["x", 200, 100]);
});

test("a paginator shows both ends and what is near", () => {
  assert.deepEqual(pageNumbers(1, 1), [1]);
  assert.deepEqual(pageNumbers(1, 50), [1, 2, 3, null, 49, 50]);
  assert.deepEqual(pageNumbers(25, 50), [1, 2, null, 23, 24, 25, 26, 27, null, 49, 50]);
});

test("a row says every value in words, and what is missing as missing", () => {
  const item = { topic: "x", category: "spot", state: "stale", subscribers: 1234, age_ms: null, u: 5001 };
  assert.deepEqual(
    TOPIC_COLUMNS.map((column) => text(column, item, NOW)),
    ["x", "spot", "stale", "1,234", "–", "–", "–", "–", "–", "–", "5001"],
  );
});

test("a connection is named by its process, and lagging is said in words", () => {
  const one = { process: "p1", address: "a", user_agent: "", door: "/ws", since: NOW - 5_000, topics: 1, unsent: 2_500, lagging: true };
  const [shown] = clientConnections(picture({ connections: [one] }));
  assert.deepEqual(
    CONNECTION_COLUMNS.map((column) => text(column, shown, NOW)),
    ["a", "–", "/ws", "web-1", "5.0 s", "1", "2.50 kB", "lagging"],
  );
});

test("broken connections to the exchange come first", () => {
  const connections = [connection(1, "live"), connection(2, "down")];
  const shown = upstreamConnections(picture({ linear: { connections } }).upstream);
  assert.deepEqual(shown.map(({ category, number }) => [category, number]), [["linear", 2], ["linear", 1]]);
});

test("a category says who leads it since which epoch, and who stands by", () => {
  const { linear, spot } = picture({ linear: { standbys: ["up-2", "up-3"] } }).upstream;
  assert.deepEqual(Object.fromEntries(categoryFacts(linear, picture())), {
    Confirmed: "3 of 3 topics",
    Leader: "up-1",
    Epoch: "7",
    Standby: "up-2, up-3",
  });
  assert.equal(Object.fromEntries(categoryFacts(spot, picture())).Leader, "–");
});

test("tiles write what they are given, nothing included", () => {
  for (const { write } of TILES) {
    for (const value of [0, 0.5, 1e9, null, undefined]) assert.equal(typeof write(value), "string");
  }
});

test("an event of yesterday says its day", () => {
  const [when] = EVENT_COLUMNS;
  assert.match(text(when, { at: NOW - 1_000 }, NOW), /^\d\d:\d\d:\d\d$/);
  assert.match(text(when, { at: NOW - 86_400_000 }, NOW), /^\d+ \w{3} \d\d:\d\d:\d\d$/);
});
