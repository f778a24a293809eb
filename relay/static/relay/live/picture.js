/**
 * What the admin's live page makes of the relay's overview: faults in words, figures as text,
 * five minutes of history. Pure functions and values, no DOM.
 */

import { NOTHING, bytes, span, timeOfDay } from "../format.js";

/** Numbers that have not been renewed for so long are called old: a few missed pushes. */
export const OLD_AFTER = 5_000; // ms
export const PAGE = 100; // topics
export const REMEMBERED = 300; // values a sparkline shows, one a second

const SLOW_REDIS = 250; // ms there and back: every book is late by as much
const BROKEN_REDIS = 1_000; // ms
const LATELY = 300_000; // ms: how far back events are faults
/** Kinds of events that are faults for some minutes, and how so many of them are said. */
const SERIOUS = Object.freeze({
  silent: (number) => `${count(number, "process", "processes")} fell silent`,
  gap: (number) => count(number, "gap"),
  too_many_topics: (number) => `${count(number, "topic")} refused, because there are too many,`,
});
const UNKNOWN = "not known";
const FIGURES = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

// Figures.

/** A whole number with its thousands grouped. */
export function whole(value) {
  return Number.isFinite(value) ? FIGURES.format(value) : NOTHING;
}

/** A number per second: one digit behind the point below ten. */
export function rate(value) {
  if (!Number.isFinite(value)) return NOTHING;
  return value > 0 && value < 9.95 ? value.toFixed(1) : whole(value);
}

/** How long ago, from the server's clock. */
export function ago(at, now) {
  return Number.isFinite(at) ? span(Math.max(0, now - at)) : NOTHING;
}

/** When, in the reader's zone: the time alone where it was less than half a day ago. */
export function moment(at, now) {
  if (!Number.isFinite(at)) return NOTHING;
  if (now - at < 43_200_000) return timeOfDay(at);
  const day = new Date(at).toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  return `${day} ${timeOfDay(at)}`;
}

function count(number, one, many = `${one}s`) {
  return `${whole(number)} ${number === 1 ? one : many}`;
}

/** The tiles: which total each shows and how it is written. */
export const TILES = Object.freeze([
  { key: "clients", label: "Clients", write: whole },
  { key: "subscriptions", label: "Subscriptions", write: whole },
  { key: "topics", label: "Topics", write: whole },
  { key: "messages_per_second", label: "Messages in", write: rate, unit: "/s" },
  { key: "deliveries_per_second", label: "Messages out", write: rate, unit: "/s" },
  { key: "bytes_per_second", label: "Bytes out", write: bytes, unit: "/s" },
  { key: "lagging", label: "Lagging clients", write: whole, isFault: (value) => value > 0 },
  { key: "unsent", label: "Unsent bytes", write: bytes },
  {
    key: "redis_delay_ms",
    label: "Redis delay",
    write: (value, picture) => (Number.isFinite(value) ? milliseconds(value) : isCutOff(picture) ? "away" : "no Redis"),
    isFault: (value, picture) => value >= SLOW_REDIS || isCutOff(picture),
  },
]);

/** Whether the process that answers cannot reach the channel layer, and so knows of no other. */
function isCutOff(picture) {
  return Number.isFinite(picture?.layer_down_since);
}

function milliseconds(value) {
  return value < 10 ? `${value.toFixed(1)} ms` : span(value);
}

// Tables. `key` names a field; a column with `sort` can be sorted by the server.

export const TOPIC_COLUMNS = Object.freeze([
  { key: "topic", heading: "Topic", sort: true },
  { key: "category", heading: "Category", sort: true },
  { key: "state", heading: "State", sort: true, isState: true },
  { key: "subscribers", heading: "Subscribers", sort: true, isNumber: true, write: whole },
  { key: "peak", heading: "Peak", sort: true, isNumber: true, write: whole },
  { key: "messages_per_second", heading: "In/s", sort: true, isNumber: true, write: rate },
  { key: "deliveries_per_second", heading: "Out/s", sort: true, isNumber: true, write: rate },
  { key: "age_ms", heading: "Age", sort: true, isNumber: true, write: span },
  { key: "gaps", heading: "Gaps", sort: true, isNumber: true, write: whole },
  { key: "resyncs", heading: "Resyncs", sort: true, isNumber: true, write: whole },
  { key: "u", heading: "Last u", sort: true, isNumber: true },
]);

