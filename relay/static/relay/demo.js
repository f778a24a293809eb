/** The demo page: what it shows is in `state`, and `draw` alone puts it on the screen. */

import { draw, drawMarket, fit } from "./drawing.js";
import { MarketFeed } from "./marketfeed.js";
import { Meter, Rate } from "./meter.js";

const MARKETS = JSON.parse(document.body.dataset.markets);
const STANDARD = { category: "linear", symbol: "BTCUSDT" };
const TICK = 1_000; // ms: countdowns and rates move so often without any message

const state = {
  markets: MARKETS,
  market: fromAddress(new URLSearchParams(location.search)),
  feed: null,
  topics: { book: null, ticker: null, trades: null }, // Subscriptions
  changedAt: { book: null, ticker: null, trades: null }, // Unix ms: since when in its state
  freshness: { book: "waiting", ticker: "waiting", trades: "waiting" },
  digits: { price: 0, size: 0 }, // behind the point, the most seen: columns stay straight
  last: { price: null, tone: null },
  rate: new Rate(),
  messagesPerSecond: null,
  latency: new Meter(),
  undrawnSince: null, // Unix ms: the exchange's time of the newest change not yet on screen
  now: Date.now(),
};

let isScheduled = false;

function schedule() {
  if (isScheduled) return;
  isScheduled = true;
  requestAnimationFrame(() => {
    isScheduled = false;
    state.now = Date.now();
    draw(state);
  });
}

/** Take the market from the address; what it does not name, or names wrongly, is the standard. */
function fromAddress(query) {
  const named = query.get("category");
  const category = Object.hasOwn(MARKETS, named ?? "") ? named : STANDARD.category;
  const isStandard = category === STANDARD.category;
  const otherwise = isStandard ? STANDARD.symbol : (MARKETS[category].symbols[0] ?? "");
  return complete({
    category,
    symbol: query.get("symbol") ?? otherwise,
    depth: Number(query.get("depth")),
  });
}

function complete({ category, symbol, depth }) {
  const { depths, depth: usual } = MARKETS[category];
  return {
    category,
    symbol: symbol.trim().toUpperCase(),
    depth: depths.includes(depth) ? depth : usual,
  };
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
  state.market = market;
  state.digits = { price: 0, size: 0 };
  state.last = { price: null, tone: null };
  state.undrawnSince = null;
  state.topics = market.symbol ? follow(state.feed, market) : { book: null, ticker: null, trades: null };
  for (const topic of old) topic?.close();
  for (const name of Object.keys(state.topics)) noteFreshness(name);
  drawMarket(state);
  schedule();
}

function connect(category) {
  const feed = new MarketFeed({ category });
  feed.addEventListener("state", schedule);
  feed.addEventListener("notice", schedule);
  return feed;
}

function follow(feed, { category, symbol, depth }) {
  // Option trades come by base coin, for every contract of it; the tape shows this one's.
  const traded = category === "option" ? symbol.split("-")[0] : symbol;
  const listen = (name) => (topic, message) => heard(name, topic, message);
  const requests = {
    book: { topic: "orderbook", symbol, levels: depth },
    ticker: { topic: "tickers", symbol },
    trades: { topic: "publicTrade", symbol: traded },
  };
  return Object.fromEntries(
    Object.entries(requests).map(([name, request]) => [name, feed.subscribe(request, listen(name))]),
  );
}

function heard(name, topic, message) {
  if (topic !== state.topics[name]) return; // the last words of one that is being replaced
  noteFreshness(name);
  const isNews = message?.type === "delta" || state.market.depth === 1;
  if (name === "book" && message !== null && isNews) {
    state.undrawnSince = message.cts ?? message.ts;
  }
  schedule();
}

function noteFreshness(name) {
  const freshness = state.topics[name]?.state ?? "waiting";
  if (freshness !== state.freshness[name] || state.changedAt[name] === null) {
    state.freshness[name] = freshness;
    state.changedAt[name] = Date.now();
  }
}

function tick() {
  state.messagesPerSecond = state.rate.look(state.feed.counts.messages, Date.now());
  schedule();
}

// What the visitor does.

const picker = document.getElementById("picker");
const symbolField = document.getElementById("symbol");

function choose() {
  const chosen = new FormData(picker);
  const category = chosen.get("category");
  let symbol = chosen.get("symbol");
  if (category !== state.market.category && !MARKETS[category].symbols.includes(symbol)) {
    symbol = MARKETS[category].symbols[0] ?? "";
  }
  const market = complete({ category, symbol, depth: Number(chosen.get("depth")) });
  const { category: was, symbol: named, depth } = state.market;
  if (market.category === was && market.symbol === named && market.depth === depth) {
    drawMarket(state); // undoes what completing changed, such as small letters
    return;
  }
  history.replaceState(null, "", `?${new URLSearchParams(market)}`);
  show(market);
}

picker.addEventListener("change", choose);
picker.addEventListener("submit", (event) => {
  event.preventDefault();
  choose();
});
symbolField.addEventListener("input", (event) => {
  // A pick from the list says so by its input type (or has none); typing waits for Enter.
  if (!event.inputType || event.inputType === "insertReplacementText") choose();
});
symbolField.addEventListener("focus", () => symbolField.select());
addEventListener("keydown", (event) => {
  const isTyping = event.target.matches?.("input:not([type=radio]), select, textarea");
  if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  symbolField.focus();
});
addEventListener("online", () => {
  if (state.feed.state === "reconnecting") state.feed.connect();
});
addEventListener("popstate", () => show(fromAddress(new URLSearchParams(location.search))));

fit(schedule);
show(state.market);
setInterval(tick, TICK);
