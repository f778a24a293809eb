/** How the connection is: one word in a light, what is measured of it, and a banner when it is lost. */

import { NOTHING, span, timeOfDay } from "../format.js";
import { byId, mark, put } from "./dom.js";

const WORDS = {
  closed: "Closed",
  connecting: "Connecting",
  waiting: "Waiting",
  live: "Live",
  stale: "Stale",
  reconnecting: "Reconnecting",
  refused: "Refused",
};
const LONGEST_LATENCY = 60_000; // ms: beyond it, it is the clocks that differ
const DOUBTFUL_LATENCY = 2_000; // ms: where the relay itself answers much faster, it may be

const page = {
  light: byId("light"),
  state: byId("state"),
  rate: byId("rate"),
  latency: byId("latency"),
  roundTrip: byId("round-trip"),
  gaps: byId("gaps"),
  resyncs: byId("resyncs"),
  connections: byId("connections"),
  briefRate: byId("brief-rate"),
  briefLatency: byId("brief-latency"),
  gapsBrief: byId("brief-gaps"),
  resyncsBrief: byId("brief-resyncs"),
  reason: byId("reason"),
  clocks: byId("clocks"),
  banner: byId("banner"),
  bannerWords: byId("banner-words"),
  retry: byId("retry"),
};

/** The worst of what is on the page: a live connection with a broken book is not live. */
function lightOf({ feed, freshness }) {
  if (feed.state !== "live") return feed.state;
  const all = Object.values(freshness);
  if (all.includes("stale")) return "stale";
  if (all.includes("refused")) return "refused";
  return all.includes("live") ? "live" : "waiting";
}

/** How the page is in one word, such as "Live". */
export function wordOf(state) {
  return state.isPaused ? "Paused" : WORDS[lightOf(state)];
}

/** Draw the light, what is measured next to it, and the same in full below it. */
export function drawLight(state) {
  const { feed, messagesPerSecond, latency, now } = state;
  const light = lightOf(state);
  mark(page.light, "state", light);
  put(page.state, wordOf(state));
  const rate = messagesPerSecond === null ? NOTHING : `${Math.round(messagesPerSecond)}/s`;
  const middle = latency.median(now);
  const isPossible = middle !== null && middle >= 0 && middle < LONGEST_LATENCY;
  const isDoubtful = isPossible && middle > DOUBTFUL_LATENCY && feed.roundTrip !== null && feed.roundTrip < middle / 4;
  const measured = isPossible ? `${span(middle)}${isDoubtful ? "?" : ""}` : "clocks differ";
  const words = middle === null ? NOTHING : measured;
  for (const element of [page.rate, page.briefRate]) put(element, rate);
  for (const element of [page.latency, page.briefLatency]) put(element, words);
  put(page.clocks, clockWords(middle, isPossible, isDoubtful));
  put(page.roundTrip, feed.roundTrip === null ? NOTHING : span(feed.roundTrip));
  for (const name of ["gaps", "resyncs"]) {
    for (const element of [page[name], page[`${name}Brief`]]) {
      put(element, String(feed.counts[name]));
      mark(element, "some", feed.counts[name] ? "yes" : null);
    }
  }
  put(page.connections, String(feed.counts.connections));
  put(page.reason, feed.since === null ? "" : `${feed.reason ?? WORDS[feed.state]} since ${timeOfDay(feed.since)}`);
}

function clockWords(middle, isPossible, isDoubtful) {
  if (middle !== null && !isPossible) {
    const words = span(Math.abs(middle));
    return `The exchange's clock and this one differ: messages seem to arrive ${words} ${middle < 0 ? "before" : "after"} they were made.`;
  }
  if (isDoubtful) {
    return `Messages seem to arrive ${span(middle)} after they were made, yet the relay answers much faster: either they are late before they reach it, or this clock is ahead of the exchange's.`;
  }
  return "Latency is from the exchange's clock (cts, or ts) to this screen: two clocks, so it is wrong by as much as they differ. The round trip to the relay is measured by this clock alone.";
}

/** Why a topic is refused: our words, then those of the exchange. */
export function refusalOf({ category, symbol }, { code, message }) {
  if (code !== "refused_by_exchange") return `${symbol} is refused: ${message}`;
  const hint = category === "option" ? "; it may have expired" : "";
  return `The exchange does not have ${symbol} in ${category}${hint}. It says: ${message}`;
}

/** Why every topic of the market is refused, in words; null where one is not. */
export function refusal({ topics, freshness, market }) {
  const names = Object.keys(topics).filter((name) => topics[name] !== null);
  if (names.length === 0 || !names.every((name) => freshness[name] === "refused")) return null;
  return refusalOf(market, topics[names[0]].error);
}

/** Say over everything what is wrong, and since when the numbers stand still. */
export function drawBanner(state) {
  const { feed, heardAt, freshness, now, isPaused } = state;
  const isBroken = feed.state === "reconnecting" || feed.state === "stale" || (feed.state === "closed" && !isPaused);
  const refused = isBroken ? null : refusal(state);
  page.banner.hidden = !isBroken && refused === null;
  if (refused !== null) {
    put(page.bannerWords, refused);
    page.retry.hidden = true;
  }
  if (!isBroken) return;
  const wait = feed.retryAt === null ? null : Math.max(0, Math.ceil((feed.retryAt - now) / 1_000));
  const next = wait === null ? "" : wait > 0 ? ` Next attempt in ${wait} s.` : " Trying again.";
  const isOld = freshness.book === "stale" && heardAt.book !== null;
  const old = isOld ? ` The book is of ${timeOfDay(heardAt.book)}.` : "";
  put(page.bannerWords, `${sentence(feed.reason ?? "Not connected")}.${old}${next}`);
  page.retry.hidden = feed.state === "stale" || (wait ?? 1) === 0;
}

function sentence(words) {
  return words.charAt(0).toUpperCase() + words.slice(1);
}
