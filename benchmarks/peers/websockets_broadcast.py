"""Peer: `websockets.broadcast` on uvloop; with DEFLATE=1, each client compressed for itself."""

from __future__ import annotations

import os

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

from benchmarks.peers.upstream import PORT, messages

COMPRESSION = "deflate" if os.environ.get("DEFLATE") == "1" else None
clients: set[ServerConnection] = set()


async def serve_client(client: ServerConnection) -> None:
    clients.add(client)
    try:
        async for _ in client:  # subscriptions: there is one topic
            pass
    finally:
        clients.discard(client)


async def main() -> None:
    async with serve(
        serve_client,
        "127.0.0.1",
        PORT,
        compression=COMPRESSION,
        ping_interval=None,
        backlog=8192,
    ):
        async for text in messages():
            broadcast(clients, text.decode())


if __name__ == "__main__":
    uvloop.run(main())
