/**
 * Follow Bybit's public market data through a marketfeed relay, from any web page.
 *
 *     const feed = new MarketFeed({ category: "linear" });
 *     const book = feed.subscribe({ topic: "orderbook", symbol: "BTCUSDT", levels: 50 }, () => {
 *       const [bid] = book.image.bids;                  // {price: "80682.00", size: "4.80"}
 *       console.log(book.state, bid?.price);
 *     });
 *     feed.addEventListener("state", () => console.log(feed.state, feed.reason));
 *     book.close();                                     // unsubscribes
 *     feed.close();
 *
 * It connects with the first subscribe, comes back by itself after a loss (with growing, jittered
 * pauses), subscribes again, and keeps an image of every topic by Bybit's rules. Prices and sizes
 * stay the strings the exchange sent.
 *
 * | `topic` | `subscription.image` |
 * |---|---|
 * | `orderbook` | an `OrderBook`: `bids` and `asks`, lists of `{price, size}`, best first; `updateId`, `ts`, `cts` |
 * | `tickers` | a `Ticker`: `data`, an object of Bybit's keys such as `lastPrice`; empty before the first message |
 * | `publicTrade` | a `Tape`: `rows`, Bybit's trades (`p`, `v`, `S`, `T`, ...), newest first, at most 100; `{missing}` where some were lost |
 * | `kline` | a `Candles`: `rows`, Bybit's candles (`start`, `open`, `high`, `low`, `close`, `confirm`, ...), newest first, at most 200: the one there is, and those that follow |
 *
 * An image is one object for as long as its topic is followed, and changes in place: read it when
 * told or when drawing, and copy what is to stay as it was. Look at `subscription.state` before
 * trusting it.
 *
 * Without a `url` the relay is the page's own host. A page of another host names it, and the relay
 * must allow that page's origin (`RELAY_ALLOWED_ORIGINS`); where it does not, `feed.state` is
 * `closed` and `reason` says "this origin may not connect". The same origins may read
 * `/symbols.json` of the relay. To serve the module yourself copy it
 * with those it imports: `backoff`, `book`, `candles`, `decimals`, `pacer`, `subscription`, `tape`,
 * `ticker` and `timers`.
 *
 * | `feed.state` | meaning |
 * |---|---|
 * | `closed` | no connection, and none will be tried before `connect()` or the first subscribe; `reason` says why, where there is a why |
 * | `connecting` | the first attempt is under way, until the relay answers |
 * | `live` | the relay answers, and has not said that it is not connected to the exchange |
 * | `stale` | connected, but the relay does not answer (`feed.isSilent`), is not connected to the exchange, or has lost it: images are the last ones known |
 * | `reconnecting` | the connection is lost; `feed.retryAt` says when the next attempt is due |
 *
 * | `subscription.state` | meaning |
 * |---|---|
 * | `waiting` | nothing has come yet |
 * | `live` | the image is the exchange's |
 * | `stale` | the connection or the sequence is broken; the image is the last one known |
 * | `refused` | `subscription.error` has the relay's `{code, message}`; not asked for again until you `close()` it and subscribe again |
 * | `closed` | by you |
 *
 * Events: `state`; `notice` (detail: the relay's status, lagging, gap or bye message); `sent` and
 * `received` (detail: the text on the wire). No dependencies, no DOM; works in Node from 22 too.
 */

import { delay, reason, verdict, Verdict } from "./backoff.js";
import { OrderBook, Outcome } from "./book.js";
import { Candles } from "./candles.js";
import { Pacer } from "./pacer.js";
import { Followed, Subscription, TopicState, complete, topicText } from "./subscription.js";
import { Tape } from "./tape.js";
import { Ticker } from "./ticker.js";
import { Timers } from "./timers.js";

export { Candles, OrderBook, Outcome, Tape, Ticker, TopicState };

/** States of a `MarketFeed`. */
export const FeedState = Object.freeze({
  CLOSED: "closed",
  CONNECTING: "connecting",
  LIVE: "live",
  STALE: "stale",
  RECONNECTING: "reconnecting",
});