export const CONNECTION_COLUMNS = Object.freeze([
  { key: "address", heading: "Address" },
  { key: "user_agent", heading: "User agent" },
  { key: "door", heading: "Door" },
  { key: "name", heading: "Process" },
  { key: "since", heading: "For", isNumber: true, write: ago },
  { key: "topics", heading: "Topics", isNumber: true, write: whole },
  { key: "unsent", heading: "Unsent", isNumber: true, write: bytes },
  { key: "lagging", heading: "Reads", isState: true, write: (is) => (is ? "lagging" : "in time") },
]);

export const UPSTREAM_COLUMNS = Object.freeze([
  { key: "category", heading: "Category" },
  { key: "number", heading: "Connection", isNumber: true },
  { key: "state", heading: "State", isState: true },
  { key: "since", heading: "For", isNumber: true, write: ago },
  { key: "topics", heading: "Desired", isNumber: true, write: whole },
  { key: "confirmed", heading: "Confirmed", isNumber: true, write: whole },
  { key: "error", heading: "Last error" },
]);

export const PROCESS_COLUMNS = Object.freeze([
  { key: "name", heading: "Web process" },
  { key: "clients", heading: "Clients", isNumber: true, write: whole },
  { key: "subscriptions", heading: "Subscriptions", isNumber: true, write: whole },
  { key: "topics", heading: "Topics", isNumber: true, write: whole },
  { key: "lagging", heading: "Lagging", isNumber: true, write: whole },
  { key: "unsent", heading: "Unsent", isNumber: true, write: bytes },
  { key: "started_at", heading: "Up for", isNumber: true, write: ago },
]);

export const WORKER_COLUMNS = Object.freeze([
  { key: "name", heading: "Upstream worker" },
  { key: "leads", heading: "Leads", write: listed },
  { key: "stands_by", heading: "Stands by", write: listed },
]);

export const EVENT_COLUMNS = Object.freeze([
  { key: "at", heading: "Time", write: moment },
  { key: "kind", heading: "Kind" },
  { key: "words", heading: "What happened" },
  { key: "category", heading: "Category" },
  { key: "topic", heading: "Topic" },
  { key: "process", heading: "Process" },
]);

function listed(names) {
  return names?.length ? names.join(", ") : NOTHING;
}

/** The text of a cell. */
export function text(column, item, now) {
  const value = item[column.key];
  if (column.write) return column.write(value, now);
  return value === null || value === undefined || value === "" ? NOTHING : String(value);
}

/** Every connection to the exchange, the broken ones first. */
export function upstreamConnections(upstream) {
  const all = Object.entries(upstream).flatMap(([category, entry]) =>
    (entry.connections ?? []).map((connection) => ({ category, ...connection })),
  );
  const isLive = ({ state }) => Number(state === "live");
  return all.sort((left, right) => isLive(left) - isLive(right));
}

/** The connections of clients, each with the name of its process. */
export function clientConnections({ connections, processes }) {
  const names = new Map(processes.map(({ process, name }) => [process, name]));
  return connections.map((one) => ({ ...one, name: names.get(one.process) ?? one.process }));
}

// What is wrong.

/**
 * Everything an operator should know of, worst first.
 *
 * @returns {{key: string, level: "bad"|"warn", words: string, detail: string, since: number|null,
 *   isLasting: boolean, patience: number, view: object|null}[]} `patience`: ms it must last before
 *   it is shown; `view`: what of the page shows more
 */
