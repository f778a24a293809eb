/**
 * What the admin's live page makes of `live.json`: pure functions, no DOM.
 *
 * Processes and upstream entries may carry more keys than are known here; every plain value
 * becomes a column, so that new counters show up by themselves.
 */

import { NOTHING, span } from "./format.js";

/** Data that has not been renewed for so long is called old: a few missed polls. */
export const OLD_AFTER = 5_000; // ms

const UNGROUPED = new Set(["pid", "epoch"]); // numbers that are names

/** Topics whose text, category or state contains every word of the filter; most readers first. */
export function chosenTopics(topics, filter) {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  return topics
    .filter((topic) => {
      const text = `${topic.category}:${topic.topic} ${topic.state}`.toLowerCase();
      return words.every((word) => text.includes(word));
    })
    .sort(
      (left, right) =>
        right.subscribers - left.subscribers ||
        order(left.category, right.category) ||
        order(left.topic, right.topic),
    );
}

/** The sums over all topics, as [label, text]. */
export function totals(picture) {
  const sum = (key) => picture.topics.reduce((total, topic) => total + (topic[key] ?? 0), 0);
  return [
    ["Topics", whole(picture.topics.length)],
    ["Subscriptions", whole(sum("subscribers"))],
    ["Messages in", perSecond(sum("messages_per_second"))],
    ["Deliveries out", perSecond(sum("deliveries_per_second"))],
    ["Processes", whole(picture.processes.length)],
  ];
}

/** One topic's row, in the order of `TOPIC_COLUMNS`. */
export function topicRow(topic) {
  return [
    topic.topic,
    topic.category,
    topic.state,
    whole(topic.subscribers),
    number(topic.messages_per_second),
    number(topic.deliveries_per_second),
    Number.isFinite(topic.age_ms) ? span(topic.age_ms) : NOTHING,
  ].map(String);
}

/** Headings of the topics table; numbers stand right. */
export const TOPIC_COLUMNS = Object.freeze([
  { heading: "Topic" },
  { heading: "Category" },
  { heading: "State" },
  { heading: "Subscribers", isNumber: true },
  { heading: "In, msg/s", isNumber: true },
  { heading: "Out, msg/s", isNumber: true },
  { heading: "Age", isNumber: true },
]);

/**
 * Any list of objects as a table.
 *
 * @returns {{columns: {heading: string, isNumber: boolean}[], rows: string[][]}}
 */
export function tabulated(objects, now) {
  const keys = [...new Set(objects.flatMap((object) => Object.keys(object)))].filter((key) =>
    objects.some((object) => isPlain(object[key])),
  );
  const columns = keys.map((key) => ({
    heading: heading(key),
    isNumber: objects.every((object) => typeof (object[key] ?? 0) === "number") && !isTime(key),
  }));
  return { columns, rows: objects.map((object) => keys.map((key) => cell(key, object[key], now))) };
}

/** The upstream of each category as a list, its category first. */
export function upstreamList(upstream) {
  return Object.entries(upstream).map(([category, entry]) => ({ category, ...entry }));
}

/**
 * Say how old the numbers are.
 *
 * @param {{receivedAt: number|null, changedAt: number|null, fault: string|null}} last what the
 *   polling knows: when an answer came, when `generated_at` last moved, what went wrong since
 * @returns {{age: "waiting"|"fresh"|"old", words: string}}
 */
export function freshness({ receivedAt, changedAt, fault }, now) {
  const because = fault === null ? "" : `: ${fault}`;
  if (receivedAt === null) {
    return { age: fault === null ? "waiting" : "old", words: `No numbers yet${because}` };
  }
  const age = now - Math.min(receivedAt, changedAt);
  if (age < OLD_AFTER) return { age: "fresh", words: "Live, renewed each second" };
  return { age: "old", words: `These numbers are ${span(age)} old${because}` };
}

function order(left, right) {
  return left < right ? -1 : left > right ? 1 : 0;
}

function whole(value) {
  return Number.isFinite(value) ? Math.round(value).toLocaleString("en-US") : NOTHING;
}

function number(value) {
  if (!Number.isFinite(value)) return NOTHING;
  return value !== 0 && value < 10 ? value.toFixed(1) : whole(value);
}

function perSecond(value) {
  return `${number(value)}/s`;
}

function isPlain(value) {
  return ["string", "number", "boolean"].includes(typeof value);
}

function isTime(key) {
  return key === "since" || key.endsWith("_at") || key.endsWith("_since");
}

function heading(key) {
  const words = key.replace(/_ms$/, "").replace(/_per_second$/, "/s").replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function cell(key, value, now) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "string" && isTime(key)) return since(Date.parse(value), value, now);
  if (typeof value === "string") return value;
  if (!Number.isFinite(value)) return NOTHING;
  if (isTime(key)) return since(value < 1e11 ? value * 1_000 : value, String(value), now);
  if (key.endsWith("_ms")) return span(value);
  if (UNGROUPED.has(key)) return String(value);
  return Number.isInteger(value) && !key.endsWith("_per_second") ? whole(value) : number(value);
}

function since(at, otherwise, now) {
  return Number.isFinite(at) ? `${span(Math.max(0, now - at))} ago` : otherwise;
}
