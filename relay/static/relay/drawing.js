/**
 * Everything the demo page puts on the screen. Text goes in by `textContent` alone, and only
 * where it differs from what is there; rows are made once and stay.
 */

import { add, approximate, compare, fractionDigits, middle, subtract } from "./decimals.js";
import { NOTHING, grouped, span, timeOfDay } from "./format.js";
import { Rows } from "./rows.js";
import { FIELDS } from "./strip.js";

const SIDE_BY_SIDE = matchMedia("(min-width: 1000px)"); // as in demo.css
const FEED_WORDS = {
  closed: "Closed",
  connecting: "Connecting",
  live: "Live",
  stale: "Stale",
  reconnecting: "Reconnecting",
};

const byId = (id) => document.getElementById(id);
const page = {
  light: byId("light"),
  state: byId("state"),
  rate: byId("rate"),
  latency: byId("latency"),
  picker: byId("picker"),
  symbols: byId("symbols"),
  depth: byId("depth"),
  strip: byId("strip"),
  book: byId("book"),
  bookNote: byId("book-note"),
  mid: byId("mid"),
  spread: byId("spread"),
  spreadShare: byId("spread-share"),
  trades: byId("trades"),
  tradesNote: byId("trades-note"),
};
const asks = new Rows(byId("asks"), ["Price", "Size", "Total"]);
const bids = new Rows(byId("bids"), ["Price", "Size", "Total"]);
const tape = new Rows(byId("tape"), ["Price", "Size", "Time"]);
let strip = { last: null, cells: [] };

/** Keep as many rows as there is room for; `changed` is called when that changes. */
export function fit(changed) {
  const measure = () => {
    // Both sides of the book show equally many.
    const levels = Math.min(asks.room(), bids.room());
    asks.resize(levels);
    bids.resize(levels);
    tape.resize(tape.room());
    changed();
  };
  const observer = new ResizeObserver(measure);
  for (const rows of [asks, bids, tape]) observer.observe(rows.element);
  SIDE_BY_SIDE.addEventListener("change", measure);
  measure();
}

/** Draw what changes only with the market: the picker, the strip's fields, the title. */
export function drawMarket({ market, markets }) {
  const { category, symbol, depth } = market;
  for (const radio of page.picker.elements.namedItem("category")) {
    radio.checked = radio.value === category;
  }
  page.picker.elements.namedItem("symbol").value = symbol;
  page.symbols.replaceChildren(...markets[category].symbols.map((name) => new Option(name, name)));
  page.depth.replaceChildren(
    ...markets[category].depths.map((levels) => {
      const words = levels === 1 ? "Best price" : `${levels} levels`;
      return new Option(words, String(levels), false, levels === depth);
    }),
  );
  strip = makeStrip(category, symbol);
  document.title = symbol ? `${symbol} · marketfeed` : "marketfeed";
}

/** Draw everything else, from the state alone. */
export function draw(state) {
  drawLight(state);
  drawStrip(state);
  drawBook(state);
  drawTrades(state);
  if (state.undrawnSince !== null) {
    state.latency.add(Date.now() - state.undrawnSince, state.now);
    state.undrawnSince = null;
  }
}

function drawLight({ feed, messagesPerSecond, latency, now }) {
  mark(page.light, "state", feed.state);
  put(page.state, FEED_WORDS[feed.state]);
  page.light.title = feed.reason ?? "";
  if (feed.retryAt !== null) {
    put(page.rate, `in ${Math.max(0, Math.ceil((feed.retryAt - now) / 1_000))} s`);
    put(page.latency, "");
    return;
  }
  put(page.rate, messagesPerSecond === null ? "" : `${Math.round(messagesPerSecond)} msg/s`);
  const middle = latency.median(now);
  // Below zero the clocks disagree, and the number would say nothing.
  put(page.latency, middle === null || middle < 0 ? "" : span(middle));
}

function drawStrip(state) {
  const { topics, last, freshness, now } = state;
  const data = topics.ticker?.image.data ?? {};
  mark(page.strip, "freshness", freshness.ticker);
  noteLast(last, data.lastPrice);
  put(strip.last, data.lastPrice ? grouped(data.lastPrice, state.digits.price) : NOTHING);
  mark(strip.last, "tone", last.tone);
  for (const { element, write } of strip.cells) {
    const written = write(data, now);
    put(element, written.text ?? written);
    mark(element, "tone", written.tone ?? null);
  }
}

/** Remember whether the last price rose or fell. */
function noteLast(last, price) {
  if (!price || price === last.price) return;
  try {
    const difference = last.price === null ? 0 : compare(price, last.price);
    if (difference !== 0) last.tone = difference > 0 ? "up" : "down";
    last.price = price;
  } catch {
    last.tone = null; // not a number: shown as it came, without a direction
  }
}