export function faultsIn(picture) {
  const found = [];
  const add = (level, key, words, more = {}) =>
    found.push({ key, level, words, detail: "", since: null, isLasting: true, patience: 0, view: null, ...more });
  if (picture.processes.length === 0) add("bad", "processes", "No web process reports");
  if (isCutOff(picture)) {
    const { topics } = picture.totals;
    const still =
      topics > 0
        ? `${count(topics, "topic")} of this process ${stand(topics)} still, new ones wait, and these numbers are of this process alone`
        : "this process has no reader, and cannot see how many topics of the others stand still";
    add("bad", "layer", "Redis cannot be reached", {
      detail: `${still}; look at Redis and its network`,
      since: picture.layer_down_since,
    });
  } else {
    addUpstream(picture, add);
    const isSaid = found.some(({ key }) => key.startsWith("leaderless"));
    if ((picture.workers ?? []).length === 0 && !isSaid) {
      add("bad", "workers", "No upstream worker reports", {
        detail: "readers get no data; start one with manage.py run_upstream and the same REDIS_URL",
        patience: 3_000,
        view: { tab: "processes" },
      });
    }
  }
  const { lagging, unsent, redis_delay_ms: redis } = picture.totals;
  if (redis >= SLOW_REDIS) {
    const level = redis >= BROKEN_REDIS ? "bad" : "warn";
    add(level, "redis", `Redis takes ${span(redis)} for a message`, { patience: 3_000 });
  }
  if (lagging > 0) {
    const words = `${count(lagging, "client")} ${lagging === 1 ? "reads" : "read"} too slowly`;
    add("warn", "lagging", words, {
      detail: `${bytes(unsent)} wait to be read, and updates are withheld from them alone`,
      view: { tab: "connections" },
    });
  }
  const stale = picture.states?.stale ?? 0;
  const isExplained = found.some(({ level }) => level === "bad"); // by what broke them
  if (stale > 0 && !isExplained) {
    add("warn", "stale", `${count(stale, "topic")} ${stale === 1 ? "is" : "are"} stale`, {
      detail: "the exchange's messages had a gap, and a fresh snapshot is awaited; Resync asks again",
      patience: 3_000,
      view: { tab: "topics", state: "stale", search: "", category: "", page: 1 },
    });
  }
  addMissing(picture.missing ?? [], add);
  const now = Date.parse(picture.generated_at);
  for (const [kind, say] of Object.entries(SERIOUS)) {
    const lately = picture.events.filter((one) => one.kind === kind && now - one.at < LATELY);
    if (lately.length === 0 || (kind === "silent" && picture.missing?.length > 0)) continue;
    const [{ at, topic, category, words }] = lately;
    const where = topic || category;
    add("warn", kind, `${say(lately.length)} in the last five minutes`, {
      detail: `the last ${ago(at, now)} ago${where ? ` on ${where}` : ""}: ${words}`,
      isLasting: false,
      view: { tab: "events" },
    });
  }
  return found.sort((left, right) => (left.level === right.level ? 0 : left.level === "bad" ? -1 : 1));
}

/** Processes that fell silent and that no other has replaced: said as long as that lasts. */
function addMissing(missing, add) {
  for (const [kind, word] of [["worker", "upstream worker"], ["web", "web process"]]) {
    const gone = missing.filter((one) => one.kind === kind);
    if (gone.length === 0) continue;
    const is = gone.length === 1 ? "is" : "are";
    add("warn", `missing ${kind}`, `${count(gone.length, word, word === "web process" ? "web processes" : undefined)} ${is} missing`, {
      detail: `${gone.map(({ name }) => name).join(", ")} fell silent without a goodbye, and no other has taken the place; start one`,
      since: Math.min(...gone.map(({ since }) => since)),
      view: { tab: "processes" },
    });
  }
}

