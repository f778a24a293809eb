/**
 * Brings the admin's live page the overview each second: over a socket, else by asking.
 *
 *     const feed = new LiveFeed({ socketUrl, jsonUrl });
 *     feed.addEventListener("picture", () => draw(feed.picture));
 *     feed.addEventListener("state", () => say(feed.by, feed.reason));
 *     feed.ask({ search: "btc", sort: "subscribers", descending: true, offset: 0, limit: 100 });
 *     feed.start();
 *
 * | `feed.by` | meaning |
 * |---|---|
 * | `null` | nothing has come yet, or nothing comes any more |
 * | `socket` | the server pushes |
 * | `polling` | there is no socket now; `live.json` is asked, and `feed.retryAt` says when the socket is tried again |
 *
 * No DOM; works in Node from 22 too.
 */

import { Verdict, delay, verdict } from "../backoff.js";
import { Timers } from "../timers.js";

const POLL = 1_000; // ms
const PATIENCE = 4_000; // ms for one answer of `live.json`
const CONNECT_LIMIT = 10_000; // ms
const SILENCE_LIMIT = 5_000; // ms: a socket that pushes each second has gone
const HEAD_START = 1_500; // ms that the socket has before the page asks for itself
const OF_USE_AFTER = 5_000; // ms: a socket that held so long ends a series of failures
const REFUSED = Object.freeze({
  4001: "you are no longer signed in, or lack the permission",
  4111: "the server's database does not say whether you may see this",
  4003: "the server does not accept this page's origin",
});

/** The overview as the server knows it, renewed each second. */
export class LiveFeed extends EventTarget {
  #environment;
  #socketUrl;
  #jsonUrl;
  #query = {};
  #socket = null;
  #openedAt = null;
  #failures = 0;
  #timers;
  #asked = 0; // questions to `live.json`; an answer to an older one is dropped
  #isClosed = true;

