/** The demo page: what it shows is in `state`, and `drawing` alone puts it on the screen. */

import { fractionDigits } from "../decimals.js";
import { MarketFeed } from "../marketfeed.js";
import { Meter, Rate } from "../meter.js";
import { Console } from "./console.js";
import { byId } from "./dom.js";
import { draw, drawCandles, drawMarket, drawSymbols, drawTitle, fit, forget } from "./drawing.js";
import { Tick } from "./grouping.js";
import { PriceHistory } from "./history.js";
import { FIRST_OPTION_COIN, completed, firstSymbol, fromAddress, hasCandles, intervalOf, resolved, toAddress } from "./market.js";

const MARKETS = JSON.parse(document.body.dataset.markets);
const FRAME = 40; // ms: more drawings a second cost more than can be seen
const TICK = 1_000; // ms: countdowns and rates move so often without any message
const SLEPT = 5_000; // ms between two ticks: a laptop was closed in between
const HIDDEN_PATIENCE = 5_000; // ms: a tab that stays in the background so long lets its feed go
const NO_TOPICS = Object.freeze({ book: null, ticker: null, trades: null, candles: null });
const LONGEST_OF_TRADES = 60; // seconds: longer candles are the exchange's alone

const state = {
  markets: MARKETS,
  market: fromAddress(new URLSearchParams(location.search), MARKETS),
  feed: null,
  isPaused: false, // the page is hidden, so nothing is followed
  topics: { ...NO_TOPICS }, // Subscriptions
  heardAt: { book: null, ticker: null, trades: null, candles: null }, // Unix ms: of the last message
  freshness: { book: "waiting", ticker: "waiting", trades: "waiting", candles: "waiting" },
  history: new PriceHistory(),
  candle: 1, // seconds
  kept: new Map(), // interval -> Subscription: candles that were looked at stay known
  tick: new Tick(), // of all prices that the book has shown
  steps: [], // the steps to choose from
  digits: { price: 0, size: 0 }, // behind the point, the most seen: columns stay straight
  last: { price: null, tone: null },
  rate: new Rate(),
  messagesPerSecond: null,
  latency: new Meter(),
  undrawnSince: null, // Unix ms: the exchange's time of the newest change not yet on screen
  now: Date.now(),
};
const terminal = new Console();

let isDue = false; // a drawing is on its way
let timer = null; // for that drawing, or for one that nothing but time asks for
let drawnAt = 0; // as performance.now() counts

/** Draw what has changed, with a frame of the screen and not too soon after the last drawing. */
function schedule() {
  if (isDue || document.hidden) return;
  isDue = true;
  clearTimeout(timer);
  const wait = Math.max(0, drawnAt + FRAME - performance.now());
  timer = setTimeout(() => requestAnimationFrame(paint), wait);
}

function paint() {
  isDue = false;
  if (document.hidden) return;
  drawnAt = performance.now();
  state.now = Date.now();
  const again = draw(state);
  if (again !== null) timer = setTimeout(schedule, again);
}

/** Show another market. Topics that both markets share go on undisturbed. */
function show(market) {
  const isOther = state.feed === null || state.feed.category !== market.category;
  const old = Object.values(state.topics);
  if (isOther) {
    state.feed?.close();
    state.feed = connect(market.category);
    state.rate = new Rate();
  }
  const { category, symbol } = state.market;
  if (isOther || symbol !== market.symbol || category !== market.category) forgetMarket();
  state.market = market;
  if (!hasCandles(market.category)) state.candle = Math.min(state.candle, LONGEST_OF_TRADES);
  state.undrawnSince = null;
  state.topics = follow(state.feed, market);
  for (const topic of old) topic?.close();
  for (const name of Object.keys(state.topics)) {
    noteFreshness(name);
    recall(name);
  }
  drawMarket(state);
  terminal.show(market);
  schedule();
}

/** Nothing that was seen of one symbol says anything about another. */
function forgetMarket() {
  state.history = new PriceHistory();
  state.tick = new Tick();
  state.steps = [];
  state.digits = { price: 0, size: 0 };
  state.last = { price: null, tone: null };
  state.heardAt = { book: null, ticker: null, trades: null, candles: null };
  for (const subscription of state.kept.values()) subscription.close();
  state.kept.clear();
}

function connect(category) {
  const feed = new MarketFeed({ category });
  for (const event of ["state", "notice"]) feed.addEventListener(event, schedule);
  feed.addEventListener("state", () => feed === state.feed && drawTitle(state));
  terminal.follow(feed);
  return feed;
}

