"""Peer: picows on uvloop, at both ends: its core interface, no coroutine on the way."""

from __future__ import annotations

import uvloop
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_connect,
    ws_create_server,
)

from benchmarks.peers.upstream import MARKET_MESSAGE, PORT, SUBSCRIBE, UPSTREAM

clients: set[WSTransport] = set()


class Client(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        clients.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        clients.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()


class Exchange(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.send(WSMsgType.TEXT, SUBSCRIBE.encode())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        text = frame.get_payload_as_bytes()
        if text.startswith(MARKET_MESSAGE):
            for client in clients:
                client.send(WSMsgType.TEXT, text)


async def main() -> None:
    def make_client(request: WSUpgradeRequest) -> Client:
        return Client()

    server = await ws_create_server(make_client, "127.0.0.1", PORT, backlog=8192)
    transport, _ = await ws_connect(Exchange, UPSTREAM)
    async with server:
        await transport.wait_disconnected()


if __name__ == "__main__":
    uvloop.run(main())
