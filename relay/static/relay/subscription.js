/** Topics of a feed: what is known of each, and who holds it. */

import { OrderBook } from "./book.js";
import { Candles } from "./candles.js";
import { Tape } from "./tape.js";
import { Ticker } from "./ticker.js";

/** States of a `Subscription`. */
export const TopicState = Object.freeze({
  WAITING: "waiting",
  LIVE: "live",
  STALE: "stale",
  REFUSED: "refused",
  CLOSED: "closed",
});

const IMAGES = {
  orderbook: ({ levels }) => new OrderBook({ depth: levels }),
  publicTrade: () => new Tape(),
  tickers: () => new Ticker(),
  kline: () => new Candles(),
};

/** Your hold on one topic. */
export class Subscription {
  #followed;
  #listener;
  #release;
  #isClosed = false;

  /** Made by `MarketFeed.subscribe`. */
  constructor(followed, listener, release) {
    this.#followed = followed;
    this.#listener = listener;
    this.#release = release;
  }

  /** As Bybit writes it, such as "orderbook.50.BTCUSDT". */
  get topic() {
    return this.#followed.text;
  }

  /** The `OrderBook`, `Ticker`, `Tape` or `Candles`. */
  get image() {
    return this.#followed.image;
  }

  /** A `TopicState`. */
  get state() {
    return this.#isClosed ? TopicState.CLOSED : this.#followed.state;
  }

  /** `{code, message}` of the refusal, else null. */
  get error() {
    return this.#followed.error;
  }

  /** Let go; the last one to let go of a topic unsubscribes it. */
  close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#followed.subscriptions.delete(this);
    this.#release();
  }

  /** Called by the feed after each message and change of state. */
  tell(message) {
    this.#listener(this, message);
  }
}

/** A topic this feed follows: its image, and who holds it. */
export class Followed {
  constructor(wanted, text) {
    this.wanted = wanted;
    this.text = text;
    this.image = IMAGES[wanted.topic](wanted);
    /** @type {string} a `TopicState` */
    this.state = TopicState.WAITING;
    this.error = null;
    this.id = null; // of the latest subscribe: a refusal may come late, with the same id
    this.resyncs = 0; // in a row
    this.brokenAt = 0; // Unix ms of the last gap
    this.isDoubted = false; // live, if only the relay went on
    this.subscriptions = new Set();
  }

  become(state) {
    this.isDoubted = false;
    if (state === this.state) return;
    this.state = state;
    this.tell(null);
  }

  applied(message, isUpstreamDown) {
    this.isDoubted = false;
    this.state = isUpstreamDown ? TopicState.STALE : TopicState.LIVE;
    this.tell(message);
  }

  interrupt() {
    this.image.interrupt();
    const wasDoubted = this.isDoubted;
    this.isDoubted = false;
    if (this.state === TopicState.LIVE) this.become(TopicState.STALE);
    else if (wasDoubted) this.tell(null); // stale as before, but now for certain
  }

  /** The relay is silent: whether the image is still the exchange's is not known. */
  doubt() {
    if (this.state !== TopicState.LIVE) return;
    this.become(TopicState.STALE);
    this.isDoubted = true;
  }

  /** The relay goes on, on the same connection: nothing was lost. */
  trust() {
    if (this.isDoubted) this.become(TopicState.LIVE);
  }

  /** Trades are events: a quiet topic without any is as live as it gets. */
  acknowledged(isUpstreamDown) {
    if (this.wanted.topic !== "publicTrade" || isUpstreamDown) return;
    this.image.isLive = true;
    this.become(TopicState.LIVE);
  }

  /** The image itself stays: where the sequence went on, the next message proves it. */
  upstreamChanged(isDown) {
    if (isDown && this.state === TopicState.LIVE) this.become(TopicState.STALE);
    const isEvents = this.wanted.topic === "publicTrade";
    if (!isDown && isEvents && this.image.isLive) this.become(TopicState.LIVE);
  }

  missed(count) {
    this.image.miss?.(count);
    this.tell(null);
  }

  tell(message) {
    for (const subscription of [...this.subscriptions]) {
      try {
        subscription.tell(message);
      } catch (error) {
        // A listener's fault is its own: the others are still called, and the console shows it.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}

/**
 * The request with its defaults filled in, and nothing the relay does not know.
 *
 * @param {{topic: string, symbol: string, levels?: number, interval?: string|number}} request
 * @param {string} category
 * @returns {{topic: string, symbol: string, levels?: number, interval?: string}}
 */
export function complete({ topic, symbol, levels, interval }, category) {
  if (!Object.hasOwn(IMAGES, topic)) throw new TypeError(`unknown topic: ${topic}`);
  if (topic === "kline") return { topic, symbol, interval: String(interval) };
  if (topic !== "orderbook") return { topic, symbol };
  return { topic, symbol, levels: levels ?? (category === "option" ? 100 : 50) };
}

/**
 * The topic as Bybit writes it.
 *
 * @param {{topic: string, symbol: string, levels?: number, interval?: string}} request
 */
export function topicText({ topic, symbol, levels, interval }) {
  return [topic, levels ?? interval, symbol].filter((part) => part !== undefined).join(".");
}