function follow(feed, { category, symbol, depth }) {
  const listen = (name) => (topic, message) => heard(name, topic, message);
  const subscribe = (name, request) => feed.subscribe(request, listen(name));
  if (!symbol) {
    if (category !== "option") return { ...NO_TOPICS };
    const trades = { topic: "publicTrade", symbol: FIRST_OPTION_COIN };
    return { ...NO_TOPICS, trades: subscribe("trades", trades) };
  }
  // Option trades come by base coin, for every contract of it; the tape shows this one's.
  const traded = category === "option" ? symbol.split("-")[0] : symbol;
  return {
    book: subscribe("book", { topic: "orderbook", symbol, levels: depth }),
    ticker: subscribe("ticker", { topic: "tickers", symbol }),
    trades: subscribe("trades", { topic: "publicTrade", symbol: traded }),
    candles: followCandles(feed, { category, symbol }),
  };
}

/** Follow the exchange's candles where it has some of the chosen length; null where not. */
function followCandles(feed, { category, symbol }) {
  const interval = intervalOf(category, state.candle);
  if (interval === null || !symbol) return null;
  const request = { topic: "kline", symbol, interval };
  if (!state.kept.has(interval)) state.kept.set(interval, feed.subscribe(request));
  return feed.subscribe(request, (topic, message) => heard("candles", topic, message));
}

/** A topic that both markets share has its image already, and will send no snapshot. */
function recall(name) {
  const image = state.topics[name]?.image;
  if (name === "book" && image) notePrices([...image.bids, ...image.asks].map(({ price }) => price));
  if (name === "trades" && image) addTrades([...image.rows].reverse().filter((row) => "i" in row));
}

function heard(name, topic, message) {
  if (topic !== state.topics[name]) return; // the last words of one that is being replaced
  noteFreshness(name);
  if (message !== null) state.heardAt[name] = Date.now();
  if (name === "book" && message !== null) {
    notePrices([...message.data.b, ...message.data.a].map(([price]) => price));
    const isNews = message.type === "delta" || state.market.depth === 1;
    if (isNews) state.undrawnSince = message.cts ?? message.ts;
  }
  if (name === "trades") {
    if (message === null) noteHoles(topic);
    else addTrades(message.data);
  }
  schedule();
}

/** Every price of the book counts for the tick and for the width of the column. */
function notePrices(prices) {
  for (const price of prices) {
    state.tick.see(price);
    state.digits.price = Math.max(state.digits.price, fractionDigits(price));
  }
}

function noteHoles({ state: freshness, image }) {
  if (freshness === "stale" && !state.feed.isSilent) state.history.interrupt();
  else if (image.rows[0] !== undefined && "missing" in image.rows[0]) state.history.hole();
}

function addTrades(trades) {
  const { category, symbol } = state.market;
  if (category === "option") {
    if (noteContracts(trades) && !symbol) return;
    state.history.add(trades.filter(({ s }) => s === symbol));
  } else {
    state.history.add(trades);
  }
}

/** Options expire, so they are not listed anywhere: whatever trades can be chosen. */
function noteContracts(trades) {
  const known = MARKETS.option.symbols;
  const fresh = [...new Set(trades.map(({ s }) => s))].filter((symbol) => !known.includes(symbol));
  if (fresh.length === 0 && state.market.symbol) return false;
  known.push(...fresh);
  known.sort();
  drawSymbols(state.market, MARKETS);
  if (!state.market.symbol && trades.length) {
    const latest = trades.at(-1).s;
    queueMicrotask(() => go({ ...state.market, symbol: latest }, { isChosen: false }));
  }
  return true;
}

function noteFreshness(name) {
  state.freshness[name] = state.topics[name]?.state ?? "waiting";
}

/**
 * Go to a market that differs, and say so in the address. What the visitor chose is a page of its
 * own in the history, so that Back leads to the market before.
 */
function go(market, { isChosen = true } = {}) {
  const next = completed(market, MARKETS);
  const { category, symbol, depth } = state.market;
  if (next.category === category && next.symbol === symbol && next.depth === depth) {
    drawMarket(state); // undoes what completing changed, such as small letters
    schedule();
    return;
  }
  if (isChosen) history.pushState(null, "", toAddress(next));
  else history.replaceState(null, "", toAddress(next));
  show(next);
}

/** Ask which symbols are being read through this relay, to suggest them. */
async function learnSymbols() {
  try {
    const answer = await fetch(document.body.dataset.symbols);
    const carried = await answer.json();
    for (const [category, { symbols }] of Object.entries(MARKETS)) {
      const more = (carried[category] ?? []).filter((symbol) => !symbols.includes(symbol));
      symbols.push(...more);
    }
    drawSymbols(state.market, MARKETS);
  } catch {
    // Suggestions are a courtesy: any symbol can be typed.
  }
}