const PING_INTERVAL = 5_000; // ms
const SILENCE_LIMIT = 5_000; // ms after a ping: a relay that lives answers in a round trip
const QUIET_LIMIT = 1_000; // ms: a relay that has said nothing for so long is asked for a word
const ANSWER_LIMIT = 1_200; // ms for that word: with the limit above well under 3 s, as pages promise
const CONNECT_LIMIT = 10_000; // ms
const OF_USE_AFTER = 5_000; // ms: a connection that held so long ends a series of failures
const RETRY_REFUSED = 2_000; // ms: for refusals that are about the moment, not about the topic
const CROSSED_PATIENCE = 500; // ms: the relay itself sees to a book that is crossed for 200 ms
const LONGEST_RETRY = 30_000; // ms: a topic that never gets right costs no more than this often
const MOMENTARY = new Set(["rate_limited", "upstream_unavailable"]);

/** One connection to a relay, of one category, that heals itself. */
export class MarketFeed extends EventTarget {
  #environment;
  #topics = new Map(); // text -> Followed
  #requests = new Map(); // id -> the Followed whose subscribe it was
  #lastId = 0;
  #socket = null;
  #openedAt = null;
  #failures = 0;
  #outage = null; // why the relay has nothing of the exchange, in words
  #hadExchange = false; // whether anything of the exchange has come through this relay
  #bye = null;
  #pacer;
  #timers;
  #pingedAt = null;
  #heardAt = null;

