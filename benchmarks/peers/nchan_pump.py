"""What nchan needs beside it: takes the exchange's messages to nginx's publisher socket."""

from __future__ import annotations

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from benchmarks.peers.upstream import MARKET_MESSAGE, PORT, SUBSCRIBE, UPSTREAM


class Exchange(WSListener):
    def __init__(self, publisher: WSTransport) -> None:
        self._publisher = publisher

    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.send(WSMsgType.TEXT, SUBSCRIBE.encode())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        text = frame.get_payload_as_bytes()
        if text.startswith(MARKET_MESSAGE):
            self._publisher.send(WSMsgType.TEXT, text)


async def main() -> None:
    publisher, _ = await ws_connect(WSListener, f"ws://127.0.0.1:{PORT}/pub")
    exchange, _ = await ws_connect(lambda: Exchange(publisher), UPSTREAM)
    await exchange.wait_disconnected()


if __name__ == "__main__":
    uvloop.run(main())