// What the visitor does.

const picker = byId("picker");
const symbolField = byId("symbol");

/** Show another category or depth; the symbol is what it was: half a symbol is not a choice. */
function choose() {
  const category = String(new FormData(picker).get("category"));
  const { symbol } = state.market;
  const isKnown = category === state.market.category || MARKETS[category].symbols.includes(symbol);
  chooseSymbol(isKnown ? symbol : firstSymbol(category, MARKETS), category);
}

function chooseSymbol(symbol, category = state.market.category) {
  const isOther = category !== state.market.category;
  const isSame = !isOther && symbol === state.market.symbol;
  const step = isSame ? state.market.step : null;
  go({ category, symbol, depth: Number(byId("depth").value), step });
}

/** Show the symbol that is typed or picked, completed; nothing typed is the symbol there is. */
function enter() {
  const { category, symbol } = state.market;
  chooseSymbol(resolved(symbolField.value, category, MARKETS[category].symbols) || symbol);
  symbolField.select();
}

/** What is half typed is not a choice: the field says again what is shown. */
function restore() {
  symbolField.placeholder = "Symbol";
  symbolField.value = state.market.symbol;
}

/** Browsers suggest what goes on from what a field says: while it says nothing, every symbol. */
function offerAll() {
  if (symbolField.value !== state.market.symbol) return;
  symbolField.placeholder = symbolField.value || "Symbol";
  symbolField.value = "";
}

picker.addEventListener("change", ({ target }) => {
  if (target !== symbolField) choose(); // leaving the field is not a choice either
});
picker.addEventListener("submit", (event) => {
  event.preventDefault();
  enter();
});
byId("depth").addEventListener("change", choose);
byId("step").addEventListener("change", ({ target }) => {
  // The first step is the tick of the prices seen so far: it stands for "do not join levels".
  state.market.step = target.selectedIndex > 0 ? target.value : null;
  history.replaceState(null, "", toAddress(state.market));
  forget();
  schedule();
});
byId("candle").addEventListener("change", ({ target }) => {
  state.candle = Number(target.value);
  const old = state.topics.candles;
  state.topics.candles = followCandles(state.feed, state.market);
  old?.close();
  noteFreshness("candles");
  drawCandles();
  schedule();
});
byId("retry").addEventListener("click", () => state.feed.connect());
byId("light").addEventListener("keydown", (event) => {
  if (event.key === "Escape") event.currentTarget.open = false;
});
symbolField.addEventListener("input", (event) => {
  // A pick from the list says so by its input type (or has none); typing waits for Enter.
  if (!event.inputType || event.inputType === "insertReplacementText") enter();
});
symbolField.addEventListener("keydown", ({ key }) => {
  if (key !== "Escape") return;
  restore();
  symbolField.select();
});
symbolField.addEventListener("focus", () => {
  offerAll();
  learnSymbols();
});
symbolField.addEventListener("click", offerAll);
symbolField.addEventListener("blur", restore);
addEventListener("keydown", (event) => {
  const target = /** @type {Element|Document} */ (event.target);
  const isTyping = "matches" in target && target.matches("input:not([type=radio]), select, textarea");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    event.preventDefault();
    symbolField.focus();
  } else if (event.key === "`") {
    terminal.toggle();
  }
});
addEventListener("offline", () => state.feed.probe());
addEventListener("online", () => {
  if (state.feed.state === "reconnecting") state.feed.connect();
});
addEventListener("popstate", () => show(fromAddress(new URLSearchParams(location.search), MARKETS)));

// The page is hidden: no timers, no drawing, and after a while no messages either.

let ticking = null;
let tickedAt = Date.now();
let leaving = null;

function look() {
  if (document.hidden) {
    clearInterval(ticking);
    ticking = null;
    leaving ??= setTimeout(() => {
      state.isPaused = true;
      state.feed.disconnect("paused in the background");
    }, HIDDEN_PATIENCE);
    return;
  }
  clearTimeout(leaving);
  leaving = null;
  forget();
  if (state.isPaused) {
    state.isPaused = false;
    state.feed.connect();
  }
  if (ticking === null) tickedAt = Date.now();
  ticking ??= setInterval(tick, TICK);
  schedule();
}

function tick() {
  if (Date.now() - tickedAt > SLEPT) state.feed.probe(); // the machine slept: does the relay answer?
  tickedAt = Date.now();
  state.messagesPerSecond = state.rate.look(state.feed.counts.messages, Date.now());
  drawTitle(state);
  schedule();
}

document.addEventListener("visibilitychange", look);
fit(schedule);
show(state.market);
look();
learnSymbols();
