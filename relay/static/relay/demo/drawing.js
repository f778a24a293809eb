/** Everything the demo page puts on the screen, from its state alone. Rows are made once and stay. */

import { compare } from "../decimals.js";
import { NOTHING, fitted, grouped, timeOfDay } from "../format.js";
import { DepthChart, PriceChart } from "./charts.js";
import { byId, mark, part, put } from "./dom.js";
import { emptiness, isMultiple, steps } from "./grouping.js";
import { exchangeCandles } from "./history.js";
import { Ladder } from "./ladder.js";
import { drawBanner, drawLight, refusal, refusalOf, wordOf } from "./light.js";
import { hasCandles, kindOf, unitsOf } from "./market.js";
import { Rows, heading } from "./rows.js";
import { CHANGE, FIELDS } from "./strip.js";

const MINUTE = 60; // seconds
const LONG_FACT = 12; // characters: three longer ones do not fit next to each other on a phone
const ARROW = 2; // characters, behind the price of a trade
const CHARTS_EVERY = 250; // ms: canvases are dear, and more cannot be seen

const page = {
  picker: byId("picker"),
  symbols: byId("symbols"),
  depth: byId("depth"),
  step: byId("step"),
  candle: byId("candle"),
  strip: byId("strip"),
  book: byId("book"),
  bookNotice: byId("book-notice"),
  trades: byId("trades"),
  tradesNotice: byId("trades-notice"),
  price: byId("price"),
  priceNotice: byId("price-notice"),
  depthNotice: byId("depth-notice"),
  priceNote: byId("price-note"),
  depthPanel: byId("depth-panel"),
  depthNote: byId("depth-note"),
};
const ladder = new Ladder();
const tape = new Rows(byId("tape"), ["Price", "Size", "Time"]);
const priceChart = new PriceChart(byId("price-chart"));
let pointed = ""; // what the cursor on the depth chart points at
const depthChart = new DepthChart(byId("depth-chart"), (words) => (pointed = words));
let strip = { last: null, list: null, cells: [] }; // cells: {element, write, title}
let chartsDrawnAt = 0;
let drawnTick; // whose steps are on the page; undefined: those of the market before

/** Keep as many rows as there is room for; `changed` is called when that changes. */
export function fit(changed) {
  const measure = () => {
    ladder.fit();
    tape.resize(tape.room());
    changed();
  };
  const observer = new ResizeObserver(measure);
  for (const element of [...ladder.elements, tape.element]) observer.observe(element);
  measure();
}

/** Draw what changes only with the market: the picker, the strip's fields, the headings. */
export function drawMarket({ market, markets, candle }) {
  const { category, symbol, depth } = market;
  mark(document.documentElement, "category", category);
  for (const radio of page.picker.elements.namedItem("category")) {
    radio.checked = radio.value === category;
  }
  page.picker.elements.namedItem("symbol").value = symbol;
  page.depth.replaceChildren(
    ...markets[category].depths.map((levels) => {
      const words = levels === 1 ? "Best price" : `${levels} levels`;
      return new Option(words, String(levels), false, levels === depth);
    }),
  );
  for (const option of page.candle.options) {
    option.hidden = option.disabled = !hasCandles(category) && Number(option.value) > MINUTE;
  }
  page.candle.value = String(candle);
  const units = unitsOf(market);
  ladder.reset(units);
  tape.name([heading("Price", units.price), heading("Size", units.size), "Time"]);
  strip = makeStrip(market, units);
  priceChart.rebuild();
  depthChart.rebuild();
  drawnTick = undefined;
  chartsDrawnAt = 0;
  drawSymbols(market, markets);
}

/** Offer the symbols that are known by now. */
export function drawSymbols({ category }, markets) {
  page.symbols.replaceChildren(...markets[category].symbols.map((name) => new Option(name, name)));
}

/** Draw the candles of another length at once. */
export function drawCandles() {
  priceChart.rebuild();
  chartsDrawnAt = 0;
}

/** Nothing flashes at the next drawing: what was seen before is too long ago. */
export function forget() {
  ladder.forget();
}

/**
 * Draw everything else.
 *
 * @returns {number|null} ms after which to draw again though nothing happens
 */
export function draw(state) {
  drawLight(state);
  drawBanner(state);
  drawStrip(state);
  const again = drawBook(state);
  drawTrades(state);
  const chartsWait = drawCharts(state);
  if (state.undrawnSince !== null) {
    state.latency.add(Date.now() - state.undrawnSince, state.now);
    state.undrawnSince = null;
  }
  const waits = [again, chartsWait].filter((wait) => wait !== null);
  return waits.length ? Math.min(...waits) : null;
}

/** Draw the title of the window: the last price, or what is wrong where it may not be the last. */
export function drawTitle(state) {
  const { topics, market, digits, freshness } = state;
  const price = topics.ticker?.image.data.lastPrice;
  const isRight = freshness.ticker === "live" && state.feed.state === "live";
  const first = isRight && price ? `${grouped(price, digits.price)} ${market.symbol}` : market.symbol;
  const fault = isRight || !price ? "" : wordOf(state);
  const title = [fault, first, "marketfeed"].filter(Boolean).join(" · ");
  if (document.title !== title) document.title = title;
}

