// Peer: Node with `ws`, its documented broadcast.
"use strict";

const { WebSocket, WebSocketServer } = require("ws");

const TOPIC = process.env.TOPIC || "orderbook.50.BTCUSDT";
const MARKET_MESSAGE = Buffer.from('{"topic":');

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(process.env.PORT),
  backlog: 8192,
  perMessageDeflate: false,
});
server.on("connection", (client) => client.on("error", () => client.terminate()));

const exchange = new WebSocket(process.env.UPSTREAM, { perMessageDeflate: false });
exchange.on("open", () => exchange.send(JSON.stringify({ op: "subscribe", args: [TOPIC] })));
exchange.on("message", (text) => {
  if (text.compare(MARKET_MESSAGE, 0, MARKET_MESSAGE.length, 0, MARKET_MESSAGE.length) !== 0) return;
  for (const client of server.clients) {
    if (client.readyState === WebSocket.OPEN) client.send(text, { binary: false });
  }
});
exchange.on("close", () => process.exit(0));
