/** The drawer that shows the protocol: what was sent and received, word for word, and how to say it. */

import { timeOfDay } from "../format.js";
import { byId, mark, part, put } from "./dom.js";
import { examples } from "./examples.js";

const KEPT = 150; // lines; older ones leave
const SHOWN = 400; // characters of a line before it is opened
const DRAW_EVERY = 250; // ms: a person reads no faster
const BEAT = /^\{"method":"p[io]ng"\}$/; // said every few seconds: it would crowd out the rest
const NAMES = { orderbook: "book", publicTrade: "trades", tickers: "ticker", kline: "candles" };

/** Lines of the wire, and examples to copy. */
export class Console {
  #lines = []; // {at, direction, kind, text}, not on the screen yet
  #talk = []; // requests, answers and notices so far without pings: what one opens the drawer for
  #skipped = 0;
  #drawnAt = 0;
  #timer = null;
  #isOpen = false;
  #isPaused = false;
  #filter = "";
  #examples = [];
  #chosen = 0;
  #page = {
    drawer: byId("console"),
    toggle: byId("console-toggle"),
    body: byId("console-body"),
    log: byId("log"),
    pause: byId("log-pause"),
    clear: byId("log-clear"),
    filter: byId("log-filter"),
    skipped: byId("log-skipped"),
    tabs: /** @type {HTMLElement[]} */ ([...document.querySelectorAll("#console [role=tab]")]),
    names: byId("example-names"),
    about: byId("example-about"),
    text: byId("example-text"),
    copy: byId("example-copy"),
  };

  constructor() {
    const page = this.#page;
    page.toggle.addEventListener("click", () => this.toggle());
    page.pause.addEventListener("click", () => this.#pause(!this.#isPaused));
    page.clear.addEventListener("click", () => this.#clear());
    page.filter.addEventListener("change", () => {
      this.#filter = page.filter.value;
      this.#clear();
      this.#lines = this.#talk.filter((line) => this.#passes(line));
      this.#draw();
    });
    page.copy.addEventListener("click", () => this.#copy());
    for (const tab of page.tabs) {
      tab.addEventListener("click", () => this.#select(tab));
      tab.addEventListener("keydown", (event) => this.#walk(event, tab));
    }
    page.drawer.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.#isOpen) return;
      this.toggle();
      page.toggle.focus();
    });
  }

  /** Open or close the drawer. */
  toggle() {
    const page = this.#page;
    this.#isOpen = !this.#isOpen;
    page.body.hidden = !this.#isOpen;
    page.toggle.setAttribute("aria-expanded", String(this.#isOpen));
    mark(page.drawer, "open", this.#isOpen ? "yes" : null);
    if (!this.#isOpen) return;
    page.log.replaceChildren();
    this.#lines = this.#talk.filter((line) => this.#passes(line));
    this.#draw();
  }

  /** Listen to a feed. */
  follow(feed) {
    feed.addEventListener("sent", ({ detail }) => this.#note("sent", detail));
    feed.addEventListener("received", ({ detail }) => this.#note("received", detail));
  }

  /** Write the examples for a market. */
  show(market) {
    const relay = { host: location.host, isSecure: location.protocol === "https:" };
    this.#examples = examples(market, relay);
    if (this.#page.names.options.length === 0) {
      this.#page.names.replaceChildren(...this.#examples.map(({ name }) => new Option(name)));
      this.#page.names.addEventListener("change", () => {
        this.#chosen = this.#page.names.selectedIndex;
        this.#drawExample();
      });
    }
    this.#drawExample();
  }

  #note(direction, text) {
    const kind = kindOf(direction, text);
    const isTalk = !Object.values(NAMES).includes(kind);
    if (!isTalk && (!this.#isOpen || this.#isPaused)) return;
    const line = { at: Date.now(), direction, kind, text };
    if (isTalk && !BEAT.test(text)) {
      this.#talk.push(line);
      if (this.#talk.length > KEPT) this.#talk.shift();
    }
    if (!this.#isOpen || this.#isPaused || !this.#passes(line)) return;
    this.#lines.push(line);
    if (this.#lines.length > KEPT) {
      this.#lines.shift();
      this.#skipped += 1;
    }
    const wait = Math.max(0, this.#drawnAt + DRAW_EVERY - Date.now());
    this.#timer ??= setTimeout(() => this.#draw(), wait);
  }

  #passes({ kind }) {
    if (this.#filter === "") return true;
    return this.#filter === "talk" ? !Object.values(NAMES).includes(kind) : kind === this.#filter;
  }

  #draw() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#drawnAt = Date.now();
    const { log, skipped } = this.#page;
    const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    log.append(...this.#lines.map(lineElement));
    this.#lines = [];
    while (log.childElementCount > KEPT) log.firstElementChild.remove();
    if (isAtEnd) log.scrollTop = log.scrollHeight;
    put(skipped, this.#skipped ? `${this.#skipped} not shown: they came faster than lines are drawn` : "");
  }

  #pause(isPaused) {
    this.#isPaused = isPaused;
    this.#page.pause.setAttribute("aria-pressed", String(isPaused));
    put(this.#page.pause, isPaused ? "Go on" : "Pause");
  }

  #clear() {
    this.#lines = [];
    this.#skipped = 0;
    this.#page.log.replaceChildren();
    put(this.#page.skipped, "");
  }

  #select(chosen) {
    for (const tab of this.#page.tabs) {
      const isChosen = tab === chosen;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).hidden = !isChosen;
    }
  }

  #walk(event, tab) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    const { tabs } = this.#page;
    const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    this.#select(next);
    next.focus();
  }

  #drawExample() {
    const { about, text } = this.#examples[this.#chosen];
    put(this.#page.about, about);
    put(this.#page.text, text);
  }

  async #copy() {
    const { copy, text } = this.#page;
    let words = "Copied";
    try {
      await navigator.clipboard.writeText(text.textContent);
    } catch {
      // Only pages of a secure origin may write to the clipboard: leave it to the visitor's keys.
      getSelection().selectAllChildren(text);
      words = "Selected: press Ctrl+C";
    }
    put(copy, words);
    setTimeout(() => put(copy, "Copy"), 2_000);
  }
}

function lineElement({ at, direction, kind, text }) {
  const line = part("details", "line");
  mark(line, "kind", kind);
  const summary = part("summary");
  summary.append(
    part("time", "", timeOfDay(at)),
    part("span", "arrow", direction === "sent" ? "↑" : "↓"),
    part("span", "kind", kind),
    part("code", "", text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text),
  );
  line.append(summary);
  line.addEventListener("toggle", () => {
    if (line.open && line.childElementCount === 1) line.append(part("pre", "", pretty(text)));
  });
  return line;
}

/** What a text on the wire is: request, answer, notice, book, trades, ticker or candles. */
function kindOf(direction, text) {
  if (direction === "sent") return "request";
  const feed = /^\{"topic":\s*"(\w+)\./.exec(text)?.[1]; // data has its topic first: no parsing
  if (feed !== undefined && Object.hasOwn(NAMES, feed)) return NAMES[feed];
  if (/^\{"method"/.test(text)) return /"success":\s*false/.test(text) ? "refusal" : "answer";
  return "notice";
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
