/** The admin's live page: one state, drawn on the next frame whenever something comes. */

import { Actions } from "./actions.js";
import { LiveFeed } from "./feed.js";
import { LiveTable, put } from "./table.js";
import {
  CONNECTION_COLUMNS,
  EVENT_COLUMNS,
  FaultWatch,
  History,
  PAGE,
  PROCESS_COLUMNS,
  REMEMBERED,
  TABS,
  TILES,
  TOPIC_COLUMNS,
  UPSTREAM_COLUMNS,
  WORKER_COLUMNS,
  ago,
  allIsWell,
  categoryFacts,
  categoryState,
  clientConnections,
  faultsIn,
  freshness,
  moment,
  noneOf,
  pageNumbers,
  queryOf,
  questionOf,
  rate,
  sortedBy,
  sparkline,
  upstreamConnections,
  viewFrom,
  whole,
} from "./picture.js";

const SEARCH_PAUSE = 150; // ms: typing asks once
const TOLD_FOR = 8_000; // ms that a success is shown
const SPARK_HEIGHT = 40;
const SVG = "http://www.w3.org/2000/svg";
const TITLE = document.title;
const HAS_ROOM = matchMedia("(min-width: 1800px)"); // as in page.css
const LATELY = 30; // events

/** The element of the template with that id. @type {(id: string) => any} */
const byId = (id) => document.getElementById(id);
const root = byId("live");
const may = new Set(root.dataset.actions.split(" ").filter(Boolean));
const address = (name) => new URL(root.dataset[name], location.href);

const state = {
  view: viewFrom(location.search),
  history: new History(),
  watch: new FaultWatch(),
  faults: [],
  picture: null,
  age: "waiting",
  pointed: null, // {key, index}: the second of a sparkline that the pointer is over
};

const socketUrl = address("socket");
socketUrl.protocol = socketUrl.protocol.replace(/^http/, "ws");
const feed = new LiveFeed({
  socketUrl,
  jsonUrl: address("source"),
  isHidden: () => document.hidden,
});

/** The server's time: what is measured against its times needs its clock. */
function serverNow() {
  const { picture, receivedAt } = feed;
  return picture === null ? Date.now() : Date.parse(picture.generated_at) + Date.now() - receivedAt;
}

feed.addEventListener("picture", () => {
  state.picture = feed.picture;
  state.history.take(feed.picture);
  state.faults = state.watch.look(faultsIn(feed.picture), Date.parse(feed.picture.generated_at));
  sayInTitle(); // also on a hidden page, which is when it matters
  schedule();
});
feed.addEventListener("state", schedule);

let isScheduled = false;

function schedule() {
  if (isScheduled) return;
  isScheduled = true;
  requestAnimationFrame(() => {
    isScheduled = false;
    draw();
  });
}

function sayInTitle() {
  const { age } = freshness(feed, Date.now());
  const sign = age === "old" ? "(?) " : state.faults.length > 0 ? `(${state.faults.length}) ` : "";
  if (document.title !== sign + TITLE) document.title = sign + TITLE;
}

// Tables.

const actions = new Actions(byId("live-dialog"), new URL(location.pathname, location.href), tell);
const topicFields = ({ category, topic }) => ({ category, topic });
const topicActions = [
  {
    name: "resync",
    words: () => "Resync",
    act: (item) => actions.ask("resync", item, topicFields(item)),
  },
  {
    name: "pin",
    words: (item) => (item.pinned ? "Unpin" : "Pin"),
    act: (item) => actions.ask(item.pinned ? "unpin" : "pin", item, topicFields(item)),
  },
].filter(({ name }) => may.has(name));
const connectionActions = [
  {
    name: "disconnect",
    words: () => "Disconnect",
    act: (item) => actions.ask("disconnect", item, { process: item.process, client: item.client }),
  },
].filter(({ name }) => may.has(name));

