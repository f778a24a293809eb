"""A real client library that knows nothing of this relay: pybit, with one address changed.

pybit is the strictest judge there is: it dies of an ack it did not ask for, of data without a
callback, and of a delta that deletes a level it does not hold. What dies in its thread fails
the test, because a warning is an error here.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from pybit import unified_trading

from tests.e2e.control import control
from tests.e2e.reference import levels
from tests.processes import DAPHNE, PATIENCE, Programs, until

JOINS = 40


class Heard:
    """What pybit's callbacks were given, by topic."""

    def __init__(self) -> None:
        self.by_topic: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)

    def __call__(self, message: dict[str, Any]) -> None:
        self.by_topic[message["topic"]].append(message)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        await until(
            condition, PATIENCE, f"{what}; {[(t, len(m)) for t, m in self.by_topic.items()]}"
        )

    async def until_more(self, topic: str, count: int = 3) -> None:
        before = len(self.by_topic[topic])
        await self.until(lambda: len(self.by_topic[topic]) >= before + count, f"more of {topic}")


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Points pybit at a relay."""

    def point(host: str) -> None:
        url = "ws://" + host + "/v5/public/{CHANNEL_TYPE}"
        monkeypatch.setattr(unified_trading, "PUBLIC_WSS", url)

    return point


@asynccontextmanager
async def pybit(
    category: str, *, restart_on_error: bool = False
) -> AsyncIterator[unified_trading.WebSocket]:
    """A connected client; none of its threads is left behind."""
    before = set(threading.enumerate())
    client = await asyncio.to_thread(
        unified_trading.WebSocket,
        channel_type=category,
        testnet=False,
        restart_on_error=restart_on_error,
    )
    take_no_ack_early(client)
    try:
        yield client
        assert client.is_connected(), "pybit has died"
    finally:
        end(client)
        pool = "asyncio_"  # the test's own
        own = [t for t in threading.enumerate() if t not in before and not t.name.startswith(pool)]
        for thread in own:
            await asyncio.to_thread(thread.join, PATIENCE)
        assert not any(thread.is_alive() for thread in own)


def take_no_ack_early(client: unified_trading.WebSocket) -> None:
    """Spare pybit a race of its own: it notes a subscription after it has sent the request.

    On a machine that is busy for longer than the relay's acks wait, the ack comes in between, and
    ends pybit's thread with a KeyError. The lock has it come after, and changes nothing else.
    """
    lock = threading.RLock()
    subscribe, take = client.subscribe, client.callback

    def subscribe_locked(*arguments: Any, **options: Any) -> Any:
        with lock:
            return subscribe(*arguments, **options)

    def take_locked(message: Any) -> None:
        with lock:
            take(message)

    client.subscribe, client.callback = subscribe_locked, take_locked


def end(client: unified_trading.WebSocket) -> None:
    """Close as pybit does, and wake its thread, which would sleep for ten seconds more."""
    client.exited = True
    client._stop_custom_ping_timer()
    if client.is_connected():
        client.ws.keep_running = False
        client.ws.sock.sock.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("category", ["linear", "spot"])
async def test_pybit_follows_a_market_through_the_relay(
    category: str, programs: Programs, address: Callable[[str], None]
) -> None:
    port = await programs.simulator("--rate", "40")
    relay = await programs.daphne(f"ws://127.0.0.1:{port}/v5/public")
    address(relay.host)
    book, trades, ticker = "orderbook.50.BTCUSDT", "publicTrade.BTCUSDT", "tickers.BTCUSDT"
    heard = Heard()
    async with control(port) as exchange, pybit(category) as client:
        client.orderbook_stream(50, "BTCUSDT", heard)
        client.trade_stream("BTCUSDT", heard)
        client.ticker_stream("BTCUSDT", heard)
        for topic in (book, trades, ticker):
            await heard.until_more(topic, 10)
        await exchange.do("pause")
        truth = await exchange.do("book", category=category, topic=book)
        await heard.until(
            lambda: heard.by_topic[book][-1]["data"]["u"] == truth["u"], f"u {truth['u']}"
        )
        held = heard.by_topic[book][-1]["data"]
        assert (levels(held["b"]), levels(held["a"])) == (levels(truth["b"]), levels(truth["a"]))
        fields = (await exchange.do("ticker", category=category, topic=ticker))["data"]
        await heard.until(
            lambda: fields.items() <= heard.by_topic[ticker][-1]["data"].items(), f"{fields}"
        )
        ids = [row["i"] for message in heard.by_topic[trades] for row in message["data"]]
        assert len(ids) == len(set(ids)) >= 10


@pytest.mark.parametrize("category", ["linear", "spot"])
async def test_an_unsubscribe_does_not_kill_pybit(
    category: str, programs: Programs, address: Callable[[str], None]
) -> None:
    port = await programs.simulator("--rate", "200")
    relay = await programs.daphne(f"ws://127.0.0.1:{port}/v5/public")
    address(relay.host)
    book, trades = "orderbook.50.BTCUSDT", "publicTrade.BTCUSDT"
    heard = Heard()
    async with pybit(category) as client:
        client.trade_stream("BTCUSDT", heard)
        for _ in range(10):
            client.orderbook_stream(50, "BTCUSDT", heard)
            await heard.until_more(book, 3)
            client.unsubscribe(book)
            await heard.until(lambda: book not in client.callback_directory, "unsubscribed")
        await heard.until_more(trades, 3)
        assert client.get_subscription_topics() == [trades]


async def test_pybit_may_join_a_busy_topic_at_any_moment(
    programs: Programs, address: Callable[[str], None]
) -> None:
    port = await programs.simulator("--rate", "100")
    relay = await programs.daphne(f"ws://127.0.0.1:{port}/v5/public", RELAY_LINGER="30")
    address(relay.host)
    for _ in range(JOINS):
        heard = Heard()
        async with pybit("linear") as client:
            client.orderbook_stream(50, "BTCUSDT", heard)
            await heard.until_more("orderbook.50.BTCUSDT", 3)


async def test_pybit_survives_a_cut_upstream_and_a_gap(
    programs: Programs, address: Callable[[str], None]
) -> None:
    port = await programs.simulator("--rate", "40")
    relay = await programs.daphne(f"ws://127.0.0.1:{port}/v5/public")
    address(relay.host)
    topic, heard = "orderbook.50.BTCUSDT", Heard()
    async with control(port) as exchange, pybit("linear") as client:
        client.orderbook_stream(50, "BTCUSDT", heard)
        await heard.until_more(topic)
        await exchange.do("gap", category="linear", topic=topic)
        await heard.until_more(topic, 20)
        await exchange.do("drop", category="linear")
        await heard.until_more(topic, 20)
        await exchange.do("pause")
        truth = await exchange.do("book", category="linear", topic=topic)
        await heard.until(
            lambda: heard.by_topic[topic][-1]["data"]["u"] == truth["u"], f"u {truth['u']}"
        )
        held = heard.by_topic[topic][-1]["data"]
        assert (levels(held["b"]), levels(held["a"])) == (levels(truth["b"]), levels(truth["a"]))


# pybit leaves the sockets of its earlier connections to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_pybit_as_it_comes_survives_the_restart_of_a_relay_behind_a_shared_socket(
    programs: Programs, address: Callable[[str], None]
) -> None:
    exchange = await programs.simulator("--rate", "40")
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        fd = listener.fileno()
        command = (DAPHNE, "--fd", str(fd), "marketfeed.asgi:application")
        upstream = f"ws://127.0.0.1:{exchange}/v5/public"
        start = partial(programs.start, "web", *command, inherits=(fd,), UPSTREAM_URL=upstream)
        address(f"127.0.0.1:{listener.getsockname()[1]}")
        topic, heard = "orderbook.50.BTCUSDT", Heard()
        old = start()
        async with pybit("linear", restart_on_error=True) as client:
            client.orderbook_stream(50, "BTCUSDT", heard)
            await heard.until_more(topic)
            old.signal(signal.SIGTERM)
            assert await old.end() == 0
            start()
            await heard.until_more(topic, 20)
    gc.collect()
