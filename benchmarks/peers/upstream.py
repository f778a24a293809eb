"""The exchange as the Python peers read it: one topic, text as bytes."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator

from websockets.asyncio.client import connect

PORT = int(os.environ["PORT"])
UPSTREAM = os.environ["UPSTREAM"]  # address with the category
TOPIC = os.environ.get("TOPIC", "orderbook.50.BTCUSDT")
SUBSCRIBE = json.dumps({"op": "subscribe", "args": [TOPIC]})
MARKET_MESSAGE = b'{"topic":'


async def messages() -> AsyncIterator[bytes]:
    """Yield the market messages of the topic until the exchange closes."""
    async with connect(UPSTREAM, compression=None, ping_interval=None, max_size=None) as socket:
        await socket.send(SUBSCRIBE)
        while True:
            text = await socket.recv(decode=False)
            if text.startswith(MARKET_MESSAGE):
                yield text


async def forever() -> None:
    """Wait until the process is ended."""
    await asyncio.Event().wait()
