/** The cases that Python's tests and these share, and what stands in for a browser. */

import { readdirSync, readFileSync } from "node:fs";

const ROOT = new URL("../fixtures/", import.meta.url);

/** Every case of a folder, as [name, case]. */
export function cases(folder) {
  const names = readdirSync(new URL(`${folder}/`, ROOT)).filter((name) => name.endsWith(".json"));
  if (names.length === 0) throw new Error(`no fixtures in ${folder}`);
  return names.map((name) => [
    name.replace(".json", ""),
    JSON.parse(readFileSync(new URL(`${folder}/${name}`, ROOT), "utf8")),
  ]);
}

/** A browser without a network or a clock of its own: time moves when `advance` says so. */
export class Stage {
  constructor() {
    this.time = 1_700_000_000_000;
    this.timers = new Map();
    this.sockets = [];
    this.lastHandle = 0;
    const stage = this;
    this.environment = {
      now: () => stage.time,
      random: () => 0.5,
      setTimeout: (callback, wait) => {
        stage.timers.set(++stage.lastHandle, { at: stage.time + wait, callback });
        return stage.lastHandle;
      },
      clearTimeout: (handle) => stage.timers.delete(handle),
      WebSocket: class {
        constructor(url) {
          this.url = url;
          this.sent = [];
          this.isClosed = false;
          stage.sockets.push(this);
        }
        send(text) {
          this.sent.push(JSON.parse(text));
        }
        close() {
          this.isClosed = true;
        }
        open() {
          this.onopen();
        }
        receive(message) {
          this.onmessage({ data: typeof message === "string" ? message : JSON.stringify(message) });
        }
        end(code) {
          this.onclose({ code });
        }
        /** What was sent, without pings. */
        get requests() {
          return this.sent.filter((request) => request.method !== "ping");
        }
      },
    };
  }

  get socket() {
    return this.sockets.at(-1);
  }

  /** Let ms pass, running what becomes due, in order. */
  advance(milliseconds) {
    const until = this.time + milliseconds;
    for (;;) {
      const due = [...this.timers].filter(([, timer]) => timer.at <= until);
      if (due.length === 0) break;
      due.sort(([, left], [, right]) => left.at - right.at);
      const [handle, timer] = due[0];
      this.timers.delete(handle);
      this.time = Math.max(this.time, timer.at);
      timer.callback();
    }
    this.time = until;
  }
}

/** A book message of orderbook.50.XYZUSDT. */
export function book(type, u, { b = [["10.05", "1"]], a = [["10.07", "1"]] } = {}) {
  return {
    topic: "orderbook.50.XYZUSDT",
    type,
    ts: 1_700_000_000_002,
    data: { s: "XYZUSDT", b, a, u, seq: u },
    cts: 1_700_000_000_000,
  };
}

/** A trade message of publicTrade.XYZUSDT with these ids, oldest first. */
export function trades(...ids) {
  const data = ids.map((id) => ({ i: String(id), T: 1, s: "XYZUSDT", S: "Buy", v: "1", p: "10" }));
  return { topic: "publicTrade.XYZUSDT", type: "snapshot", ts: 1_700_000_000_000, data };
}