/** The faults of the upstream side: what broke several categories at once is said once. */
function addUpstream(picture, add) {
  const leading = new Set((picture.workers ?? []).flatMap(({ leads }) => leads));
  const groups = new Map(); // kind and error -> {kind, error, categories, topics, since}
  for (const [category, entry] of Object.entries(picture.upstream)) {
    const kind = upstreamFault(entry, leading.has(category));
    if (kind === null) continue;
    const broken = entry.connections.filter(({ state }) => state !== "live");
    const error = broken.find((one) => one.error)?.error ?? "";
    const key = kind === "partial" ? `${kind} ${category}` : `${kind} ${error}`;
    const group = groups.get(key) ?? { kind, error, categories: [], topics: 0, broken, all: entry.connections, since: null, isDown: false };
    groups.set(key, group);
    group.categories.push(category);
    group.topics += UPSTREAM_FAULTS[kind].topicsOf(entry, broken);
    group.isDown ||= entry.state === "down";
    if (entry.state === "down" || kind === "connecting") group.since = Math.min(group.since ?? entry.since, entry.since);
  }
  for (const [key, group] of groups) {
    const { level, say, hint = "", patience = 0, view = { tab: "upstream" } } = UPSTREAM_FAULTS[group.kind];
    const { since } = group;
    add(level, key, `${group.categories.join(", ")}: ${say(group)}`, {
      detail: [group.error, hint].filter(Boolean).join("; "),
      since,
      patience: group.isDown ? 0 : patience,
      view,
    });
  }
}

/** What is wrong with a category, one of `UPSTREAM_FAULTS`, or null. */
function upstreamFault(entry, hasLeader) {
  if (entry.state === "idle") return null;
  if (!hasLeader) return "leaderless";
  const isBroken = entry.connections.some(({ state }) => state !== "live");
  // Down while its worker last said that all was well: one of the two will be renewed soon.
  if (entry.state === "down") return isBroken ? "lost" : "silent";
  if (entry.state === "connecting") return "connecting";
  if (isBroken) return "partial";
  return entry.confirmed < entry.topics ? "unconfirmed" : null;
}

const desired = (entry) => entry.topics;
const UPSTREAM_FAULTS = Object.freeze({
  leaderless: {
    level: "bad",
    topicsOf: desired,
    say: () => "no upstream worker leads",
    hint: "none runs, or none reaches Redis: start one with manage.py run_upstream and the same REDIS_URL",
    patience: 3_000,
    view: { tab: "processes" },
  },
  silent: {
    level: "bad",
    topicsOf: desired,
    say: ({ topics }) => `nothing is known of the exchange, ${count(topics, "topic")} ${stand(topics)} still`,
  },
  lost: {
    level: "bad",
    topicsOf: desired,
    say: ({ topics }) => `the exchange is lost, ${count(topics, "topic")} ${stand(topics)} still`,
    hint: "it is tried again by itself",
  },
  connecting: { level: "warn", topicsOf: desired, say: () => "still connecting to the exchange", patience: 5_000 },
  partial: {
    level: "bad",
    topicsOf: (_entry, broken) => broken.reduce((sum, one) => sum + one.topics, 0),
    say: ({ broken, all, topics }) =>
      `${broken.length} of ${count(all.length, "connection")} down, ${count(topics, "topic")} ${stand(topics)} still`,
    patience: 3_000,
  },
  unconfirmed: {
    level: "warn",
    topicsOf: (entry) => entry.topics - entry.confirmed,
    say: ({ topics }) => `the exchange has not confirmed ${count(topics, "topic")}`,
    patience: 10_000,
  },
});

function stand(topics) {
  return topics === 1 ? "stands" : "stand";
}

/** Remembers since when each fault has been there, and holds back the fleeting ones. */
export class FaultWatch {
  #firstSeen = new Map();

