"""When a connection ends, reference counting frees every object of it, whatever kind it was.

The server runs without the garbage collector, so an object that is in a reference cycle stays.
"""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.certificates import self_signed
from tests.e2e.stand_in import BookFeed, StandIn
from tests.processes import PATIENCE, Program, Programs, until
from tests.redis_server import free_port

COUNTED = Path(__file__).with_name("counted.py")
VISITS = 30  # connections of each kind
SUSPICIOUS = VISITS // 2  # more objects of a type than before
HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "{key}Sec-WebSocket-Version: 13\r\n\r\n"
)
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


class Visitors:
    """Clients of every kind, good and bad, that come and leave."""

    def __init__(self, port: int, topic: str, context: ssl.SSLContext | None) -> None:
        self._port = port
        self._topic = topic
        self._context = context
        self._host = "localhost" if context else "127.0.0.1"

    def kinds(self) -> list[Callable[[], Awaitable[None]]]:
        upgrade = HANDSHAKE.format(path="/ws", host=self._host, key=KEY)
        live = HANDSHAKE.format(path="/admin/relay/livetopic/ws", host=self._host, key=KEY)
        bad = HANDSHAKE.format(path="/ws", host=self._host, key="")
        return [
            lambda: self._reader("/ws"),
            lambda: self._reader("/v5/public/linear"),
            lambda: self._refused("/ws?category=nonsense"),
            lambda: self._refused("/nothing"),
            lambda: self._refused("/ws", origin="http://evil.example"),
            lambda: self._raw(upgrade),
            lambda: self._raw(upgrade, is_reset=True),
            lambda: self._raw(upgrade, waits=False),
            lambda: self._raw(upgrade[:40], waits=False),
            lambda: self._raw(live),
            lambda: self._raw(bad),
            lambda: self._raw(upgrade, is_plain=True),
        ]

    async def all(self, times: int) -> None:
        for kind in self.kinds():
            for _ in range(times):
                await kind()

    async def _reader(self, path: str) -> None:
        scheme = "wss" if self._context else "ws"
        url = f"{scheme}://{self._host}:{self._port}{path}"
        async with connect(url, ssl=self._context) as socket:
            await socket.send(json.dumps({"op": "subscribe", "args": [self._topic]}))
            await socket.recv()
            await socket.recv()
            await (await socket.ping())

    async def _refused(self, path: str, **options: str) -> None:
        scheme = "wss" if self._context else "ws"
        url = f"{scheme}://{self._host}:{self._port}{path}"
        async with connect(url, ssl=self._context, **options) as socket:  # type: ignore[arg-type]
            with suppress(ConnectionClosed):
                while True:
                    await socket.recv()

    async def _raw(
        self, request: str, *, waits: bool = True, is_reset: bool = False, is_plain: bool = False
    ) -> None:
        context = None if is_plain else self._context
        with suppress(ConnectionError, ssl.SSLError):
            reader, writer = await asyncio.open_connection(self._host, self._port, ssl=context)
            writer.write(request.encode())
            await writer.drain()
            if waits:
                await reader.read(100)
            if is_reset:
                writer.transport.abort()
            else:
                writer.close()
            await writer.wait_closed()


class Counts:
    """The objects of a server that `counted.py` runs."""

    def __init__(self, program: Program, target: Path) -> None:
        self._program = program
        self._target = target

    async def take(self) -> Counter[str]:
        self._target.unlink(missing_ok=True)
        self._program.signal(signal.SIGUSR1)
        await until(self._target.exists, PATIENCE, "the objects are counted")
        return Counter(json.loads(self._target.read_text()))


@pytest.mark.parametrize("kind", ["daphne", "daphne-tls", "uvicorn"])
async def test_a_connection_that_ended_leaves_nothing_to_the_garbage_collector(
    programs: Programs, exchange: StandIn, tmp_path: Path, kind: str
) -> None:
    feed = BookFeed("BTCUSDT")
    exchange.feeds["linear", feed.topic] = feed.greeting
    port, target, context = free_port(), tmp_path / "counts.json", None
    endpoint = f"tcp:port={port}:interface=127.0.0.1"
    if kind == "daphne-tls":
        key, certificate = self_signed(tmp_path)
        endpoint = f"ssl:port={port}:privateKey={key}:certKey={certificate}:interface=127.0.0.1"
        context = ssl.create_default_context(cafile=certificate)
    arguments = (
        ("uvicorn", "--host", "127.0.0.1", "--port", str(port))
        if kind == "uvicorn"
        else ("daphne", "-v", "0", "-e", endpoint)
    )
    program = programs.start(
        *(kind, sys.executable, str(COUNTED), str(target), *arguments),
        "marketfeed.asgi:application",
        UPSTREAM_URL=exchange.url,
    )
    await programs.listening(program, port)
    visitors = Visitors(port, feed.topic, context)
    await visitors.all(1)  # what is made once is there from here on
    counts = Counts(program, target)
    before = await counts.take()
    await visitors.all(VISITS)

    def left(after: Counter[str]) -> dict[str, int]:
        ours = "relay." if kind == "uvicorn" else ""  # what uvicorn leaves is its own
        return {
            name: count - before[name]
            for name, count in after.items()
            if name.startswith(ours) and count - before[name] >= SUSPICIOUS
        }

    deadline = asyncio.get_running_loop().time() + PATIENCE
    while grown := left(await counts.take()):
        assert asyncio.get_running_loop().time() < deadline, grown
        await asyncio.sleep(0.5)
