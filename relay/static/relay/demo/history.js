/** The candles of the price chart: what trades did second by second, and the exchange's own. */

const SECOND = 1_000; // ms
const KEPT = 3_600; // seconds
const IDS_KEPT = 200; // a greeting repeats the last 50 trades

/**
 * The seconds of one symbol, from its trades. Numbers are floats: they are drawn, not read.
 * What is read stands next to them in `texts`: the prices as the exchange wrote them.
 */
export class PriceHistory {
  #seconds = []; // {at, open, high, low, close, texts, buys, sells}, oldest first
  #ids = new Set();
  #isInterrupted = false;

  /** Whether nothing has traded yet. */
  get isEmpty() {
    return this.#seconds.length === 0;
  }

  /**
   * Fold in trades as they came from the wire, oldest first; each counts once.
   *
   * @param {{i: string, T: number, p: string, v: string, S: string}[]} trades
   */
  add(trades) {
    const fresh = trades.filter(({ i }) => !this.#ids.has(i));
    const isHole = this.#isInterrupted && fresh.length === trades.length;
    this.#isInterrupted = false;
    if (isHole) this.hole();
    for (const { i, T: at, p, v, S: side } of fresh) {
      this.#ids.add(i);
      this.#trade(Math.floor(at / SECOND), p, Number(v), side === "Buy");
    }
    while (this.#ids.size > IDS_KEPT) this.#ids.delete(this.#ids.values().next().value);
    if (this.#seconds.length > KEPT) this.#seconds.splice(0, this.#seconds.length - KEPT);
  }

  /** The stream broke: what comes next may follow a gap. */
  interrupt() {
    this.#isInterrupted = true;
  }

  /** Trades are missing here: the chart joins nothing over this place. */
  hole() {
    const last = this.#seconds.at(-1);
    if (last !== undefined) last.isBeforeHole = true;
  }

  /**
   * The last candles of so many seconds each, oldest first; one without a trade is flat at the
   * close before it, or null where trades may be missing.
   *
   * @returns {{at: number, open: number|null, high, low, close, texts: object|null, buys: number, sells: number}[]}
   *   `at` in Unix seconds; `texts` has the same four prices as the exchange wrote them
   */
  candles(width, count) {
    if (this.isEmpty) return [];
    const newest = Math.floor(this.#seconds.at(-1).at / width);
    const oldest = Math.max(newest - count + 1, Math.floor(this.#seconds[0].at / width));
    const candles = Array.from({ length: newest - oldest + 1 }, (_, index) => empty((oldest + index) * width));
    for (const second of this.#seconds) {
      const candle = candles[Math.floor(second.at / width) - oldest];
      if (candle !== undefined) join(candle, second);
    }
    let [close, text] = [null, null];
    for (const candle of candles) {
      if (candle.open === null) Object.assign(candle, flat(close, text));
      [close, text] = candle.isBeforeHole ? [null, null] : [candle.close, candle.texts?.close ?? null];
    }
    return candles;
  }

  #trade(at, text, size, isBuy) {
    const price = Number(text);
    let second = this.#seconds.at(-1);
    if (second === undefined || second.at < at) {
      second = { ...empty(at), ...flat(price, text) };
      this.#seconds.push(second);
    }
    // A trade of an earlier second (clocks of several matching engines) counts as of the last.
    if (price > second.high) [second.high, second.texts.high] = [price, text];
    if (price < second.low) [second.low, second.texts.low] = [price, text];
    [second.close, second.texts.close] = [price, text];
    if (isBuy) second.buys += size;
    else second.sells += size;
  }
}

/**
 * The exchange's candles as `PriceHistory.candles` gives those of trades; one that is missing is
 * null.
 *
 * @param {{start: number, open: string, high: string, low: string, close: string, volume: string}[]} rows
 *   of a `kline` topic, newest first
 * @param {number} width seconds of each
 * @param {number} count at most so many
 */
export function exchangeCandles(rows, width, count) {
  const known = new Map(rows.map((row) => [Math.floor(row.start / SECOND / width), row]));
  const places = [...known.keys()];
  if (places.length === 0) return [];
  const newest = Math.max(...places);
  const oldest = Math.max(newest - count + 1, Math.min(...places));
  return Array.from({ length: newest - oldest + 1 }, (_, index) => {
    const candle = empty((oldest + index) * width);
    const row = known.get(oldest + index);
    if (row === undefined) return candle;
    const { open, high, low, close, volume } = row;
    const texts = { open, high, low, close };
    const prices = { open: Number(open), high: Number(high), low: Number(low), close: Number(close) };
    return { ...candle, ...prices, texts, buys: Number(volume) };
  });
}

function empty(at) {
  return { at, ...flat(null, null), buys: 0, sells: 0, isBeforeHole: false };
}

/** Four prices that are one. */
function flat(price, text) {
  const texts = text === null ? null : { open: text, high: text, low: text, close: text };
  return { open: price, high: price, low: price, close: price, texts };
}

function join(candle, second) {
  if (candle.open === null) {
    const { open, high, low, texts } = second;
    Object.assign(candle, { open, high, low, texts: { ...texts } });
  }
  const isBeyond = { high: second.high > candle.high, low: second.low < candle.low, close: true };
  for (const key of ["high", "low", "close"]) {
    if (isBeyond[key]) [candle[key], candle.texts[key]] = [second[key], second.texts[key]];
  }
  candle.buys += second.buys;
  candle.sells += second.sells;
  candle.isBeforeHole = second.isBeforeHole;
}
