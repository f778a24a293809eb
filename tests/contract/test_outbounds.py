"""One contract for every way to a client: order, no loss, slow readers bounded, close codes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed

from tests.certificates import self_signed
from tests.e2e.reference import Follower
from tests.e2e.scrapes import scrape, value
from tests.e2e.stand_in import BookFeed, StandIn, TradesFeed
from tests.processes import DAPHNE, PATIENCE, Program, Programs, WebServer, until
from tests.redis_server import free_port

SYMBOL = "BTCUSDT"
Connect = Callable[..., Any]


class Server:
    """A running relay and how to connect to it."""

    def __init__(self, program: Program, connect: Connect) -> None:
        self.program = program
        self.connect = connect


def _connect_bounded(server: WebServer, path: str, **options: Any) -> Any:
    """Connect with a receive buffer that the kernel does not let grow, up to 32 MB as a rule."""
    return connect(server.url(path), **({"sock": small_socket(server.port, 2**18)} | options))


async def _daphne(programs: Programs, folder: Path, url: str, **variables: str) -> Server:
    server = await programs.daphne(url, **variables)
    return Server(server.program, partial(_connect_bounded, server))


async def _daphne_deflated(programs: Programs, folder: Path, url: str, **variables: str) -> Server:
    server = await _daphne(programs, folder, url, **variables)
    plain = server.connect
    server.connect = lambda path, **options: plain(path, **(options | {"compression": "deflate"}))
    return server


async def _daphne_tls(programs: Programs, folder: Path, url: str, **variables: str) -> Server:
    port = free_port()
    key, certificate = self_signed(folder)
    endpoint = f"ssl:port={port}:privateKey={key}:certKey={certificate}:interface=127.0.0.1"
    program = programs.start(
        *("tls", DAPHNE, "-e", endpoint, "marketfeed.asgi:application"),
        **{"UPSTREAM_URL": url} | variables,
    )
    await programs.listening(program, port)
    context = ssl.create_default_context(cafile=certificate)
    address = f"wss://localhost:{port}"
    return Server(
        program,
        lambda path, **options: connect(address + path, **({"ssl": context} | options)),
    )


async def _daphne_unix(programs: Programs, folder: Path, url: str, **variables: str) -> Server:
    path = folder / "relay.sock"
    program = programs.start(
        *("unix", DAPHNE, "-u", str(path), "marketfeed.asgi:application"),
        **{"UPSTREAM_URL": url} | variables,
    )
    await until(path.exists, PATIENCE, "the socket is there")

    def connect_there(door: str, **options: Any) -> Any:
        options.pop("sock", None)
        return unix_connect(str(path), f"ws://localhost{door}", **options)

    return Server(program, connect_there)


async def _uvicorn(programs: Programs, folder: Path, url: str, **variables: str) -> Server:
    server = await programs.uvicorn(url, **variables)
    return Server(server.program, partial(_connect_bounded, server))


SERVERS: dict[str, Callable[..., Awaitable[Server]]] = {
    "daphne": _daphne,
    "daphne-deflated": _daphne_deflated,
    "daphne-tls": _daphne_tls,
    "daphne-unix": _daphne_unix,
    "uvicorn": _uvicorn,
}
every_server = pytest.mark.parametrize("kind", SERVERS)


class Reader:
    """A client that reads only when it is told to."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.follower: Follower | None = None
        self.notices: list[dict[str, Any]] = []
        self.received = 0  # bytes of market data
        self.closed: tuple[int, str] | None = None

    async def subscribe(self, topic: str) -> None:
        await self.socket.send(json.dumps({"op": "subscribe", "args": [topic], "req_id": "1"}))
        reply = json.loads(await self.socket.recv())
        assert reply["success"], reply
        self.follower = Follower(topic)

    async def read_until(self, condition: Callable[[], object], what: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await self.read_one(what)

    async def read_one(self, what: str = "") -> None:
        try:
            text = await self.socket.recv()
        except ConnectionClosed as closed:
            self.closed = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")
            raise
        body = json.loads(text)
        assert self.follower is not None
        if body.get("topic") == self.follower.topic and "data" in body:
            self.received += len(text)
            self.follower.take(str(text), body)
        else:
            self.notices.append(body)

    async def read_to_the_end(self) -> tuple[int, str]:
        """Return code and reason of the close frame; 1006 if the connection just ended."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await self.read_one()
                except ConnectionClosed:
                    assert self.closed is not None
                    return self.closed

    def notices_of(self, kind: str) -> list[dict[str, Any]]:
        return [notice for notice in self.notices if notice.get("type") == kind]


@asynccontextmanager
async def reader(server: Server, path: str = "/ws", **options: Any) -> AsyncIterator[Reader]:
    """Connect with small buffers, so that what is not read soon waits at the relay."""
    options = {"max_queue": 1, "compression": None, "close_timeout": 1} | options
    async with server.connect(path, ping_interval=None, **options) as socket:
        yield Reader(socket)


def small_socket(port: int, size: int = 16_384) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    made.connect(("127.0.0.1", port))
    made.setblocking(False)
    return made


BOUNDS = {"RELAY_CLIENT_BUFFER": "65536", "RELAY_SEND_BUFFER": "16384"}
MUCH = 8_000_000  # bytes: more than a Unix socket's or a kernel's buffers can hide


async def _say_much(server: Server, exchange: StandIn, feed: BookFeed | TradesFeed) -> int:
    """Have the exchange send so much that it cannot wait anywhere; return how many messages.

    Another client reads all of a book, so that the relay takes it in batches below the budget: a
    snapshot would stand for a larger one, and nothing would wait for the client of the test.
    """
    said = count = 0
    async with AsyncExitStack() as stack:
        calm: Reader | None = None
        if isinstance(feed, BookFeed):
            calm = await stack.enter_async_context(reader(server))
            await calm.subscribe(feed.topic)
        while said < MUCH:
            text = feed.delta() if isinstance(feed, BookFeed) else feed.trade(20)
            await exchange.say("linear", feed.topic, text)
            said += len(text)
            count += 1
            if count % 50 == 0:
                await asyncio.sleep(0)
                if calm is not None:
                    await calm.read_until(lambda: calm.follower.position == feed.u, "the latest")  # type: ignore[union-attr]
    return count


@every_server
async def test_everything_arrives_in_order(
    programs: Programs, exchange: StandIn, tmp_path: Path, kind: str
) -> None:
    server = await SERVERS[kind](programs, tmp_path, exchange.url)
    feed = BookFeed(SYMBOL)
    exchange.feeds["linear", feed.topic] = feed.greeting
    async with reader(server) as one, reader(server, "/v5/public/linear") as other:
        for each in (one, other):
            await each.subscribe(feed.topic)
            await each.read_until(lambda each=each: each.follower.position, "the snapshot")
        for _ in range(1000):  # fewer bytes than a client may have unsent
            await exchange.say("linear", feed.topic, feed.delta())
        readers = (one, other)
        await asyncio.gather(
            *[
                each.read_until(lambda each=each: each.follower.position == feed.u, "the last")
                for each in readers
            ]
        )
        for each in readers:
            assert each.follower is not None
            assert each.follower.types == ["snapshot", *["delta"] * 1000]


@every_server
async def test_a_slow_reader_is_told_then_conflated_then_right(
    programs: Programs, exchange: StandIn, tmp_path: Path, kind: str
) -> None:
    server = await SERVERS[kind](programs, tmp_path, exchange.url, **BOUNDS)
    feed = BookFeed(SYMBOL)
    exchange.feeds["linear", feed.topic] = feed.greeting
    async with reader(server) as slow:
        await slow.subscribe(feed.topic)
        await slow.read_until(lambda: slow.follower.position, "the snapshot")  # type: ignore[union-attr]
        await _say_much(server, exchange, feed)
        await slow.read_until(lambda: slow.follower.position == feed.u, "the last state")  # type: ignore[union-attr]
        assert slow.follower is not None
        assert slow.notices_of("lagging")
        assert slow.follower.types.count("snapshot") >= 2
        assert slow.received < MUCH  # the rest was withheld
        # and then it goes on like everybody
        await exchange.say("linear", feed.topic, feed.delta())
        await slow.read_until(lambda: slow.follower.position == feed.u, "one more")  # type: ignore[union-attr]


@every_server
async def test_trades_that_a_slow_reader_misses_are_counted(
    programs: Programs, exchange: StandIn, tmp_path: Path, kind: str
) -> None:
    server = await SERVERS[kind](programs, tmp_path, exchange.url, **BOUNDS)
    feed = TradesFeed(SYMBOL)
    async with reader(server) as slow:
        await slow.subscribe(feed.topic)
        count = await _say_much(server, exchange, feed)

        def accounted() -> int:
            dropped = sum(notice["dropped"] for notice in slow.notices_of("gap"))
            return (slow.follower.position or 0) + dropped  # type: ignore[union-attr]

        await slow.read_until(lambda: accounted() == 20 * count, "all trades")
        assert slow.notices_of("gap")


@every_server
async def test_on_v5_trades_are_never_lost_in_silence(
    programs: Programs, exchange: StandIn, tmp_path: Path, kind: str
) -> None:
    server = await SERVERS[kind](programs, tmp_path, exchange.url, **BOUNDS)
    feed = TradesFeed(SYMBOL)
    async with reader(server, "/v5/public/linear") as slow:
        await slow.subscribe(feed.topic)
        await _say_much(server, exchange, feed)
        code, _ = await slow.read_to_the_end()
        assert code in (4108, 1006)  # a close frame that waits for a stalled reader may not leave
        assert not slow.notices


@every_server
async def test_a_reader_that_accepts_nothing_is_closed(
    programs: Programs, exchange: StandIn, tmp_path: Path, kind: str
) -> None:
    server = await SERVERS[kind](
        programs, tmp_path, exchange.url, **BOUNDS, RELAY_SLOW_TIMEOUT="1.5"
    )
    feed = BookFeed(SYMBOL)
    exchange.feeds["linear", feed.topic] = feed.greeting
    async with reader(server) as stalled:
        await stalled.subscribe(feed.topic)
        await _say_much(server, exchange, feed)
        # Nobody reads, so the topic is let go only because the relay has closed.
        lingers = asyncio.create_task(
            until(
                lambda: exchange.asked("unsubscribe", feed.topic), PATIENCE, "the topic is let go"
            )
        )
        await lingers
        assert (await stalled.read_to_the_end())[0] in (4108, 1006)


# ---- clients that stall, ping, or leave without reading ----


def _client_frame(opcode: int, payload: bytes = b"") -> bytes:
    """Return a short frame as clients send it; a mask of zeros leaves the payload as it is."""
    return bytes((0x80 | opcode, 0x80 | len(payload))) + bytes(4) + payload


def _sockets(program: Program) -> int:
    """Return how many sockets a process has open."""
    found = 0
    for entry in Path(f"/proc/{program.process.pid}/fd").iterdir():
        with suppress(OSError):
            found += os.readlink(entry).startswith("socket:")
    return found


async def _stall(server: Server, exchange: StandIn, stalled: Reader, feed: BookFeed) -> None:
    """Follow a book, read nothing, and have so much said that bytes wait at the relay."""
    await stalled.subscribe(feed.topic)
    await stalled.read_until(lambda: stalled.follower.position, "the snapshot")  # type: ignore[union-attr]
    await _say_much(server, exchange, feed)


@every_server
async def test_pings_do_not_keep_a_reader_that_accepts_nothing(
    programs: Programs, exchange: StandIn, tmp_path: Path, kind: str
) -> None:
    settings = {"RELAY_SLOW_TIMEOUT": "2", "RELAY_LINGER": "0.1"}
    server = await SERVERS[kind](programs, tmp_path, exchange.url, **BOUNDS, **settings)
    feed = BookFeed(SYMBOL)
    exchange.feeds["linear", feed.topic] = feed.greeting
    async with reader(server) as stalled:
        await _stall(server, exchange, stalled, feed)

        async def ping() -> None:
            while True:
                stalled.socket.transport.write(_client_frame(9, b"still here"))
                await asyncio.sleep(0.2)

        pinging = asyncio.create_task(ping())
        try:
            unsubscribed = lambda: exchange.asked("unsubscribe", feed.topic)  # noqa: E731
            await until(unsubscribed, PATIENCE, "the topic is let go")
        finally:
            pinging.cancel()


async def test_daphnes_own_pings_do_not_keep_a_reader_that_accepts_nothing(
    programs: Programs, exchange: StandIn
) -> None:
    settings = {"RELAY_SLOW_TIMEOUT": "4", "RELAY_LINGER": "0.1"}
    pinging = await programs.daphne(exchange.url, "--ping-interval", "1", **BOUNDS, **settings)
    server = Server(pinging.program, lambda path, **options: connect(pinging.url(path), **options))
    feed = BookFeed(SYMBOL)
    exchange.feeds["linear", feed.topic] = feed.greeting
    async with reader(server) as stalled:
        await _stall(server, exchange, stalled, feed)
        unsubscribed = lambda: exchange.asked("unsubscribe", feed.topic)  # noqa: E731
        await until(unsubscribed, PATIENCE, "the topic is let go")


async def test_pongs_wait_within_the_budget_and_the_latest_ping_is_answered_in_the_end(
    programs: Programs, exchange: StandIn
) -> None:
    budget = int(BOUNDS["RELAY_CLIENT_BUFFER"])
    relay = await programs.daphne(exchange.url, **BOUNDS, RELAY_REQUESTS_PER_SECOND="10000")
    with small_socket(relay.port) as raw:
        raw.setblocking(True)
        raw.settimeout(PATIENCE)
        raw.sendall(
            f"GET /ws HTTP/1.1\r\nHost: {relay.host}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            received += await asyncio.to_thread(raw.recv, 1)
        for number in range(12_000):
            raw.sendall(_client_frame(9, str(number).encode().rjust(100)))
        # What was sent before is read when the relay answers another client.
        async with connect(relay.url()) as other:
            await other.send('{"method":"ping"}')
            await other.recv()
        unsent = value(await scrape(relay.host), "unsent_bytes")
        assert budget / 2 < unsent <= budget
        received = b""
        while not received.endswith(b"11999"):
            got = await asyncio.to_thread(raw.recv, 65_536)
            assert got, received[-200:]
            received += got
        assert received.count(b"\x8a") < 12_000  # most were not answered


@every_server
async def test_a_client_that_says_goodbye_and_reads_nothing_is_let_go(
    programs: Programs, exchange: StandIn, tmp_path: Path, kind: str
) -> None:
    settings = {"RELAY_SLOW_TIMEOUT": "3600", "RELAY_LINGER": "0.1"}
    server = await SERVERS[kind](programs, tmp_path, exchange.url, **BOUNDS, **settings)
    feed = BookFeed(SYMBOL)
    exchange.feeds["linear", feed.topic] = feed.greeting
    async with reader(server) as stalled:
        await _stall(server, exchange, stalled, feed)
        sockets = _sockets(server.program)
        stalled.socket.transport.write(_client_frame(8, (1000).to_bytes(2, "big")))
        unsubscribed = lambda: exchange.asked("unsubscribe", feed.topic)  # noqa: E731
        await until(unsubscribed, PATIENCE, "the topic is let go")
        if kind != "uvicorn":  # which waits until the client has read, as the relay cannot know
            is_closed = lambda: _sockets(server.program) < sockets  # noqa: E731
            await until(is_closed, PATIENCE, "the socket is closed")


@every_server
async def test_a_client_that_says_goodbye_and_reads_is_answered(
    programs: Programs, exchange: StandIn, tmp_path: Path, kind: str
) -> None:
    server = await SERVERS[kind](programs, tmp_path, exchange.url, **BOUNDS)
    feed = BookFeed(SYMBOL)
    exchange.feeds["linear", feed.topic] = feed.greeting
    async with reader(server) as one:
        await one.subscribe(feed.topic)
        one.socket.transport.write(_client_frame(8, (1000).to_bytes(2, "big")))
        assert (await one.read_to_the_end())[0] == 1000


@every_server
async def test_a_client_that_closes_its_half_of_the_connection_is_let_go(
    programs: Programs, exchange: StandIn, tmp_path: Path, kind: str
) -> None:
    server = await SERVERS[kind](programs, tmp_path, exchange.url, **BOUNDS, RELAY_LINGER="0.1")
    feed = BookFeed(SYMBOL)
    exchange.feeds["linear", feed.topic] = feed.greeting
    async with reader(server) as half:
        await _stall(server, exchange, half, feed)
        half.socket.transport.get_extra_info("socket").shutdown(socket.SHUT_WR)
        unsubscribed = lambda: exchange.asked("unsubscribe", feed.topic)  # noqa: E731
        await until(unsubscribed, PATIENCE, "the topic is let go")


@every_server
async def test_a_shutdown_says_goodbye(
    programs: Programs, exchange: StandIn, tmp_path: Path, kind: str
) -> None:
    server = await SERVERS[kind](programs, tmp_path, exchange.url)
    async with reader(server) as client:
        await client.socket.send('{"method":"ping"}')
        assert json.loads(await client.socket.recv()) == {"method": "pong"}
        client.follower = Follower("none")
        server.program.signal(signal.SIGTERM)
        code, _ = await client.read_to_the_end()
        # uvicorn closes all sockets by itself before it says that it is shutting down
        assert code == (1012 if kind == "uvicorn" else 4200)
    assert await server.program.end() in (0, -signal.SIGTERM)


async def test_a_flood_is_closed_and_costs_no_memory(programs: Programs, exchange: StandIn) -> None:
    server = await programs.daphne(exchange.url)
    async with connect(server.url(), compression=None) as calm:
        await calm.send('{"method":"ping"}')
        await calm.recv()
        before = _resident(server.program)
        for flood in (_frames, _pings, _fragments):
            async with connect(server.url(), compression=None, ping_interval=None) as wild:
                flooding = asyncio.create_task(flood(wild))
                try:
                    async with asyncio.timeout(PATIENCE):
                        async for _ in wild:
                            pass
                except ConnectionClosed:
                    pass
                finally:
                    flooding.cancel()
                    await asyncio.gather(flooding, return_exceptions=True)
                assert wild.close_code == 4129, flood
        assert _resident(server.program) - before < 10 * 2**20
        await calm.send('{"method":"ping"}')
        assert json.loads(await calm.recv()) == {"method": "pong"}


async def _frames(wild: ClientConnection) -> None:
    while True:
        await wild.send("x")
        await asyncio.sleep(0)


async def _pings(wild: ClientConnection) -> None:
    while True:
        await wild.ping()
        await asyncio.sleep(0)


async def _fragments(wild: ClientConnection) -> None:
    async def parts() -> AsyncIterator[str]:
        while True:
            yield ""
            await asyncio.sleep(0)

    await wild.send(parts())


def _resident(program: Program) -> int:
    """Return the bytes of memory that a process holds."""
    status = Path(f"/proc/{program.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024