const topics = new LiveTable(byId("result_list"), {
  columns: TOPIC_COLUMNS,
  keyOf: ({ category, topic }) => `${category} ${topic}`,
  actions: topicActions,
  dress: (cell, { pinned }) => cell.classList.toggle("live-pinned", pinned === true),
});
const connections = new LiveTable(byId("live-connections"), {
  columns: CONNECTION_COLUMNS,
  keyOf: ({ process, client }) => `${process} ${client}`,
  actions: connectionActions,
});
const upstream = new LiveTable(byId("live-upstream"), {
  columns: UPSTREAM_COLUMNS,
  keyOf: ({ category, number }) => `${category} ${number}`,
});
const processes = new LiveTable(byId("live-processes"), {
  columns: PROCESS_COLUMNS,
  keyOf: ({ process }) => process,
});
const workers = new LiveTable(byId("live-workers"), {
  columns: WORKER_COLUMNS,
  keyOf: ({ process }) => process,
});
const events = new LiveTable(byId("live-events"), {
  columns: EVENT_COLUMNS,
  keyOf: ({ at, kind, category, topic, words, process }) =>
    JSON.stringify([at, kind, category, topic, words, process]),
  dress: (cell, { kind }) => (cell.parentElement.dataset.kind = kind),
});

let isHeld = false; // whether the table that is shown keeps its order for the operator's hand

const draws = {
  topics: (picture, now) => {
    const none = isFiltered() ? "No topic matches." : noneOf("topics", picture);
    topics.update(picture.topics, now, none);
    isHeld = topics.isHeld;
    drawHeadings();
    drawStates(picture.states ?? {});
    drawPaginator(picture.topics_matched ?? picture.topics.length);
  },
  connections: (picture, now) => {
    connections.update(clientConnections(picture), now, "No client is connected.");
    isHeld = connections.isHeld;
    const { clients } = picture.totals;
    const shown = picture.connections.length;
    const words = shown < clients ? `The ${whole(shown)} of ${whole(clients)} with most unsent bytes` : "Most unsent bytes first";
    put(byId("live-connections-note"), words);
  },
  upstream: (picture, now) =>
    upstream.update(upstreamConnections(picture.upstream), now, noneOf("upstream", picture)),
  processes: (picture, now) => {
    processes.update(picture.processes, now, "No process has reported.");
    workers.update(picture.workers ?? [], now, noneOf("workers", picture));
  },
  events: (picture, now) => events.update(picture.events, now, "Nothing has happened yet."),
};

const counted = {
  topics: ({ totals }) => totals.topics,
  connections: ({ totals }) => totals.clients,
  upstream: (picture) => upstreamConnections(picture.upstream).length,
  processes: ({ processes: some, workers: others }) => some.length + (others ?? []).length,
  events: ({ events: some }) => some.length,
};

function draw() {
  const now = Date.now();
  const { age, words } = freshness(feed, now);
  root.dataset.age = age;
  root.dataset.by = feed.by ?? "";
  put(byId("live-age"), words);
  sayInTitle();
  announce(age);
  const { picture } = state;
  if (picture === null) return;
  const serverTime = serverNow();
  drawFaults(serverTime);
  drawTiles();
  drawCategories(serverTime);
  if (HAS_ROOM.matches) drawLately(serverTime);
  for (const tab of TABS) put(byId(`tab-${tab}`).lastElementChild, whole(counted[tab](picture)));
  isHeld = false;
  draws[state.view.tab](picture, serverTime);
  put(byId("live-held"), isHeld ? "Rows keep their places while you point at them" : "");
}

// Faults.

const SHOW = Object.freeze({
  topics: "Show them",
  connections: "Show connections",
  upstream: "Show connections to the exchange",
  processes: "Show processes",
  events: "Show events",
});

function drawFaults(now) {
  const list = byId("live-faults");
  const { faults, picture } = state;
  const shown = faults.length > 0 ? faults : [{ level: "well", words: allIsWell(picture), detail: "", since: null, view: null }];
  while (list.children.length > shown.length) list.lastElementChild.remove();
  while (list.children.length < shown.length) {
    const item = document.createElement("li");
    for (const tag of ["strong", "span", "span", "a"]) item.append(document.createElement(tag), " ");
    list.append(item);
  }
  shown.forEach((fault, index) => {
    const item = list.children[index];
    const [words, detail, since, link] = item.children;
    const kind = { bad: "error", warn: "warning", well: "success" }[fault.level];
    if (item.className !== kind) item.className = kind;
    put(words, fault.words);
    put(detail, fault.detail);
    put(since, fault.since === null || !fault.isLasting ? "" : `for ${ago(fault.since, now)}`);
    link.hidden = fault.view === null;
    if (fault.view === null) return;
    put(link, SHOW[fault.view.tab]);
    link.href = queryOf({ ...state.view, ...fault.view });
  });
}