  /**
   * @param {object} options
   * @param {string|URL} options.socketUrl of the live socket
   * @param {string|URL} options.jsonUrl of `live.json`
   * @param {() => boolean} [options.isHidden] whether the page is hidden: then nothing is asked for
   * @param {object} [options.environment] what tests put in place of the browser: any of
   *   `WebSocket`, `fetch`, `now`, `random`, `setTimeout`, `clearTimeout`
   */
  constructor({ socketUrl, jsonUrl, isHidden = () => false, environment = {} }) {
    super();
    this.#socketUrl = socketUrl;
    this.#jsonUrl = jsonUrl;
    this.#environment = {
      WebSocket: globalThis.WebSocket,
      fetch: (input, init) => globalThis.fetch(input, init),
      now: () => Date.now(),
      random: Math.random,
      setTimeout: (callback, wait) => globalThis.setTimeout(callback, wait),
      clearTimeout: (handle) => globalThis.clearTimeout(handle),
      ...environment,
      isHidden,
    };
    this.#timers = new Timers(this.#environment);
    /** The last overview, null before the first. */
    this.picture = null;
    /** When it came, and when its `generated_at` last moved, in Unix ms. */
    this.receivedAt = null;
    this.changedAt = null;
    /** How it came. */
    this.by = null;
    /** Why there is no socket, in words; null while there is one. */
    this.reason = null;
    /** What went wrong with the last question to `live.json`, in words, or null. */
    this.fault = null;
    /** Unix ms of the next attempt at a socket, else null. */
    this.retryAt = null;
  }

  /** Begin. */
  start() {
    this.#isClosed = false;
    this.connect();
    this.#timers.after("poll", HEAD_START, () => this.#poll());
  }

  /** Try the socket now instead of waiting any longer. */
  connect() {
    if (this.#isClosed || this.#socket !== null) return;
    this.#timers.cancel("retry");
    this.retryAt = null;
    const socket = new this.#environment.WebSocket(this.#socketUrl);
    this.#socket = socket;
    // Each handler asks whether it is still about the current socket: one that was given up may
    // report its end much later.
    socket.onopen = () => socket === this.#socket && this.#opened();
    socket.onmessage = (event) => socket === this.#socket && this.#pushed(event.data);
    socket.onclose = (event) => socket === this.#socket && this.#lost(event.code);
    this.#timers.after("silence", CONNECT_LIMIT, () => this.#giveUp());
  }

  /**
   * Say which topics are wanted from now on; the answer comes at once.
   *
   * @param {{search?: string, category?: string, state?: string, sort?: string,
   *   descending?: boolean, offset?: number, limit?: number}} query
   */
  ask(query) {
    this.#query = query;
    if (this.#openedAt !== null) this.#say();
    else if (this.receivedAt !== null) this.#poll();
  }

  /** The page is visible again, or the network is back: wait no longer. */
  look() {
    this.connect();
    if (this.by !== "socket") this.#poll();
  }

  /** Stop for good. */
  close() {
    this.#isClosed = true;
    this.#drop();
    this.#timers.cancelAll();
  }

  // The socket.

  #opened() {
    this.#openedAt = this.#environment.now();
    this.#listen();
    this.#say();
  }

  #say() {
    this.#socket.send(JSON.stringify({ topics: this.#query }));
  }

  #listen() {
    this.#timers.after("silence", SILENCE_LIMIT, () => this.#giveUp());
  }

  #pushed(text) {
    let picture;
    try {
      picture = JSON.parse(text);
    } catch {
      return; // the silence that follows ends the connection
    }
    this.#listen();
    this.#timers.cancel("poll");
    this.#asked += 1; // whatever is still being answered is older
    this.reason = this.fault = null;
    this.#take(picture, "socket");
  }

  #giveUp() {
    this.#lost(1006, "the live socket fell silent");
  }

  #lost(code, words = REFUSED[code] ?? `the live socket was closed (${code})`) {
    const now = this.#environment.now();
    if (this.#openedAt !== null && now - this.#openedAt >= OF_USE_AFTER) this.#failures = 0;
    this.#drop();
    this.by = null;
    this.reason = words;
    if (verdict(code) !== Verdict.STOP) {
      const wait = delay(code, this.#failures, this.#environment.random());
      this.#failures += 1;
      this.retryAt = now + wait;
      this.#timers.after("retry", wait, () => this.connect());
    }
    this.#poll();
    this.#tell();
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    this.#openedAt = null;
    this.#timers.cancel("silence");
    socket?.close();
  }

  // Asking.

  async #poll() {
    if (this.#isClosed) return;
    // Set first: whatever becomes of this question, there is a next one.
    this.#timers.after("poll", this.#environment.isHidden() ? POLL : PATIENCE + POLL, () => this.#poll());
    if (this.#environment.isHidden()) return;
    const number = ++this.#asked;
    const before = this.#environment.now();
    let picture = null;
    let fault = null;
    try {
      picture = await this.#question();
    } catch (error) {
      fault = error.name === "TimeoutError" ? "the server does not answer" : error.message;
    }
    if (this.#isClosed || number !== this.#asked) return;
    const took = this.#environment.now() - before;
    this.#timers.after("poll", Math.max(0, POLL - took), () => this.#poll());
    this.fault = fault;
    if (picture === null) {
      this.#tell();
      return;
    }
    this.#take(picture, "polling");
    // Refused for good, and now welcome again: the user has signed in.
    if (this.#socket === null && this.retryAt === null && this.reason === REFUSED[4001]) this.connect();
  }

  async #question() {
    const url = new URL(this.#jsonUrl);
    for (const [name, value] of Object.entries(this.#query)) {
      if (value !== "" && value !== null && value !== undefined) url.searchParams.set(name, value);
    }
    if (this.picture === null) url.searchParams.set("history", "yes"); // a socket would bring it
    const answer = await this.#environment.fetch(url, {
      headers: { Accept: "application/json" },
      signal: AbortSignal.timeout(PATIENCE),
    });
    if (answer.status === 403) throw new Error(REFUSED[4001]);
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    return answer.json();
  }

  // Both.

  #take(picture, by) {
    const now = this.#environment.now();
    if (picture.generated_at !== this.picture?.generated_at) this.changedAt = now;
    this.picture = picture;
    this.receivedAt = now;
    this.by = by;
    this.dispatchEvent(new CustomEvent("picture", { detail: picture }));
    this.#tell();
  }

  #tell() {
    this.dispatchEvent(new CustomEvent("state"));
  }
}
