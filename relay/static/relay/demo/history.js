/** What trades did to the price, second by second: the candles of the price chart. */

const SECOND = 1_000; // ms
const KEPT = 3_600; // seconds
const IDS_KEPT = 200; // a greeting repeats the last 50 trades

/** The seconds of one symbol, from its trades. Numbers are floats: they are drawn, not read. */
export class PriceHistory {
  #seconds = []; // {at, open, high, low, close, buys, sells}, oldest first
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
      this.#trade(Math.floor(at / SECOND), Number(p), Number(v), side === "Buy");
    }
    while (this.#ids.size > IDS_KEPT) this.#ids.delete(this.#ids.values().next().value);
    if (this.#seconds.length > KEPT) this.#seconds.splice(0, this.#seconds.length - KEPT);
  }

  /** The stream broke: what comes next may follow a hole. */
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
   * @returns {{at: number, open: number|null, high, low, close, buys: number, sells: number}[]}
   *   `at` in Unix seconds
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
    let close = null;
    for (const candle of candles) {
      if (candle.open === null) Object.assign(candle, { open: close, high: close, low: close, close });
      close = candle.isBeforeHole ? null : candle.close;
    }
    return candles;
  }

  #trade(at, price, size, isBuy) {
    let second = this.#seconds.at(-1);
    if (second === undefined || second.at < at) {
      second = { ...empty(at), open: price, high: price, low: price, close: price };
      this.#seconds.push(second);
    }
    // A trade of an earlier second (clocks of several matching engines) counts as of the last.
    second.high = Math.max(second.high, price);
    second.low = Math.min(second.low, price);
    second.close = price;
    if (isBuy) second.buys += size;
    else second.sells += size;
  }
}

function empty(at) {
  return { at, open: null, high: null, low: null, close: null, buys: 0, sells: 0, isBeforeHole: false };
}

function join(candle, second) {
  if (candle.open === null) {
    const { open, high, low } = second;
    Object.assign(candle, { open, high, low });
  }
  candle.high = Math.max(candle.high, second.high);
  candle.low = Math.min(candle.low, second.low);
  candle.close = second.close;
  candle.buys += second.buys;
  candle.sells += second.sells;
  candle.isBeforeHole = second.isBeforeHole;
}