  /**
   * @param {object} [options]
   * @param {string} [options.category] spot, linear (the default), inverse or option
   * @param {string|URL} [options.url] of the relay, such as "wss://relay.example/ws"; without it
   *   the `/ws` of the page's own host
   * @param {object} [options.environment] what tests put in place of the browser: any of
   *   `WebSocket`, `now`, `random`, `setTimeout`, `clearTimeout`
   */
  constructor({ category = "linear", url, environment = {} } = {}) {
    super();
    this.category = category;
    this.url = address(url, category);
    /** @type {string} a `FeedState` */
    this.state = FeedState.CLOSED;
    /** Unix ms of the last change of `state`. */
    this.since = null;
    /** Why the state is what it is, in words; null when all is well. */
    this.reason = null;
    /** Unix ms of the next attempt while reconnecting, else null. */
    this.retryAt = null;
    /** Round trip to the relay in ms, from the last ping; null before the first. */
    this.roundTrip = null;
    /** Whether the relay does not answer, though the connection stands. */
    this.isSilent = false;
    /**
     * What this client counted: messages of topics; gaps, breaks of a sequence, no matter which side noticed
     * them; resyncs, snapshots that replaced a running book or were asked for after a gap;
     * connections made; messages that could not be read.
     */
    this.counts = { messages: 0, gaps: 0, resyncs: 0, connections: 0, unreadable: 0 };
    this.#environment = {
      WebSocket: globalThis.WebSocket,
      now: () => Date.now(),
      random: Math.random,
      setTimeout: (callback, wait) => globalThis.setTimeout(callback, wait),
      clearTimeout: (handle) => globalThis.clearTimeout(handle),
      ...environment,
    };
    this.#timers = new Timers(this.#environment);
    this.#pacer = new Pacer();
  }

  /**
   * Follow a topic. Following one twice shares its image and one subscription at the relay.
   *
   * @param {{topic: string, symbol: string, levels?: number, interval?: string|number}} request `topic`
   *   is orderbook, publicTrade, tickers or kline; `levels` belongs to orderbook, default 50
   *   (option: 100), `interval` to kline, such as "1" (minute) or "D"
   * @param {(subscription: Subscription, message: object|null) => void} [listener] called after
   *   each message of the topic and after each change of its state (then without a message); not
   *   at once, so read the image of a topic that was followed already yourself
   * @returns {Subscription}
   */
  subscribe(request, listener = () => {}) {
    const wanted = complete(request, this.category);
    const text = topicText(wanted);
    let followed = this.#topics.get(text);
    if (followed === undefined) {
      followed = new Followed(wanted, text);
      this.#topics.set(text, followed);
      this.#request(followed);
    }
    const subscription = new Subscription(followed, listener, () => this.#release(followed));
    followed.subscriptions.add(subscription);
    if (this.state === FeedState.CLOSED && this.reason === null) this.connect();
    return subscription;
  }

  /** Connect now: at first, after `close`, after a refusal, or instead of waiting any longer. */
  connect() {
    if (this.#socket !== null) return;
    this.#timers.cancel("retry");
    const isFirst = this.state === FeedState.CLOSED;
    this.#open();
    if (isFirst) this.#become(FeedState.CONNECTING, null);
    else this.#become(FeedState.RECONNECTING, this.reason);
  }

  /** Find out now whether the relay is still there, such as when the network may have gone. */
  probe() {
    if (this.#openedAt !== null) this.#ping();
  }

  /**
   * Close the connection and keep the subscriptions, such as while the page is hidden; `connect()` goes
   * on. Until then everything is stale, and `reason` says these words.
   */
  disconnect(words = "paused") {
    this.#drop();
    for (const followed of this.#topics.values()) followed.interrupt();
    this.#failures = 0;
    this.#become(FeedState.CLOSED, words);
  }

  /** Close the connection and forget every subscription. */
  close() {
    this.#drop();
    for (const followed of [...this.#topics.values()]) {
      this.#topics.delete(followed.text);
      followed.become(TopicState.CLOSED);
    }
    this.#failures = 0;
    this.#become(FeedState.CLOSED, null);
  }

  // The connection.

  #open() {
    const socket = new this.#environment.WebSocket(this.url);
    this.#socket = socket;
    this.#bye = null;
    // Each handler asks whether it is still about the current socket: one that was given up may
    // report its end much later.
    socket.onopen = () => socket === this.#socket && this.#opened();
    socket.onmessage = (event) => socket === this.#socket && this.#received(event.data);
    socket.onclose = (event) => socket === this.#socket && this.#lost(event.code);
    this.#timers.after("silence", CONNECT_LIMIT, () => this.#giveUp("no answer from the relay"));
  }

  #opened() {
    this.#timers.cancel("silence");
    this.#openedAt = this.#heardAt = this.#environment.now();
    this.#outage = null;
    this.#pingedAt = null;
    this.#pacer.reset(this.#environment.now());
    this.counts.connections += 1;
    for (const followed of this.#topics.values()) {
      if (followed.state !== TopicState.REFUSED) this.#request(followed);
    }
    this.#ping();
    this.#watch();
  }

  #lost(code) {
    const now = this.#environment.now();
    if (this.#openedAt !== null && now - this.#openedAt >= OF_USE_AFTER) this.#failures = 0;
    this.#drop();
    const words = this.#bye ?? `${reason(code)} (${code})`;
    for (const followed of this.#topics.values()) followed.interrupt();
    if (verdict(code) === Verdict.STOP) {
      this.#become(FeedState.CLOSED, words);
      return;
    }
    if (this.#topics.size === 0) {
      this.#become(FeedState.CLOSED, null); // idle: the next subscribe connects
      return;
    }
    const wait = delay(code, this.#failures, this.#environment.random());
    this.#failures += 1;
    this.#timers.after("retry", wait, () => this.connect());
    this.retryAt = now + wait;
    this.#become(FeedState.RECONNECTING, words);
  }

  /** The other end went without a word: do not wait for the browser to notice. */
  #giveUp(words) {
    this.#bye = words;
    this.#lost(1006);
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    this.#openedAt = null;
    this.isSilent = false;
    this.#requests.clear();
    this.#timers.cancelAll();
    socket?.close();
  }

  #become(state, reason) {
    if (state !== FeedState.RECONNECTING || this.#socket !== null) this.retryAt = null;
    if (state === this.state && reason === this.reason) return;
    if (state !== this.state) this.since = this.#environment.now();
    this.state = state;
    this.reason = reason;
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }

  #ping() {
    const pingedAt = this.#ask();
    this.#timers.after("silence", SILENCE_LIMIT, () => {
      if (this.#heardAt < pingedAt) this.#giveUp("the relay fell silent");
    });
    this.#timers.after("ping", PING_INTERVAL, () => this.#ping());
  }

  /** Send a ping and return when. */
  #ask() {
    const now = this.#environment.now();
    this.#pingedAt ??= now; // pongs come in order: the next one answers the first
    this.#transmit({ method: "ping" });
    return now;
  }

  /** Ask a relay that has become quiet for a word, and doubt what is known if none comes. */
  #watch() {
    const quiet = this.#environment.now() - this.#heardAt;
    if (quiet < QUIET_LIMIT) {
      this.#timers.after("quiet", QUIET_LIMIT - quiet, () => this.#watch());
      return;
    }
    const askedAt = this.#pingedAt ?? this.#ask();
    this.#timers.after("quiet", ANSWER_LIMIT, () => {
      if (this.#heardAt < askedAt) this.#doubt();
      else this.#watch();
    });
  }

  /** Nothing is lost yet: the relay may go on where it stopped. */
  #doubt() {
    if (this.state !== FeedState.LIVE && this.state !== FeedState.STALE) return;
    this.isSilent = true;
    for (const followed of this.#topics.values()) followed.doubt();
    this.#become(FeedState.STALE, "the relay does not answer");
  }

  #trust() {
    this.isSilent = false;
    for (const followed of this.#topics.values()) followed.trust();
    this.#become(this.#outage === null ? FeedState.LIVE : FeedState.STALE, this.#outage);
    this.#watch();
  }

  // What is asked of the relay.

  #request(followed) {
    if (this.#openedAt === null) return; // opening asks for all
    if (followed.id !== null) this.#requests.delete(followed.id);
    followed.id = this.#lastId += 1;
    this.#requests.set(followed.id, followed);
    this.#enqueue({ method: "subscribe", ...followed.wanted, id: followed.id });
  }

  #release(followed) {
    if (followed.subscriptions.size > 0 || this.#topics.get(followed.text) !== followed) return;
    this.#topics.delete(followed.text);
    this.#requests.delete(followed.id);
    this.#timers.cancel(`resync ${followed.text}`);
    const wasRefused = followed.state === TopicState.REFUSED;
    if (this.#openedAt !== null && !wasRefused) this.#unsubscribe(followed);
  }

  #unsubscribe(followed) {
    this.#enqueue({ method: "unsubscribe", ...followed.wanted, id: ++this.#lastId });
  }

  /** Get a fresh snapshot of one topic; each further one in a row waits twice as long. */
  #resyncLater(followed) {
    const now = this.#environment.now();
    if (now - followed.brokenAt > LONGEST_RETRY) followed.resyncs = 0;
    followed.brokenAt = now;
    const wait = followed.resyncs === 0 ? 0 : Math.min(LONGEST_RETRY, 500 * 2 ** followed.resyncs);
    followed.resyncs += 1;
    this.#timers.after(`resync ${followed.text}`, wait, () => {
      if (followed.image.isLive || this.#openedAt === null) return;
      this.counts.resyncs += 1;
      this.#unsubscribe(followed);
      this.#request(followed);
    });
  }

  /** A crossed book is stale, and asked for again unless a message heals it in a moment. */
  #lookAgain(followed) {
    if (followed.state === TopicState.STALE) return; // it is being looked after
    followed.become(TopicState.STALE);
    this.#timers.after(`resync ${followed.text}`, CROSSED_PATIENCE, () => {
      if (followed.image.isLive || this.#openedAt === null) return;
      this.counts.gaps += 1;
      followed.interrupt();
      this.#resyncLater(followed);
    });
  }

  #enqueue(request) {
    this.#pacer.add(request);
    this.#pump();
  }

  #pump() {
    const { ready, wait } = this.#pacer.take(this.#environment.now());
    for (const request of ready) this.#transmit(request);
    if (wait !== null) this.#timers.after("pace", wait, () => this.#pump());
  }

  #transmit(request) {
    const text = JSON.stringify(request);
    this.#socket.send(text);
    this.dispatchEvent(new CustomEvent("sent", { detail: text }));
  }

  // What the relay says.

  #received(text) {
    this.#heardAt = this.#environment.now();
    this.dispatchEvent(new CustomEvent("received", { detail: text }));
    if (this.isSilent) this.#trust();
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      message = null;
    }
    // A relay that refuses a connection opens it to say so: only what it says next is a welcome.
    const isWelcome = message?.type !== "bye" && message?.type !== "status";
    if (isWelcome && this.#outage === null) this.#become(FeedState.LIVE, null);
    if (message === null || typeof message !== "object") {
      this.counts.unreadable += 1;
    } else if ("method" in message) {
      this.#answered(message);
    } else if (typeof message.topic === "string" && "data" in message) {
      this.#published(message);
    } else {
      this.#noticed(message);
    }
  }

  #published(message) {
    const followed = this.#topics.get(message.topic);
    if (followed === undefined) return; // still on its way when its topic was given up
    this.counts.messages += 1;
    this.#countHealing(followed.image, message);
    let outcome;
    try {
      outcome = followed.image.apply(message);
    } catch {
      this.counts.unreadable += 1;
      outcome = Outcome.GAP; // a message that cannot be read is a message that is missing
    }
    if (outcome === Outcome.CROSSED) {
      this.#lookAgain(followed);
    } else if (outcome === Outcome.GAP) {
      this.counts.gaps += 1;
      followed.interrupt();
      this.#resyncLater(followed);
    } else if (outcome === Outcome.APPLIED) {
      this.#hadExchange = true;
      followed.applied(message, this.#outage !== null);
    }
  }

  /** A snapshot in the midst of a book is the relay's way to heal what it missed or withheld. */
  #countHealing(image, message) {
    const isCounted = image instanceof OrderBook && image.depth > 1 && image.isLive;
    const updateId = message.data?.u;
    if (!isCounted || message.type !== "snapshot" || updateId === 1) return;
    this.counts.resyncs += 1;
    if (updateId !== image.updateId + 1) this.counts.gaps += 1;
  }

  #answered(message) {
    if (message.method === "pong") {
      if (this.#pingedAt !== null) this.roundTrip = this.#environment.now() - this.#pingedAt;
      this.#pingedAt = null;
      return;
    }
    const followed = this.#requests.get(message.id);
    if (followed === undefined) return;
    if (message.success) {
      followed.acknowledged(this.#outage !== null);
      return;
    }
    const error = message.error ?? { code: "bad_request", message: "refused" };
    if (MOMENTARY.has(error.code)) {
      this.#timers.after(`resync ${followed.text}`, RETRY_REFUSED, () => this.#request(followed));
      return;
    }
    followed.error = error;
    followed.become(TopicState.REFUSED);
  }

  #noticed(message) {
    if (message.type === "status" && message.category === this.category) {
      const isDown = message.upstream !== "live";
      this.#hadExchange ||= !isDown;
      const verb = this.#hadExchange ? "has lost" : "is not connected to";
      this.#outage = isDown ? `the relay ${verb} the exchange` : null;
      for (const followed of this.#topics.values()) followed.upstreamChanged(isDown);
      this.#become(isDown ? FeedState.STALE : FeedState.LIVE, this.#outage);
    } else if (message.type === "gap") {
      this.counts.gaps += 1;
      this.#topics.get(message.topic)?.missed(message.dropped);
    } else if (message.type === "bye") {
      this.#bye = String(message.message ?? message.code);
    }
    this.dispatchEvent(new CustomEvent("notice", { detail: message }));
  }
}

function address(url, category) {
  const base = globalThis.location?.href;
  const complete = new URL(url ?? "/ws", base);
  complete.protocol = complete.protocol.replace(/^http/, "ws");
  complete.searchParams.set("category", category);
  return complete.href;
}