function drawBook(state) {
  const { topics, digits, market } = state;
  const image = topics.book?.image;
  mark(page.book, "freshness", state.freshness.book);
  put(page.bookNote, note(state, "book", bookWords(image, market)));
  const sides = [
    { rows: asks, levels: running(image?.asks ?? [], asks.count), isReversed: !SIDE_BY_SIDE.matches },
    { rows: bids, levels: running(image?.bids ?? [], bids.count), isReversed: false },
  ];
  let deepest = 0;
  for (const { levels } of sides) {
    for (const { price, size } of levels) {
      digits.price = Math.max(digits.price, fractionDigits(price));
      digits.size = Math.max(digits.size, fractionDigits(size));
    }
    if (levels.length) deepest = Math.max(deepest, approximate(levels.at(-1).total));
  }
  for (const { rows, levels, isReversed } of sides) {
    for (let index = 0; index < rows.count; index += 1) {
      const level = levels[isReversed ? rows.count - 1 - index : index];
      if (level === undefined) {
        rows.clear(index);
      } else {
        const { price, size, total } = level;
        rows.write(index, [
          grouped(price, digits.price),
          grouped(size, digits.size),
          grouped(total, digits.size),
        ]);
        rows.fill(index, deepest > 0 ? approximate(total) / deepest : 0);
      }
    }
  }
  drawSpread(image, digits.price);
}

/** The first `count` levels with the sum of sizes up to each. */
function running(levels, count) {
  let total = "0";
  return levels.slice(0, count).map(({ price, size }) => {
    total = add(total, size);
    return { price, size, total };
  });
}

function drawSpread(image, digits) {
  const bid = image?.bids[0];
  const ask = image?.asks[0];
  if (!bid || !ask) {
    put(page.mid, NOTHING);
    put(page.spread, NOTHING);
    put(page.spreadShare, "");
    return;
  }
  const mid = middle(ask.price, bid.price);
  const spread = subtract(ask.price, bid.price);
  const basisPoints = (approximate(spread) / approximate(mid)) * 10_000;
  put(page.mid, grouped(mid, digits + 1)); // always the digit that half a tick needs
  put(page.spread, grouped(spread, digits));
  put(page.spreadShare, Number.isFinite(basisPoints) ? `${basisPoints.toFixed(2)} bp` : "");
}

function bookWords(image, market) {
  if (!image) return "";
  const held = Math.max(image.bids.length, image.asks.length);
  return market.depth === 1 ? "best price" : `${held} levels a side`;
}

function drawTrades(state) {
  const { topics, market, freshness } = state;
  mark(page.trades, "freshness", freshness.trades);
  const all = topics.trades?.image.rows ?? [];
  const isOurs = (row) => "missing" in row || market.category !== "option" || row.s === market.symbol;
  const shown = all.filter(isOurs).slice(0, tape.count);
  put(page.tradesNote, note(state, "trades", shown.length ? "" : "none yet"));
  for (let index = 0; index < tape.count; index += 1) {
    const trade = shown[index];
    if (trade === undefined) {
      tape.clear(index);
    } else if ("missing" in trade) {
      tape.write(index, [trade.missing === null ? "some missing" : `${trade.missing} missing`, "", ""]);
      tape.mark(index, "missing");
    } else {
      tape.write(index, [
        grouped(trade.p, state.digits.price),
        grouped(trade.v, state.digits.size),
        timeOfDay(trade.T),
      ]);
      tape.mark(index, trade.S === "Buy" ? "buy" : "sell");
    }
  }
}

/** What a panel says about itself: its fault if it has one, else `words`. */
function note({ topics, freshness, changedAt, feed, market }, name, words) {
  if (!market.symbol) return "Choose a symbol";
  const because = feed.reason !== null && name === "book" ? `: ${feed.reason}` : ""; // said once
  switch (freshness[name]) {
    case "refused":
      return topics[name].error.message;
    case "stale":
      return `Stale since ${timeOfDay(changedAt[name])}${because}`;
    case "waiting":
      return `Waiting${because || " for the first message"}`;
    default:
      return words;
  }
}

function makeStrip(category, symbol) {
  const last = part("strong", "last");
  const title = part("span", "name");
  title.textContent = symbol || NOTHING;
  const head = part("div", "headline");
  head.append(title, last);
  const list = part("dl", "facts");
  const cells = FIELDS[category].map(({ label, write }) => {
    const term = part("dt");
    term.textContent = label;
    const element = part("dd");
    const pair = part("div");
    pair.append(term, element);
    list.append(pair);
    return { element, write };
  });
  page.strip.replaceChildren(head, list);
  return { last, cells };
}

function part(tag, name = "") {
  const element = document.createElement(tag);
  element.className = name;
  return element;
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function mark(element, name, value) {
  if (value === null) delete element.dataset[name];
  else if (element.dataset[name] !== value) element.dataset[name] = value;
}