/** Have it spoken when something changes; what is seen changes each second. */
function announce(age) {
  if (age === "waiting") return;
  const old = age === "old" ? ["These numbers are old"] : [];
  const told = [...old, ...state.faults.map(({ words }) => words)];
  put(byId("live-told"), told.length > 0 ? `${told.join(". ")}.` : "All is well.");
}

// The last events, where there is room for them next to everything else.

const lately = [];

function drawLately(now) {
  const list = byId("live-lately");
  const shown = state.picture.events.slice(0, LATELY);
  while (lately.length > shown.length) lately.pop().element.remove();
  while (lately.length < shown.length) {
    const element = document.createElement("li");
    const [at, kind, words] = ["time", "strong", "span"].map((tag) => document.createElement(tag));
    element.append(at, kind, words);
    list.append(element);
    lately.push({ element, at, kind, words });
  }
  shown.forEach((event, index) => {
    const row = lately[index];
    row.element.dataset.kind = event.kind;
    put(row.at, moment(event.at, now));
    put(row.kind, event.topic || event.category || event.kind);
    put(row.words, event.words);
  });
}

// Tiles and categories.

const tiles = new Map(); // name of the series -> {tile, value, line, area, ...}

for (const { key, label } of TILES) {
  tiles.set(key, makeTile(byId("live-totals"), key, label));
}

function makeTile(list, key, label) {
  const tile = document.createElement("li");
  tile.className = "live-tile";
  tile.dataset.key = key;
  const [name, value, note] = ["label", "value", "note"].map((kind) => {
    const part = document.createElement("span");
    part.className = `live-${kind}`;
    return part;
  });
  name.textContent = label;
  tile.append(name, value);
  list.append(tile);
  return { tile, value, note, ...makeSpark(tile, key, note) };
}

function makeSpark(tile, key, note) {
  const graph = document.createElementNS(SVG, "svg");
  graph.setAttribute("viewBox", `0 0 ${REMEMBERED - 1} ${SPARK_HEIGHT}`);
  graph.setAttribute("preserveAspectRatio", "none");
  graph.setAttribute("role", "img");
  graph.setAttribute("class", "live-spark");
  const area = document.createElementNS(SVG, "path");
  const line = document.createElementNS(SVG, "path");
  const cursor = document.createElementNS(SVG, "path");
  area.setAttribute("class", "live-area");
  line.setAttribute("class", "live-line");
  cursor.setAttribute("class", "live-cursor");
  graph.append(area, line, cursor);
  tile.append(graph, note);
  graph.addEventListener("pointermove", (event) => {
    const { left, width } = graph.getBoundingClientRect();
    const index = Math.round(((event.clientX - left) / width) * (REMEMBERED - 1));
    state.pointed = { key, index: Math.min(REMEMBERED - 1, Math.max(0, index)) };
    schedule();
  });
  graph.addEventListener("pointerleave", () => {
    state.pointed = null;
    schedule();
  });
  return { graph, area, line, cursor, name: tile.firstElementChild.textContent };
}

function drawSpark(key, { graph, area, line, cursor, note, name }, write, isAbsent = false) {
  const values = isAbsent ? [] : state.history.of(key);
  const drawn = sparkline(values, SPARK_HEIGHT);
  area.setAttribute("d", drawn.area);
  line.setAttribute("d", drawn.line);
  const range = drawn.highest === null ? "no numbers yet" : `between ${write(drawn.lowest)} and ${write(drawn.highest)}`;
  graph.setAttribute("aria-label", `${name} in the last five minutes: ${range}`);
  const pointed = state.pointed?.key === key ? state.pointed.index : null;
  if (pointed === null) {
    cursor.setAttribute("d", "");
    put(note, drawn.highest === null ? "" : `peak ${write(drawn.highest)}`);
    return;
  }
  cursor.setAttribute("d", `M${pointed},0V${SPARK_HEIGHT}`);
  const value = values[pointed - (REMEMBERED - values.length)];
  const seconds = REMEMBERED - 1 - pointed;
  put(note, value === undefined || value === null ? "no number" : `${write(value)}, ${seconds} s ago`);
}

