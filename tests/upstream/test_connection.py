"""relay/upstream/connection.py: one connection, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator

import pytest

from relay.bybit.subscriptions import Subscriptions
from relay.bybit.topics import Category
from relay.lib import timing
from relay.seam import envelopes
from relay.telemetry.telemetry import Telemetry
from relay.upstream.category import CategoryUpstream
from relay.upstream.connection import Connection, ConnectPacing
from relay.upstream.connects import Connects
from tests.e2e.stand_in import StandIn
from tests.processes import PATIENCE, until

PROXIES = ("http_proxy", "https_proxy", "socks_proxy", "ws_proxy", "wss_proxy", "no_proxy")
NOBODY = "http://127.0.0.1:9"  # no proxy is there


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
async def exchange() -> AsyncIterator[StandIn]:
    async with StandIn() as exchange:
        yield exchange


class Upstream:
    """The upstream side of one category and its connections, as a term has them."""

    def __init__(self, url: str) -> None:
        self.upstream = CategoryUpstream(
            Category.LINEAR,
            telemetry=Telemetry.fresh(),
            epoch=1,
            worker="w",
            linger=10,
            max_topics=lambda: 10_000,
            wall_ms=lambda: 1,
            random=lambda: 0.0,
        )
        self.url = f"{url}/linear"
        self.pacing = ConnectPacing(Category.LINEAR, Connects(url))
        self.connections: dict[int, Connection] = {}
        self.tasks: list[asyncio.Task[None]] = []

    def want(self, *topics: str) -> None:
        demand = envelopes.Demand("hub", dict.fromkeys(topics), epoch=0)
        self.upstream.on_demand(demand, time.monotonic())
        self.interpret()

    def interpret(self) -> None:
        effects = self.upstream.effects()
        for state in effects.opens:
            connection = Connection(
                self, state, url=self.url, ping_interval=0.5, pacing=self.pacing
            )
            self.connections[state.number] = connection
            self.tasks.append(asyncio.create_task(connection.run()))
        for state in effects.asks:
            self.connections[state.number].wake()

    def on_opened(self, connection: Connection, now: float) -> None:
        self.upstream.on_opened(connection.state, now)

    def on_closed(self, connection: Connection, error: str) -> None:
        self.upstream.on_closed(connection.state, error)

    def on_frame(self, connection: Connection, text: bytes, now: float) -> None:
        self.upstream.on_frame(connection.state, text, now)
        self.interpret()

    def on_binary(self, size: int) -> None:
        self.upstream.on_binary(size)

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def upstream(url: str) -> AsyncIterator[Upstream]:
    one = Upstream(url)
    try:
        yield one
    finally:
        await one.end()


async def test_a_connection_whose_requests_fail_is_replaced(
    exchange: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It stayed open and "live", without pings, requests or an end."""
    requests, calls = Subscriptions.requests, 0

    def fail_once(self: Subscriptions, now: float) -> list[bytes]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyError("a fault of the program")
        return requests(self, now)

    monkeypatch.setattr(Subscriptions, "requests", fail_once)
    async with upstream(exchange.url) as one:
        one.want("tickers.A")
        await exchange.until(lambda: exchange.opened["linear"] == 2, "a second connection")
        one.want("tickers.B")
        await exchange.until_followed("linear", "tickers.A", "tickers.B")
    assert "a fault of the program" in caplog.text


async def test_while_the_exchange_is_away_one_connection_tries_for_all(
    exchange: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = 0.2
    monkeypatch.setattr(timing, "EXCHANGE_FIRST_RETRY", pause)
    monkeypatch.setattr(timing, "EXCHANGE_RETRY_CEILING", pause)
    topics = [f"orderbook.50.{'X' * 38}{number:04}" for number in range(1_600)]
    exchange.is_shut = True
    async with upstream(exchange.url) as one:
        one.want(*topics)
        connections = len(one.upstream.connections)
        assert connections >= 4
        await until(lambda: exchange.turned_away >= connections, PATIENCE, "each has tried")
        began, before = time.monotonic(), exchange.turned_away
        await until(lambda: exchange.turned_away >= before + 6, PATIENCE, "six tries")
        assert time.monotonic() - began > 5 * pause * 2 / 3  # jitter takes a third at most
        exchange.is_shut = False
        await exchange.until(lambda: len(exchange.of("linear")) == connections, "all connections")


def test_the_longest_pause_and_a_handshake_that_hangs_keep_the_promise_of_ten_seconds() -> None:
    assert timing.EXCHANGE_RETRY_CEILING + timing.EXCHANGE_OPEN_LIMIT < 10


# ---- proxies ----


@contextlib.asynccontextmanager
async def proxy(port: int) -> AsyncIterator[tuple[int, list[str]]]:
    """An HTTP proxy that leads to a port of this machine, whatever it is asked for."""
    asked: list[str] = []
    pumps: list[asyncio.Task[None]] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b"\r\n")[0].decode())
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        pumps.append(asyncio.create_task(pump(reader, far_writer)))
        pumps.append(asyncio.create_task(pump(far_reader, writer)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def test_a_proxy_is_named_in_the_log_without_its_password(
    exchange: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with proxy(exchange.port) as (port, asked):
        monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{port}")
        async with upstream("ws://stream.exchange.test/v5/public") as one:
            one.want("tickers.A")
            await exchange.until_followed("linear", "tickers.A")
    assert asked == ["CONNECT stream.exchange.test:80 HTTP/1.1"]
    assert f"through the proxy http://127.0.0.1:{port}" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "socks_proxy", "WS_PROXY"])
async def test_no_proxy_is_asked_for_an_exchange_on_this_machine(
    name: str, exchange: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, NOBODY)
    async with upstream(exchange.url) as one:
        one.want("tickers.A")
        await exchange.until_followed("linear", "tickers.A")


@pytest.mark.parametrize(
    "value", ["nonsense://u:secret@x", "http://u:secret@x/path", "socks5://127.0.0.1:9", NOBODY]
)
async def test_a_proxy_that_cannot_be_used_is_said_in_one_line(
    value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("https_proxy", value)
    async with upstream("ws://stream.exchange.test/v5/public") as one:
        one.want("tickers.A")
        await until(lambda: "cannot be made" in caplog.text, PATIENCE, "a warning")
    assert "Traceback" not in caplog.text
    assert "through the proxy" in caplog.text
    assert "secret" not in caplog.text