function drawStrip(state) {
  const { topics, last, freshness, now } = state;
  const data = topics.ticker?.image.data ?? {};
  mark(page.strip, "freshness", freshness.ticker);
  noteLast(last, data.lastPrice);
  put(strip.last, data.lastPrice ? grouped(data.lastPrice, state.digits.price) : NOTHING);
  mark(strip.last, "tone", last.tone);
  let longest = 0;
  for (const { element, write, title } of strip.cells) {
    const written = write(data, now);
    const text = written.text ?? written;
    longest = Math.max(longest, text.length);
    put(element, text);
    mark(element, "tone", written.tone ?? null);
    const exact = written.exact && written.exact !== text ? written.exact : "";
    const words = [title, exact].filter(Boolean).join(": ");
    if (element.title !== words) element.title = words;
  }
  strip.list?.classList.toggle("wide", longest > LONG_FACT);
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
  const { topics, digits, market, freshness } = state;
  mark(page.book, "freshness", freshness.book);
  put(page.bookNotice, notice(state, "book"));
  drawSteps(state);
  const step = state.steps.includes(market.step) ? market.step : null;
  const tick = state.tick.text;
  return ladder.draw(topics.book?.image, { step, digits, depth: market.depth, tick }, state.now);
}

function drawSteps(state) {
  const { market } = state;
  const tick = state.tick.text;
  if (tick === drawnTick) return;
  drawnTick = tick;
  // One level a side has nothing to join, and its prices are to be seen as they are.
  state.steps = tick === null || market.depth === 1 ? [] : steps(tick);
  if (tick !== null && market.step !== null && !state.steps.includes(market.step)) {
    // A step finer than the tick seen so far may become possible with the next price.
    if (market.depth > 1 && !isMultiple(tick, market.step)) market.step = null;
  }
  page.step.replaceChildren(
    ...state.steps.map((step) => new Option(grouped(step), step, false, step === market.step)),
  );
  page.step.disabled = state.steps.length === 0;
}

function drawTrades(state) {
  const { topics, market, freshness } = state;
  mark(page.trades, "freshness", freshness.trades);
  const all = topics.trades?.image.rows ?? [];
  const isOurs = (row) => "missing" in row || market.category !== "option" || row.s === market.symbol;
  const shown = [];
  for (const row of all) {
    if (shown.length === tape.count) break;
    if (isOurs(row)) shown.push(row);
  }
  put(page.tradesNotice, notice(state, "trades", shown.length ? "" : "No trades yet"));
  const [newest] = shown.filter((row) => "p" in row);
  tape.divide(newest === undefined ? 0 : grouped(newest.p, state.digits.price).length + ARROW);
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
        fitted(trade.v, state.digits.size, tape.sizeRoom),
        timeOfDay(trade.T),
      ]);
      tape.mark(index, trade.S === "Buy" ? "buy" : "sell");
    }
  }
}

function drawCharts(state) {
  const { topics, market, history, freshness, digits, candle, now } = state;
  const rows = topics.candles?.image.rows;
  const source = topics.candles === null ? "trades" : "candles";
  const isEmpty = rows === undefined ? history.isEmpty : rows.length === 0;
  mark(page.price, "freshness", freshness[source]);
  mark(page.depthPanel, "freshness", freshness.book);
  put(page.depthNote, freshness.book === "live" ? pointed : "");
  put(page.priceNote, freshness[source] === "live" ? priceChart.words : "");
  const book = topics.book?.image;
  const empty = emptiness(book, market.depth);
  put(page.depthNotice, notice(state, "book", empty, { isChart: true }));
  put(page.priceNotice, notice(state, source, isEmpty ? "No trades yet" : "", { isChart: true }));
  const wait = chartsDrawnAt + CHARTS_EVERY - now;
  if (wait > 0) return wait;
  chartsDrawnAt = now;
  const candles = rows === undefined ? history.candles.bind(history) : exchangeCandles.bind(null, rows);
  if (!isEmpty) priceChart.draw(candles, candle, digits.price);
  if (empty) depthChart.rebuild();
  else if (book?.bids.length || book?.asks.length) depthChart.draw(book, digits.price);
  return null;
}

/** What a panel says about itself: its fault if it has one, else `words`. A chart stands next to a list of the same topic. */
function notice({ topics, freshness, heardAt, market }, name, words = "", { isChart = false } = {}) {
  if (!market.symbol) return market.category === "option" ? "Waiting for a contract to trade" : "Choose a symbol";
  switch (freshness[name]) {
    case "refused":
      return isChart || isSaid(name, { topics, freshness, market }) ? "Refused" : refusalOf(market, topics[name].error);
    case "stale":
      return heardAt[name] === null ? "Stale" : `Stale since ${timeOfDay(heardAt[name])}`;
    case "waiting":
      return "Waiting for the first message";
    default:
      return words;
  }
}

/** Whether a refusal is said elsewhere: in the banner, or in the panel of a topic before it. */
function isSaid(name, state) {
  if (refusal(state) !== null) return true;
  return Object.keys(state.topics).find((one) => state.freshness[one] === "refused") !== name;
}

function makeStrip(market, units) {
  const last = part("strong", "last", NOTHING);
  const title = part("span", "name", market.symbol || NOTHING);
  const kind = part("span", "kind", kindOf(market));
  const head = part("div", "headline");
  const names = part("div", "names");
  names.append(title, kind);
  const change = part("span", "change", NOTHING);
  const quote = part("div", "quote");
  quote.append(last, change);
  head.append(names, quote);
  const list = part("dl", "facts");
  const cells = FIELDS[market.category].map(({ label, write, of }) => {
    const element = part("dd", "", NOTHING);
    const name = part("dt", "", label);
    name.append(part("span", "unit", heading("", units[of])));
    const pair = part("div");
    pair.append(name, element);
    list.append(pair);
    return { element, write };
  });
  cells.push({ element: change, write: CHANGE[market.category], title: "Change of the last 24 hours" });
  page.strip.replaceChildren(head, list);
  return { last, list, cells };
}