function drawTiles() {
  const { picture } = state;
  for (const { key, write, unit = "", isFault = () => false } of TILES) {
    const tile = tiles.get(key);
    const value = picture.totals[key];
    put(tile.value, Number.isFinite(value) ? write(value) + unit : write(value, picture));
    tile.tile.classList.toggle("live-fault", isFault(value, picture));
    drawSpark(key, tile, (some) => write(some) + unit, value === null);
  }
}

const cards = new Map(); // category -> its card

function drawCategories(now) {
  for (const [category, entry] of Object.entries(state.picture.upstream)) {
    const key = `upstream.${category}`;
    let card = cards.get(category);
    if (card === undefined) {
      card = makeTile(byId("live-categories"), key, category);
      card.facts = document.createElement("dl");
      card.tile.append(card.facts);
      card.rate = document.createElement("span");
      card.rate.className = "live-rate";
      card.value.after(card.rate);
      cards.set(category, card);
      addCategory(category);
    }
    card.value.dataset.state = card.tile.dataset.upstream = entry.state;
    put(card.value, categoryState(entry, state.picture, now));
    put(card.rate, Number.isFinite(entry.messages_per_second) ? `${rate(entry.messages_per_second)}/s` : "");
    drawSpark(key, card, (some) => `${rate(some)}/s`);
    drawFacts(card.facts, categoryFacts(entry, state.picture));
  }
}

function drawFacts(list, facts) {
  while (list.children.length < facts.length) {
    const pair = document.createElement("div");
    pair.append(document.createElement("dt"), document.createElement("dd"));
    list.append(pair);
  }
  facts.forEach(([label, words], index) => {
    const [term, value] = list.children[index].children;
    put(term, label);
    put(value, words);
  });
}

// The topics table: sorting, search, filters and pages, all kept in the page's address.

function isFiltered() {
  const { search, category, state: wanted } = state.view;
  return Boolean(search || category || wanted);
}

/** Look at something else; the address says it, so that a reload and a bookmark keep it. */
function go(view) {
  const question = JSON.stringify(questionOf(state.view));
  state.view = view;
  history.replaceState(null, "", location.pathname + queryOf(view));
  if (JSON.stringify(questionOf(view)) !== question) {
    topics.release();
    feed.ask(questionOf(view));
  }
  drawTabs();
  drawControls();
  schedule();
}

/** Make a link that changes the view; it can be opened elsewhere too, as links can. */
function link(element, view) {
  element.href = location.pathname + queryOf(view);
  element.onclick = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go(view);
  };
}

topics.headings.forEach((heading, index) => {
  const column = TOPIC_COLUMNS[index];
  const anchor = document.createElement("a");
  anchor.textContent = column.heading;
  heading.firstElementChild.replaceChildren(anchor);
  heading.classList.add("sortable");
});

function drawHeadings() {
  topics.headings.forEach((heading, index) => {
    const column = TOPIC_COLUMNS[index];
    const isSorted = state.view.sort === column.key;
    const order = isSorted ? (state.view.descending ? "descending" : "ascending") : "none";
    if (heading.ariaSort === order) return;
    heading.ariaSort = order;
    heading.classList.toggle("sorted", isSorted);
    link(heading.querySelector("a"), sortedBy(state.view, column));
  });
}

const drawnPages = { words: null };

function drawPaginator(matched) {
  const pages = Math.max(1, Math.ceil(matched / PAGE));
  const { view } = state;
  if (view.page > pages) {
    go({ ...view, page: pages });
    return;
  }
  const words = JSON.stringify([pages, matched, queryOf(view)]);
  if (drawnPages.words === words) return;
  drawnPages.words = words;
  const list = byId("live-pages");
  const numbers = pages > 1 ? pageNumbers(view.page, pages) : [];
  const isFocused = list.contains(document.activeElement);
  list.replaceChildren(
    ...numbers.map((number) => {
      const part = document.createElement(number === null || number === view.page ? "span" : "a");
      put(part, number === null ? "…" : String(number));
      if (number === view.page) {
        part.className = "this-page";
        part.ariaCurrent = "page";
        part.tabIndex = -1;
      } else if (number !== null) {
        part.ariaLabel = `Page ${number}`;
        link(part, { ...view, page: number });
      }
      return part;
    }),
  );
  if (isFocused) /** @type {HTMLElement|null} */ (list.querySelector(".this-page"))?.focus();
  const total = state.picture.totals.topics;
  const of = isFiltered() ? ` of ${whole(total)}` : "";
  put(byId("live-matched"), `${whole(matched)}${of} topic${(of ? total : matched) === 1 ? "" : "s"}`);
}

