/** Candles of the trades and the depth of the book, on uPlot. Colours come from the style sheet. */

import { fitted, grouped, timeOfDay } from "../format.js";
import uPlot from "../vendor/uPlot.esm.js";
import { depthColumns, rowsOf } from "./grouping.js";

const DARK = matchMedia("(prefers-color-scheme: dark)");
const LEAST_CANDLES = 40;
const LEAST_LONG_CANDLES = 20; // from a minute on: there is one at first
const WIDEST_CANDLE = 20; // px: a wider chart has room for more
const MOST_CANDLES = 150;
const CANDLE_ROOM = 6; // px: a narrower chart shows fewer
const VOLUME_SHARE = 4.5; // the tallest volume bar takes this part of the height
const LABEL = 15; // px: from the middle of the last price's label to that of the nearest other
const CUT = 26; // px: half a label of the horizontal axis
const TOTAL_ROOM = 16; // characters: a longer running sum is abbreviated
const FONT = '11px "Inter", system-ui, sans-serif';

/** What both charts share: a size that follows the panel, and colours that follow the scheme. */
class Chart {
  #plot = null;
  #digits = 2;
  #size = { width: 0, height: 0 }; // kept, because asking for it makes the browser lay out
  #colors = new Map();

  /** @param {HTMLElement} element an empty one, whose size the style sheet decides */
  constructor(element) {
    this.element = element;
    new ResizeObserver(([{ contentRect }]) => this.#resize(contentRect)).observe(element);
    DARK.addEventListener("change", () => this.rebuild());
  }

  get width() {
    return this.#size.width;
  }

  /** What uPlot is to make; each chart says it. @returns {object} */
  options() {
    throw new Error("a chart without options");
  }

  /** Make the chart again, in the colours that hold now. */
  rebuild() {
    this.#plot?.destroy();
    this.#plot = null;
    this.#colors.clear();
  }

  show(columns, digits) {
    this.#digits = digits;
    if (this.width === 0) return;
    if (this.#plot === null) {
      this.#plot = new uPlot({ ...this.#size, ...this.options() }, columns, this.element);
    } else {
      this.#plot.setData(columns);
      this.#plot.redraw(false, true); // its labels too: kept ones may lie under the last price's
    }
  }

  /** A price of the exchange, with the digits of all others. */
  exact(text) {
    return grouped(text, this.#digits);
  }

  /** A place on an axis of prices: one that the axis chose, so no price of the exchange. */
  price(value) {
    return grouped(value.toFixed(this.#digits));
  }

  /** Steps between labels of prices: none that their digits cannot tell, such as 0.25 as "0.3". */
  priceSteps() {
    const steps = [];
    for (let power = -this.#digits; power <= 15; power += 1) {
      for (const figure of [1, 2, 5]) steps.push(Number(`${figure}e${power}`));
    }
    return steps;
  }

  /** Labels of the horizontal axis; one that the left edge would cut is left out. */
  labels(plot, splits, write) {
    return splits.map((at) => (plot.valToPos(at, "x") < CUT ? "" : write(at)));
  }

  /** A colour of the style sheet. */
  color(name) {
    if (!this.#colors.has(name)) {
      const style = getComputedStyle(this.element);
      this.#colors.set(name, style.getPropertyValue(`--${name}`).trim());
    }
    return this.#colors.get(name);
  }

  /** An axis without a line of its own. */
  axis(rest) {
    const grid = { stroke: this.color("grid"), width: 1 };
    return { stroke: this.color("soft"), font: FONT, grid, ticks: { show: false }, gap: 6, ...rest };
  }

  #resize({ width, height }) {
    this.#size = { width: Math.floor(width), height: Math.floor(height) };
    if (this.width > 0) this.#plot?.setSize(this.#size);
  }
}

/** Candles of so many seconds, with what was bought and sold below them. */
export class PriceChart extends Chart {
  #candles = [];
  #width = 1;
  #least = LEAST_CANDLES; // there is room for so many, though there are fewer
  #pointed = null; // the index of the candle under the cursor

  /** The candle under the cursor, else the last one, in words. */
  get words() {
    const candle = this.#candles[this.#pointed] ?? this.#candles.at(-1);
    if (candle === undefined || candle.open === null) return "";
    const { open, high, low, close } = candle.texts;
    return [["O", open], ["H", high], ["L", low], ["C", close]]
      .map(([letter, text]) => `${letter} ${this.exact(text)}`)
      .join("  ");
  }

  rebuild() {
    super.rebuild();
    this.#candles = [];
    this.#pointed = null;
  }

  /**
   * @param {(width: number, count: number) => object[]} candles the last ones, so many at most
   * @param {number} width seconds a candle
   * @param {number} digits of a price
   */
  draw(candles, width, digits) {
    const room = Math.floor(this.width / CANDLE_ROOM);
    const least = Math.min(MOST_CANDLES, Math.max(LEAST_CANDLES, Math.ceil(this.width / WIDEST_CANDLE)));
    this.#width = width;
    this.#least = width < 60 ? least : LEAST_LONG_CANDLES;
    this.#candles = candles(width, Math.max(least, Math.min(MOST_CANDLES, room)));
    const pick = (key) => this.#candles.map((candle) => candle[key]);
    const volumes = this.#candles.map(({ buys, sells }) => buys + sells);
    this.show([pick("at"), pick("high"), pick("low"), pick("close"), volumes], digits);
  }

  options() {
    const up = this.color("up");
    const down = this.color("down");
    const invisible = { paths: () => null, points: { show: false } };
    return {
      legend: { show: false },
      padding: [10, 0, 0, 8],
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      scales: {
        x: { time: false, range: () => this.#times() },
        y: { range: (_plot, low, high) => padded(low, high) },
        volume: { range: (_plot, _low, high) => [0, Math.max(high, 1e-9) * VOLUME_SHARE] },
      },
      axes: [
        this.axis({ size: 26, space: 90, incrs: TIMES, values: (plot, splits) => this.labels(plot, splits, (at) => this.#time(at)) }),
        this.axis({
          side: 1,
          space: 34,
          incrs: () => this.priceSteps(),
          size: (plot, labels) => widest(plot, [...(labels ?? []), this.#last]),
          values: (plot, splits) => this.#prices(plot, splits),
        }),
      ],
      series: [{}, invisible, invisible, invisible, { ...invisible, scale: "volume" }],
      hooks: {
        draw: [(plot) => this.#paint(plot, up, down)],
        setCursor: [({ cursor }) => (this.#pointed = cursor.left < 0 ? null : cursor.idx)],
      },
    };
  }

  /** The last price as its label says it. */
  get #last() {
    const close = this.#candles.at(-1)?.texts?.close;
    return close == null ? "" : this.exact(close);
  }

  /** A place on the axis of times: its time, or its day where a candle is one. */
  #time(at) {
    if (this.#width < DAY) return timeOfDay(at * 1_000).slice(0, this.#width < 60 ? 8 : 5);
    return DATE.format(at * 1_000);
  }

  /** Labels of the price axis; one that the label of the last price would cover is left out. */
  #prices(plot, splits) {
    const close = this.#candles.at(-1)?.close;
    const last = close == null ? -Infinity : plot.valToPos(close, "y");
    return splits.map((value) => (Math.abs(plot.valToPos(value, "y") - last) < LABEL ? "" : this.price(value)));
  }

  /** Room for the least number of candles, the newest at the right edge. */
  #times() {
    const newest = this.#candles.at(-1)?.at ?? Date.now() / 1_000;
    const oldest = this.#candles[0]?.at ?? newest;
    const span = Math.max(newest - oldest, this.#least * this.#width);
    return [newest - span - this.#width, newest + this.#width];
  }

  #paint(plot, up, down) {
    const { ctx } = plot;
    const place = (value, scale) => Math.round(plot.valToPos(value, scale, true));
    const step = place(this.#width, "x") - place(0, "x");
    const body = Math.max(1, Math.round(step * 0.66));
    const wick = Math.max(1, Math.round(devicePixelRatio));
    ctx.save();
    ctx.beginPath();
    ctx.rect(plot.bbox.left, plot.bbox.top, plot.bbox.width, plot.bbox.height);
    ctx.clip();
    for (const { at, open, high, low, close, buys, sells } of this.#candles) {
      if (open === null) continue;
      const x = place(at, "x");
      const isUp = close >= open;
      ctx.fillStyle = isUp ? up : down;
      const floor = place(0, "volume");
      ctx.globalAlpha = 0.28;
      ctx.fillRect(x - (body >> 1), place(buys + sells, "volume"), body, floor - place(buys + sells, "volume"));
      ctx.globalAlpha = 1;
      const top = place(Math.max(open, close), "y");
      const bottom = place(Math.min(open, close), "y");
      ctx.fillRect(x - (wick >> 1), place(high, "y"), wick, place(low, "y") - place(high, "y"));
      ctx.fillRect(x - (body >> 1), top, body, Math.max(wick, bottom - top));
    }
    const last = this.#candles.at(-1);
    ctx.restore();
    if (last?.close != null) this.#paintLast(plot, last, last.close >= last.open ? up : down);
  }

  /** A dashed line at the last price, and the price on its axis. */
  #paintLast(plot, { close }, color) {
    const { ctx, bbox } = plot;
    const y = Math.round(plot.valToPos(close, "y", true)) + 0.5;
    const right = bbox.left + bbox.width;
    const height = 18 * devicePixelRatio;
    ctx.save();
    ctx.fillStyle = color;
    ctx.fillRect(right, y - height / 2, ctx.canvas.width - right, height);
    ctx.fillStyle = this.color("panel");
    ctx.font = `600 ${11 * devicePixelRatio}px "Inter", system-ui, sans-serif`;
    ctx.textAlign = "left";
    ctx.textBaseline = "middle";
    ctx.fillText(this.#last, right + 6 * devicePixelRatio, y);
    ctx.strokeStyle = color;
    ctx.globalAlpha = 0.7;
    ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.lineWidth = devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(right, y);
    ctx.stroke();
    ctx.restore();
  }
}

/** The running sums of both sides over the price. */
export class DepthChart extends Chart {
  #bids = []; // as drawn: those of the book change in place
  #asks = [];

  /** @param {(words: string) => void} told what the cursor points at, "" when it has left */
  constructor(element, told) {
    super(element);
    this.told = told;
  }

  draw(book, digits) {
    this.#bids = [...book.bids];
    this.#asks = [...book.asks];
    this.show(depthColumns(book), digits);
  }

  options() {
    const side = (name, align) => ({
      stroke: this.color(name),
      fill: this.color(`${name}-area`),
      width: 1.5,
      paths: uPlot.paths.stepped({ align }),
      points: { show: false },
    });
    return {
      legend: { show: false },
      padding: [10, 0, 0, 8],
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
      scales: {
        x: { time: false, range: (_plot, low, high) => this.#around(low, high) },
        y: { range: (_plot, _low, high) => [0, (high ?? 1) * 1.08 || 1] },
      },
      axes: [
        this.axis({ size: 26, space: 110, incrs: () => this.priceSteps(), values: (plot, splits) => this.labels(plot, splits, (value) => this.price(value)) }),
        this.axis({ side: 1, space: 30, size: widest, values: (_plot, splits) => splits.map(short) }),
      ],
      series: [{}, side("up", -1), side("down", 1)],
      hooks: { setCursor: [(plot) => this.#point(plot)] },
    };
  }

  /** As far on one side of the middle as on the other: what both sides are known for. */
  #around(low, high) {
    const bid = Number(this.#bids[0]?.price);
    const ask = Number(this.#asks[0]?.price);
    if (!(bid < ask)) return [low ?? 0, high ?? 1];
    const middle = (bid + ask) / 2;
    const reach = Math.max(Math.min(middle - low, high - middle), ask - bid);
    return [middle - reach, middle + reach];
  }

  #point(plot) {
    const { idx, left } = plot.cursor;
    const isBid = idx < this.#bids.length; // they stand left of the asks, the best last
    const levels = isBid ? this.#bids : this.#asks;
    const count = isBid ? this.#bids.length - idx : idx - this.#bids.length + 1;
    if (left < 0 || idx == null || count > levels.length) return this.told("");
    const { price, total } = rowsOf(levels, { step: null, isBid, count, isWhole: true }).at(-1);
    this.told(`${fitted(total, 0, TOTAL_ROOM)} up to ${this.exact(price)}`);
  }
}

const DAY = 86_400; // seconds
const TIMES = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 43_200, DAY, 2 * DAY, 7 * DAY];
const DATE = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" }); // as the exchange's days begin

/** As wide as the longest label needs. */
function widest(_plot, labels) {
  return Math.max(48, 14 + 6.6 * Math.max(0, ...(labels ?? []).map((label) => label.length)));
}

function padded(low, high) {
  if (low === null) return [0, 1];
  const room = (high - low) * 0.08 || Math.abs(high) * 1e-4 || 1;
  return [low - room - (high - low) * 0.18, high + room]; // the volume stands below
}

function short(value) {
  if (value >= 1e9) return `${trim(value / 1e9)}B`;
  if (value >= 1e6) return `${trim(value / 1e6)}M`;
  if (value >= 1e4) return `${trim(value / 1e3)}K`;
  return trim(value);
}

function trim(value) {
  return String(Number(value.toPrecision(4)));
}
