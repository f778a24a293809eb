/** How to read the same market from elsewhere: texts to copy, for the market on the page. */

const SYMBOL = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,59}$/; // what the relay accepts; nothing else belongs in a terminal

/**
 * @param {{category: string, symbol: string, depth: number}} market
 * @param {{host: string, isSecure: boolean}} relay where the page came from
 * @returns {{name: string, about: string, text: string}[]}
 */
export function examples({ category, symbol: named, depth }, { host, isSecure }) {
  const symbol = SYMBOL.test(named) ? named : "BTCUSDT";
  const socket = `${isSecure ? "wss" : "ws"}://${host}`;
  const http = `${isSecure ? "https" : "http"}://${host}`;
  const request = { method: "subscribe", topic: "orderbook", symbol, levels: depth };
  const short = JSON.stringify(request);
  const bybit = JSON.stringify({ op: "subscribe", args: [`orderbook.${depth}.${symbol}`] });
  return [
    {
      name: "websocat",
      about: "One line in a terminal; -n keeps the connection open after the request.",
      text: `echo '${short}' |\n  websocat -n '${socket}/ws?category=${category}'`,
    },
    {
      name: "wscat",
      about: "From npm: npx wscat. It stays connected, so more requests can be typed.",
      text: `wscat -c '${socket}/ws?category=${category}' --wait 60 \\\n  -x '${short}'`,
    },
    {
      name: "Python",
      about: "With the websockets library.",
      text: `import asyncio
import json

from websockets.asyncio.client import connect


async def main():
    async with connect("${socket}/ws?category=${category}", max_size=None) as relay:
        await relay.send(json.dumps(${pythonic(request)}))
        async for message in relay:
            print(message)


asyncio.run(main())`,
    },
    {
      name: "pybit",
      about: "Bybit's own client, unchanged but for the address.",
      text: `import time

import pybit.unified_trading

pybit.unified_trading.PUBLIC_WSS = "${socket}/v5/public/{CHANNEL_TYPE}"
feed = pybit.unified_trading.WebSocket(channel_type="${category}", testnet=False)
feed.orderbook_stream(${depth}, "${symbol}", print)
while True:
    time.sleep(1)`,
    },
    {
      name: "Bybit's dialect",
      about: "What any client written for Bybit sends; it may talk to the relay instead.",
      text: `echo '${bybit}' |\n  websocat -n '${socket}/v5/public/${category}'`,
    },
    {
      name: "Web page",
      about: "The module that this page is made with: a page from elsewhere needs its origin in RELAY_ALLOWED_ORIGINS.",
      text: `import { MarketFeed } from "${http}/static/relay/marketfeed.js";

const feed = new MarketFeed({ category: "${category}", url: "${socket}/ws" });
const book = feed.subscribe(
  { topic: "orderbook", symbol: "${symbol}", levels: ${depth} },
  () => console.log(book.state, book.image.bids[0], book.image.asks[0]),
);`,
    },
    {
      name: "curl",
      about: "What is not a stream: symbols that are being read, and whether the relay is ready.",
      text: `curl -s '${http}/symbols.json'\ncurl -s '${http}/readyz'`,
    },
  ];
}

function pythonic(object) {
  const pairs = Object.entries(object).map(([key, value]) => `"${key}": ${JSON.stringify(value)}`);
  return `{${pairs.join(", ")}}`;
}