  /** Return the faults that have outlasted their patience, each with `since` in Unix ms. */
  look(faults, now) {
    const before = this.#firstSeen;
    this.#firstSeen = new Map(faults.map(({ key, since }) => [key, since ?? before.get(key) ?? now]));
    return faults
      .map((fault) => ({ ...fault, since: this.#firstSeen.get(fault.key) }))
      .filter(({ since, patience }) => now - since >= patience);
  }
}

/** What is said where there is no fault. */
export function allIsWell(picture) {
  const live = Object.entries(picture.upstream).filter(([, { state }]) => state === "live");
  if (live.length === 0) return "All is well: no client follows a topic now.";
  const names = live.map(([category]) => category).join(", ");
  return `All is well: ${names} live, ${count(picture.totals.topics, "topic")}, ${count(picture.totals.clients, "client")}, none lags.`;
}

// What a category says on its card.

/** How a category is, in words. */
export function categoryState(entry, picture, now) {
  if (entry.state !== "idle") return `${entry.state} for ${ago(entry.since, now)}`;
  return isCutOff(picture) ? UNKNOWN : "idle";
}

/** The facts of one category as [label, text]; without a worker that reports, little is known. */
export function categoryFacts(entry, picture) {
  const isWanted = entry.state !== "idle";
  const standbys = entry.standbys ?? [];
  const isLed = Boolean(entry.worker);
  const none = isCutOff(picture) ? UNKNOWN : NOTHING;
  const unled = isCutOff(picture) || !isWanted ? none : "none";
  return [
    ["Confirmed", isLed ? `${whole(entry.confirmed)} of ${count(entry.topics ?? 0, "topic")}` : none],
    ["Leader", isLed ? entry.worker : unled],
    ["Epoch", isLed && entry.epoch > 0 ? String(entry.epoch) : none],
    ["Standby", standbys.length > 0 ? listed(standbys) : none],
  ];
}

const NONE = Object.freeze({
  topics: "No client follows a topic now.",
  upstream: "No category is wanted now.",
  workers: "No worker has reported.",
});

/** What an empty table says: a process that is cut off from Redis cannot know. */
export function noneOf(table, picture) {
  return isCutOff(picture) ? "This process has none, and cannot see those of the others without Redis." : NONE[table];
}

// How the numbers came.

/**
 * Say how the numbers come and how old they are.
 *
 * @param {{receivedAt: number|null, changedAt: number|null, by: string|null, reason: string|null,
 *   fault: string|null, retryAt: number|null}} feed a `LiveFeed`
 * @returns {{age: "waiting"|"fresh"|"old", words: string}}
 */
export function freshness({ receivedAt, changedAt, by, reason, fault, retryAt }, now) {
  const because = fault ?? reason;
  const why = because === null ? "" : `: ${because}`;
  if (receivedAt === null) {
    return { age: fault === null ? "waiting" : "old", words: `No numbers yet${why}` };
  }
  const age = now - Math.min(receivedAt, changedAt);
  if (age >= OLD_AFTER) return { age: "old", words: `These numbers are ${span(age)} old${why}` };
  if (by === "socket") return { age: "fresh", words: "Live, pushed each second" };
  if (fault !== null) return { age: "fresh", words: `No new numbers${why}` };
  const again = retryAt === null ? "" : `; it is tried again in ${span(Math.max(0, retryAt - now))}`;
  return { age: "fresh", words: `Live, asked for each second${reason === null ? "" : `: ${reason}${again}`}` };
}

/** The last five minutes of every total, one value a second, null where none came. */
export class History {
  #series = new Map(); // name -> values, oldest first
  #at = null;

  /** Take an overview: its `history` where it brings one, and its totals. */
  take(picture) {
    const at = Date.parse(picture.generated_at);
    const rates = Object.entries(picture.upstream).map(([category, entry]) => [
      `upstream.${category}`,
      entry.messages_per_second,
    ]);
    if (picture.history) {
      for (const [name, values] of Object.entries(picture.history)) {
        this.#series.set(name, values.slice(-REMEMBERED));
      }
      this.#at ??= at;
    }
    const seconds = this.#at === null ? 1 : Math.round((at - this.#at) / 1_000);
    const isRenewed = picture.history !== undefined;
    if (seconds < 1 && this.#at !== null && !isRenewed) return; // the same second again
    for (const [name, value] of [...Object.entries(picture.totals), ...rates]) {
      if (isRenewed && name in picture.history) continue; // its last value is this one
      const values = this.#series.get(name) ?? [];
      const missed = Math.min(REMEMBERED, Math.max(0, seconds - 1));
      for (let index = 0; index < missed; index += 1) values.push(null);
      values.push(Number.isFinite(value) ? value : null);
      this.#series.set(name, values.slice(-REMEMBERED));
    }
    this.#at = at;
  }

  /** The values of one total, oldest first. */
  of(name) {
    return this.#series.get(name) ?? [];
  }
}

// What of the page is looked at, as its address says it: words as in any Django change list.

/** @type {{search: string, category: string, state: string, sort: string, descending: boolean, page: number, tab: string}} */
const DEFAULT_VIEW = Object.freeze({
  search: "",
  category: "",
  state: "",
  sort: "subscribers",
  descending: true,
  page: 1,
  tab: "topics",
});
export const TABS = Object.freeze(["topics", "connections", "upstream", "processes", "events"]);

/** Read a view from the query of an address; what makes no sense is left out. */
export function viewFrom(query) {
  const given = new URLSearchParams(query);
  const view = { ...DEFAULT_VIEW };
  view.search = given.get("q") ?? "";
  view.category = given.get("category") ?? "";
  view.state = given.get("state") ?? "";
  const order = given.get("o") ?? "";
  const sort = order.replace(/^-/, "");
  if (TOPIC_COLUMNS.some(({ key }) => key === sort)) {
    Object.assign(view, { sort, descending: order.startsWith("-") });
  }
  const page = Number(given.get("p"));
  if (Number.isInteger(page) && page > 0) view.page = page;
  if (TABS.includes(given.get("tab"))) view.tab = given.get("tab");
  return view;
}

/** Write a view as the query of an address, the default as nothing. */
export function queryOf(view) {
  const words = new URLSearchParams();
  if (view.search) words.set("q", view.search);
  if (view.category) words.set("category", view.category);
  if (view.state) words.set("state", view.state);
  if (view.sort !== DEFAULT_VIEW.sort || view.descending !== DEFAULT_VIEW.descending) {
    words.set("o", (view.descending ? "-" : "") + view.sort);
  }
  if (view.page > 1) words.set("p", String(view.page));
  if (view.tab !== DEFAULT_VIEW.tab) words.set("tab", view.tab);
  const query = words.toString();
  return query ? `?${query}` : "";
}

/** The view after a click on a heading: the other way round, or numbers largest first. */
export function sortedBy(view, column) {
  const descending = view.sort === column.key ? !view.descending : column.isNumber === true;
  return { ...view, sort: column.key, descending, page: 1 };
}

/** What the server is asked for. */
export function questionOf({ search, category, state, sort, descending, page }) {
  return { search, category, state, sort, descending, offset: (page - 1) * PAGE, limit: PAGE };
}

/** The numbers of a paginator, null where some are left out: 1 2 … 7 8 9 … 49 50. */
export function pageNumbers(page, pages) {
  const shown = [];
  for (let number = 1; number <= pages; number += 1) {
    if (number <= 2 || number > pages - 2 || Math.abs(number - page) <= 2) shown.push(number);
    else if (shown.at(-1) !== null) shown.push(null);
  }
  return shown;
}

/**
 * The line of a sparkline from 0 to the largest value, the newest at the right end.
 *
 * @param {(number|null)[]} values oldest first, at most `REMEMBERED`
 * @param {number} height in the same unit as a second is wide
 * @returns {{line: string, area: string, lowest: number|null, highest: number|null}} SVG paths
 */
export function sparkline(values, height) {
  const known = values.filter((value) => value !== null);
  const highest = known.length ? Math.max(...known) : null;
  const lowest = known.length ? Math.min(...known) : null;
  const scale = highest > 0 ? (height - 2) / highest : 0;
  const left = REMEMBERED - values.length;
  let line = "";
  let area = "";
  let start = null;
  values.forEach((value, index) => {
    const x = left + index;
    if (value !== null) {
      const point = `${x},${(height - 1 - value * scale).toFixed(1)}`;
      line += start === null ? `M${point}` : `L${point}`;
      if (start === null) area += `M${x},${height}L${point}`;
      else area += `L${point}`;
      start ??= x;
    }
    const isLast = index === values.length - 1;
    if (start !== null && (value === null || isLast)) {
      area += `L${value === null ? x - 1 : x},${height}Z`;
      start = null;
    }
  });
  return { line, area, lowest, highest };
}
