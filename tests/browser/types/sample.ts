// What somebody writes in TypeScript with marketfeed.js; tsc checks it, nothing runs it.

import { MarketFeed } from "../../../relay/static/relay/marketfeed.js";

const feed = new MarketFeed({ category: "linear", url: "wss://relay.example/ws" });
const book = feed.subscribe({ topic: "orderbook", symbol: "BTCUSDT", levels: 50 }, ({ image }) => {
  const best: string | undefined = image.bids[0]?.price;
  console.log(best, book.state === "live");
});
const tape = feed.subscribe({ topic: "publicTrade", symbol: "BTCUSDT" });
for (const row of tape.image.rows) {
  if ("missing" in row) console.log(row.missing);
  else console.log(row.p, row.S);
}
const candles = feed.subscribe({ topic: "kline", symbol: "BTCUSDT", interval: "1" });
console.log(candles.image.rows[0]?.confirm, feed.roundTrip ?? 0, feed.counts.gaps);
feed.addEventListener("state", () => console.log(feed.state, feed.reason));

// @ts-expect-error candles need an interval
feed.subscribe({ topic: "kline", symbol: "BTCUSDT" });
// @ts-expect-error there is no such feed
feed.subscribe({ topic: "candles", symbol: "BTCUSDT" });
// @ts-expect-error a state is the relay's to say
feed.state = "live";
book.close();
feed.close();