const search = byId("searchbar");
let searchTimer = null;

function filtersChanged() {
  clearTimeout(searchTimer);
  const { value: category } = byId("live-category");
  const { value: wanted } = byId("live-state");
  go({ ...state.view, search: search.value, category, state: wanted, page: 1 });
}

search.addEventListener("input", () => {
  clearTimeout(searchTimer);
  searchTimer = setTimeout(filtersChanged, SEARCH_PAUSE);
});
byId("live-category").addEventListener("change", filtersChanged);
byId("live-state").addEventListener("change", filtersChanged);
byId("changelist-search").addEventListener("submit", (event) => {
  event.preventDefault();
  filtersChanged();
});
byId("live-clear").addEventListener("click", () => {
  search.value = byId("live-category").value = byId("live-state").value = "";
  filtersChanged();
  search.focus();
});

/** Say in the filter how many topics there are of each state. */
function drawStates(counts) {
  for (const option of byId("live-state").options) {
    if (option.value !== "") put(option, `${option.value} (${whole(counts[option.value] ?? 0)})`);
  }
}

/** Offer a category in the filter as soon as it is known. */
function addCategory(category) {
  const filter = byId("live-category");
  if ([...filter.options].some(({ value }) => value === category)) return;
  filter.add(new Option(category, category, false, category === state.view.category));
}

/** Show in the controls what the view says, where the operator is not typing. */
function drawControls() {
  const { view } = state;
  if (document.activeElement !== search) search.value = view.search;
  if (view.category) addCategory(view.category);
  byId("live-category").value = view.category;
  byId("live-state").value = view.state;
  byId("live-clear").hidden = !isFiltered();
  drawHeadingsAnew();
}

function drawHeadingsAnew() {
  for (const heading of topics.headings) heading.ariaSort = null;
}

// Tabs.

const tabs = TABS.map((name) => byId(`tab-${name}`));

function drawTabs() {
  tabs.forEach((tab, index) => {
    const isChosen = TABS[index] === state.view.tab;
    tab.ariaSelected = String(isChosen);
    tab.tabIndex = isChosen ? 0 : -1;
    byId(tab.getAttribute("aria-controls")).hidden = !isChosen;
  });
}

tabs.forEach((tab, index) => {
  tab.addEventListener("click", () => go({ ...state.view, tab: TABS[index] }));
  tab.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: TABS.length - 1 };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const next = (steps[event.key] + TABS.length) % TABS.length;
    go({ ...state.view, tab: TABS[next] });
    tabs[next].focus();
  });
});

byId("live-faults").addEventListener("click", (event) => {
  const anchor = /** @type {Element} */ (event.target).closest("a");
  if (anchor === null || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go(viewFrom(anchor.search));
  byId(`tab-${state.view.tab}`).focus({ preventScroll: true });
  byId(`tab-${state.view.tab}`).scrollIntoView({ block: "nearest" });
});

// What actions answer.

let toldTimer = null;

function tell(isDone, words) {
  const list = byId("live-messages");
  const item = document.createElement("li");
  item.className = isDone ? "success" : "error";
  item.textContent = words;
  list.replaceChildren(item);
  clearTimeout(toldTimer);
  if (isDone) toldTimer = setTimeout(() => item.remove(), TOLD_FOR);
}

// Begin.

drawTabs();
drawControls();
feed.ask(questionOf(state.view));
feed.start();
addEventListener("online", () => feed.look());
addEventListener("pagehide", () => feed.close());
addEventListener("pageshow", (event) => event.persisted && feed.start());
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) feed.look();
});
setInterval(() => {
  const isOverdue = Date.now() - (feed.receivedAt ?? 0) > 1_500;
  if (isOverdue && !document.hidden) schedule(); // ages move on without a new overview too
}, 1_000);
