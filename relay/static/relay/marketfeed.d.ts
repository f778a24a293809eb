/** Types of `marketfeed.js`; what each thing means is said there. */

export interface Level {
  readonly price: string;
  readonly size: string;
}

export interface Trade {
  readonly i: string;
  readonly T: number;
  readonly p: string;
  readonly v: string;
  readonly S: "Buy" | "Sell";
  readonly s: string;
  readonly [key: string]: unknown;
}

/** Trades that were lost: so many, or null where nobody can count. */
export interface Hole {
  readonly missing: number | null;
}

export interface Candle {
  readonly start: number;
  readonly end: number;
  readonly interval: string;
  readonly open: string;
  readonly high: string;
  readonly low: string;
  readonly close: string;
  readonly volume: string;
  readonly turnover: string;
  readonly confirm: boolean;
  readonly timestamp: number;
}

export class OrderBook {
  readonly isLive: boolean;
  readonly bids: readonly Level[];
  readonly asks: readonly Level[];
  readonly updateId: number | null;
  readonly ts: number | null;
  readonly cts: number | null;
}

export class Ticker {
  readonly isLive: boolean;
  readonly data: Readonly<Record<string, string | undefined>>;
  readonly ts: number | null;
}

export class Tape {
  readonly isLive: boolean;
  readonly rows: readonly (Trade | Hole)[];
  readonly ts: number | null;
}

export class Candles {
  readonly isLive: boolean;
  readonly rows: readonly Candle[];
  readonly ts: number | null;
}

export type Category = "spot" | "linear" | "inverse" | "option";

export interface Images {
  orderbook: OrderBook;
  tickers: Ticker;
  publicTrade: Tape;
  kline: Candles;
}

export type Request<Topic extends keyof Images = keyof Images> = {
  topic: Topic;
  symbol: string;
} & (Topic extends "orderbook" ? { levels?: number } : unknown) &
  (Topic extends "kline" ? { interval: string | number } : unknown);

export interface Subscription<Topic extends keyof Images = keyof Images> {
  readonly topic: string;
  readonly image: Images[Topic];
  readonly state: "waiting" | "live" | "stale" | "refused" | "closed";
  readonly error: { code: string; message: string } | null;
  close(): void;
}

export const FeedState: Readonly<
  Record<"CLOSED" | "CONNECTING" | "LIVE" | "STALE" | "RECONNECTING", string>
>;
export const TopicState: Readonly<
  Record<"WAITING" | "LIVE" | "STALE" | "REFUSED" | "CLOSED", string>
>;
export const Outcome: Readonly<Record<string, string>>;

export class MarketFeed extends EventTarget {
  constructor(options?: { category?: Category; url?: string | URL; environment?: object });
  readonly category: Category;
  readonly url: string;
  readonly state: "closed" | "connecting" | "live" | "stale" | "reconnecting";
  readonly since: number | null;
  readonly reason: string | null;
  readonly retryAt: number | null;
  readonly roundTrip: number | null;
  readonly isSilent: boolean;
  readonly counts: Readonly<
    Record<"messages" | "gaps" | "resyncs" | "connections" | "unreadable", number>
  >;
  subscribe<Topic extends keyof Images>(
    request: Request<Topic>,
    listener?: (subscription: Subscription<Topic>, message: any) => void,
  ): Subscription<Topic>;
  connect(): void;
  probe(): void;
  disconnect(words?: string): void;
  close(): void;
}
