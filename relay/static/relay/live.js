/** The admin's live page: asks for `live.json` each second and keeps the tables in step. */

import {
  TOPIC_COLUMNS,
  chosenTopics,
  freshness,
  tabulated,
  topicRow,
  totals,
  upstreamList,
} from "./picture.js";

const POLL = 1_000; // ms
const PATIENCE = 4_000; // ms for one answer
const MOST_ROWS = 500; // a page of thousands of rows would be slow to draw; the filter finds the rest

const byId = (id) => document.getElementById(id);
const root = byId("live");

const state = {
  picture: null,
  receivedAt: null, // Unix ms
  changedAt: null, // Unix ms: when `generated_at` last moved
  fault: null,
  filter: "",
};

async function poll() {
  try {
    const answer = await fetch(root.dataset.source, {
      headers: { Accept: "application/json" },
      signal: AbortSignal.timeout(PATIENCE),
    });
    if (answer.status === 403) throw new Error("you are no longer signed in, or lack the permission");
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    const picture = await answer.json();
    const now = Date.now();
    if (picture.generated_at !== state.picture?.generated_at) state.changedAt = now;
    Object.assign(state, { picture, receivedAt: now, fault: null });
  } catch (error) {
    state.fault = error.name === "TimeoutError" ? "the server does not answer" : error.message;
  }
  schedule();
}

let isScheduled = false;

function schedule() {
  if (isScheduled) return;
  isScheduled = true;
  requestAnimationFrame(() => {
    isScheduled = false;
    draw();
  });
}

function draw() {
  const now = Date.now();
  const { age, words } = freshness(state, now);
  root.dataset.age = age;
  put(byId("live-age"), words);
  const { picture } = state;
  if (picture === null) return;
  drawTotals(totals(picture));
  const upstream = tabulated(upstreamList(picture.upstream), now);
  drawTable(byId("live-upstream"), upstream, "No category is wanted now.");
  drawTable(byId("live-processes"), tabulated(picture.processes, now), "No process has reported.");
  const chosen = chosenTopics(picture.topics, state.filter);
  const rows = chosen.slice(0, MOST_ROWS).map(topicRow);
  const none = picture.topics.length ? "No topic matches the filter." : "Nobody follows a topic now.";
  drawTable(byId("live-topics"), { columns: TOPIC_COLUMNS, rows }, none);
  put(byId("live-shown"), `${rows.length} of ${picture.topics.length}`);
}

function drawTotals(pairs) {
  const list = byId("live-totals");
  while (list.children.length < pairs.length) {
    const pair = document.createElement("div");
    pair.append(document.createElement("dt"), document.createElement("dd"));
    list.append(pair);
  }
  pairs.forEach(([label, text], index) => {
    const [term, value] = list.children[index].children;
    put(term, label);
    put(value, text);
  });
}

/** Change a table in place: cells that stay the same are not touched. */
function drawTable(table, { columns, rows }, none) {
  const isEmpty = rows.length === 0;
  const headings = columns.map(({ heading }) => heading);
  const [head, body] = [table.tHead, table.tBodies[0]];
  drawRows(head, isEmpty ? [] : [headings], columns, "th");
  drawRows(body, isEmpty ? [[none]] : rows, isEmpty ? [{}] : columns, "td");
}

function drawRows(section, rows, columns, tag) {
  while (section.rows.length > rows.length) section.deleteRow(-1);
  while (section.rows.length < rows.length) section.insertRow();
  rows.forEach((texts, index) => {
    const row = section.rows[index];
    while (row.cells.length > texts.length) row.deleteCell(-1);
    while (row.cells.length < texts.length) {
      const cell = document.createElement(tag);
      if (tag === "th") cell.scope = "col";
      row.append(cell);
    }
    texts.forEach((text, column) => {
      const cell = row.cells[column];
      put(cell, text);
      cell.classList.toggle("live-number", columns[column].isNumber === true);
      if (columns[column].heading === "State") cell.dataset.state = text;
      else delete cell.dataset.state;
    });
  });
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

byId("live-search").addEventListener("input", (event) => {
  state.filter = event.target.value;
  schedule();
});

/** One question at a time, and none from a hidden tab. */
async function follow() {
  for (;;) {
    if (!document.hidden) await poll();
    schedule(); // the age moves on without an answer too
    await new Promise((resolve) => setTimeout(resolve, POLL));
  }
}

follow();
