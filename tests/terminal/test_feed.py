"""What `watch` does about a relay that errs, overflows, moves or falls silent.

The relay is led by hand here, to say what a right one would not.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from relay.bybit.frames import Frame
from relay.bybit.topics import Category, Topic
from relay.downstream.close_codes import CloseCode, Retry
from relay.lib import timing
from relay.terminal import feed as module
from relay.terminal.feed import FeedState, TopicFeed, Unwelcome
from relay.terminal.followed import Followed, State, Trade
from tests.processes import PATIENCE, until

BOOK = Topic.parse(Category.LINEAR, "orderbook.50.X")
TRADES = Topic.parse(Category.LINEAR, "publicTrade.X")
Levels = list[list[str]]


class Relay:
    """A relay that says what the test wants.

    Attributes:
        sockets: All connections so far.
        heard: Every request but pings.
        opened: When each connection was opened.
    """

    def __init__(self) -> None:
        self.port = 0
        self.sockets: list[ServerConnection] = []
        self.heard: list[dict[str, Any]] = []
        self.opened: list[float] = []
        self.is_silent = False
        self.refuses_with: tuple[int, str] | None = None  # close code and words
        self.answers: list[dict[str, Any]] = []  # instead of success, one a subscribe

    async def serve(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        self.opened.append(time.monotonic())
        if self.refuses_with is not None:
            code, words = self.refuses_with
            await self.say({"type": "bye", "code": "refused", "message": words})
            await socket.close(code)
        async for text in socket:
            request = json.loads(text)
            if request["method"] == "ping":
                if not self.is_silent:
                    await socket.send('{"method":"pong"}')
                continue
            self.heard.append(request)
            answer: dict[str, Any] = {"method": request["method"], "success": True}
            if request["method"] == "subscribe" and self.answers:
                answer |= self.answers.pop(0)
            await self.say(answer | {"id": request["id"]})

    async def say(self, body: object) -> None:
        await self.sockets[-1].send(json.dumps(body))

    async def book(self, kind: str, u: int, bids: Levels, asks: Levels) -> None:
        data = {"s": "X", "b": bids, "a": asks, "u": u, "seq": u}
        await self.say({"topic": BOOK.text, "type": kind, "ts": 1_000 + u, "data": data})

    async def trades(self, *ids: int) -> None:
        data = [{"T": n, "s": "X", "S": "Buy", "v": "1", "p": "2", "i": str(n)} for n in ids]
        await self.say({"topic": TRADES.text, "type": "snapshot", "ts": 1, "data": data})

    def asked(self) -> list[str]:
        return [request["method"] for request in self.heard]


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    made = Relay()
    async with serve(made.serve, "127.0.0.1", 0, ping_interval=None, close_timeout=0.1) as server:
        made.port = next(iter(server.sockets)).getsockname()[1]
        yield made


class Watching:
    """A feed that runs, and what came out of it."""

    def __init__(self, relay: Relay, *topics: Topic) -> None:
        self.messages: list[Frame] = []
        self.trades: list[str] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.feed = TopicFeed(
            f"ws://127.0.0.1:{relay.port}/ws",
            topics,
            on_message=self.take,
            on_change=lambda: None,
        )
        self.task = asyncio.create_task(self.feed.run())

    @property
    def book(self) -> Followed:
        return self.feed.topics[BOOK.text]

    async def take(self, followed: Followed, frame: Frame, trades: list[Trade]) -> None:
        await self.hold.wait()
        self.messages.append(frame)
        self.trades += [trade.id for trade in trades]

    async def came(self, count: int) -> None:
        await until(lambda: len(self.messages) >= count, PATIENCE, f"{count} messages")

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_a_relay_that_refuses_the_connection_is_never_called_live(relay: Relay) -> None:
    relay.refuses_with = (4003, "this origin may not connect")
    watching = Watching(relay, BOOK)
    states: list[FeedState] = []
    watching.feed._on_change = lambda: states.append(watching.feed.state)
    with pytest.raises(Unwelcome, match="this origin may not connect"):
        async with asyncio.timeout(PATIENCE):
            await watching.task
    assert FeedState.LIVE not in states
    assert watching.feed.state is FeedState.CONNECTING


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "socks_proxy", "WS_PROXY"])
async def test_no_proxy_is_asked_for_a_relay_on_this_machine(
    name: str, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody is there
    watching = Watching(relay, BOOK)
    reasons: list[str] = []
    watching.feed._on_change = lambda: reasons.append(watching.feed.reason)
    await until(lambda: relay.heard or any(reasons), PATIENCE, "a subscribe or a vain try")
    await watching.end()
    assert relay.heard, reasons


@pytest.mark.parametrize("value", ["nonsense://u:secret@x", "http://u:secret@x/path"])
async def test_a_proxy_that_cannot_be_used_is_named_without_its_password(
    value: str, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("ws_proxy", value)
    watching = Watching(relay, BOOK)
    watching.feed._url = "ws://relay.test/ws"
    reasons: list[str] = []
    watching.feed._on_change = lambda: reasons.append(watching.feed.reason)
    await until(lambda: any(reasons) or watching.task.done(), PATIENCE, "a vain try")
    await watching.end()
    assert reasons[-1].startswith(value[:4])
    assert "isn't a valid proxy" in reasons[-1]
    assert "secret" not in reasons[-1]


async def test_a_relay_that_never_had_the_exchange_has_not_lost_it(relay: Relay) -> None:
    watching = Watching(relay, BOOK)
    await until(lambda: relay.heard, PATIENCE, "a subscribe")
    status = {"type": "status", "category": "linear", "since": 1}
    for upstream, reason in (
        ("down", "the relay is not connected to the exchange"),
        ("live", ""),
        ("down", "the relay has lost the exchange"),
    ):
        await relay.say(status | {"upstream": upstream})
        await until(lambda: watching.feed.reason == reason, PATIENCE, reason)  # noqa: B023
    await watching.end()


async def test_a_gap_makes_the_book_stale_until_a_new_snapshot(relay: Relay) -> None:
    watching = Watching(relay, BOOK)
    await until(lambda: relay.heard, PATIENCE, "a subscribe")
    assert relay.heard[0] | {"id": "?"} == {
        "method": "subscribe",
        "topic": "orderbook",
        "symbol": "X",
        "levels": 50,
        "category": "linear",
        "id": "?",
    }
    await relay.book("snapshot", 7, [["1.0", "5"]], [["2.0", "6"]])
    await relay.book("delta", 8, [["1.00", "0"], ["0.9", "4"]], [])
    await watching.came(2)
    assert watching.book.levels(9) == ([("0.9", "4")], [("2.0", "6")])
    assert watching.book.state is State.LIVE
    await relay.book("delta", 10, [["1.5", "1"]], [])
    await until(lambda: len(relay.heard) == 3, PATIENCE, "a new subscribe")
    assert relay.asked() == ["subscribe", "unsubscribe", "subscribe"]
    assert watching.book.state is State.STALE
    assert watching.book.levels(9)[0] == [("0.9", "4")]
    await relay.book("delta", 11, [["1.6", "1"]], [])  # still of the old sequence
    await relay.book("snapshot", 12, [["1.1", "1"]], [["2.0", "6"]])
    await watching.came(3)
    assert watching.book.state is State.LIVE
    assert watching.book.levels(9) == ([("1.1", "1")], [("2.0", "6")])
    await watching.end()


async def test_a_crossed_book_is_not_shown_as_right(relay: Relay) -> None:
    watching = Watching(relay, BOOK)
    await until(lambda: relay.heard, PATIENCE, "a subscribe")
    await relay.book("snapshot", 7, [["3", "5"]], [["2", "6"]])
    await until(lambda: len(relay.heard) == 3, PATIENCE, "a new subscribe")
    assert watching.book.state is not State.LIVE
    assert not watching.messages
    await watching.end()


async def test_a_book_that_is_crossed_for_a_moment_is_right_again_when_it_has_healed(
    relay: Relay,
) -> None:
    watching = Watching(relay, BOOK)
    await until(lambda: relay.heard, PATIENCE, "a subscribe")
    await relay.book("snapshot", 7, [["1", "5"]], [["2", "6"]])
    await watching.came(1)
    for update_id in range(8, 28, 2):
        await relay.book("delta", update_id, [["2", "1"]], [])
        await relay.book("delta", update_id + 1, [["2", "0"]], [])
    await watching.came(11)
    assert watching.book.state is State.LIVE
    assert watching.book.levels(9) == ([("1", "5")], [("2", "6")])
    assert relay.asked() == ["subscribe"]
    await watching.end()


async def test_a_connection_that_can_ask_for_nothing_is_replaced(
    relay: Relay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write, faults = TopicFeed._request, [ZeroDivisionError("once")]

    def failing(self: TopicFeed, method: str, followed: Followed) -> str:
        if faults:
            raise faults.pop()
        return write(self, method, followed)

    monkeypatch.setattr(TopicFeed, "_request", failing)
    watching = Watching(relay, BOOK)
    await until(lambda: relay.asked() == ["subscribe"], PATIENCE, "the topic is asked for")
    assert len(relay.sockets) == 2
    assert "ZeroDivisionError" in caplog.text
    await watching.end()


async def test_nonsense_is_survived(relay: Relay) -> None:
    watching = Watching(relay, BOOK)
    await until(lambda: relay.heard, PATIENCE, "a subscribe")
    for text in ("?", "[]", '{"method":7}', '{"topic":"tickers.Y","type":"snapshot","data":{}}'):
        await relay.sockets[-1].send(text)
    await relay.sockets[-1].send(b"\xff\xfe")
    await relay.book("snapshot", 7, [["1", "5"]], [["2", "6"]])
    await watching.came(1)
    assert len(relay.sockets) == 1
    await watching.end()


async def test_trades_are_told_once_though_the_greeting_repeats_them(relay: Relay) -> None:
    watching = Watching(relay, TRADES)
    await until(lambda: relay.heard, PATIENCE, "a subscribe")
    await relay.trades(1, 2, 3)
    await relay.trades(4)
    await watching.came(2)
    await relay.sockets[-1].close(4200, "moving")
    await until(lambda: len(relay.heard) == 2, PATIENCE, "a new subscribe")
    await relay.trades(2, 3, 4, 5, 6)
    await relay.trades(7)
    await watching.came(4)
    assert watching.trades == list("1234567")
    await relay.say({"type": "gap", "topic": TRADES.text, "dropped": 12})
    followed = watching.feed.topics[TRADES.text]
    await until(lambda: followed.dropped == 12, PATIENCE, "the gap is counted")
    await watching.end()


@pytest.mark.parametrize(
    ("code", "least", "most"),
    [
        (4200, 0.0, module.AT_ONCE),
        (1001, timing.TERMINAL_FIRST_RETRY, timing.TERMINAL_FIRST_RETRY),
        (4100, module.CROWDED_RETRY, module.CROWDED_RETRY),
        (4129, module.CROWDED_RETRY, module.CROWDED_RETRY),
    ],
)
async def test_the_close_code_says_when_to_come_back(
    code: int, least: float, most: float, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CROWDED_RETRY", 1.5)
    least, most = (1.5 if n == 5.0 else n for n in (least, most))
    watching = Watching(relay, BOOK)
    await until(lambda: relay.heard, PATIENCE, "a subscribe")
    noticed: list[tuple[float, float | None, str]] = []

    def note() -> None:  # a pause may be shorter than a look
        if watching.feed.state is FeedState.RECONNECTING:
            noticed.append((time.monotonic(), watching.feed.retry_at, watching.feed.reason))

    watching.feed._on_change = note
    closed = time.monotonic()
    await relay.say({"type": "bye", "code": "x", "message": "because"})
    await relay.sockets[-1].close(code, "")
    await until(lambda: noticed, PATIENCE, "it notices")
    at, retry_at, reason = noticed[0]
    assert retry_at is not None
    assert closed + least <= retry_at <= at + most
    assert "because" in reason
    await until(lambda: len(relay.opened) == 2, PATIENCE, "it comes back")
    assert relay.opened[1] - closed >= least
    await watching.end()


@pytest.mark.parametrize("code", CloseCode)
def test_every_close_code_is_treated_as_the_relay_means_it(code: CloseCode) -> None:
    pauses = module.Pauses()
    first, second = pauses.after(code, 0.0), pauses.after(code, 0.0)
    match code.retry:
        case Retry.NEVER:
            assert (first, second) == (None, None)
        case Retry.AT_ONCE:
            assert (first, second) == (0.0, timing.TERMINAL_FIRST_RETRY)
        case Retry.BACK_OFF:
            assert first == module.CROWDED_RETRY
            assert second > first
        case Retry.GROWING:
            assert first == timing.TERMINAL_FIRST_RETRY
            assert second > first


async def test_failures_in_a_row_wait_longer_and_longer(relay: Relay) -> None:
    watching = Watching(relay, BOOK)
    for count in (1, 2, 3):
        await until(lambda count=count: len(relay.heard) == count, PATIENCE, "a subscribe")
        await relay.sockets[-1].close(4200, "moving")
    await until(lambda: len(relay.opened) == 4, PATIENCE, "a fourth connection")
    pauses = [after - before for before, after in zip(relay.opened, relay.opened[1:], strict=False)]
    assert pauses[1] >= timing.TERMINAL_FIRST_RETRY
    assert pauses[2] >= timing.TERMINAL_FIRST_RETRY * 4 / 3
    await watching.end()


async def test_a_fault_of_ours_is_the_end(relay: Relay) -> None:
    watching = Watching(relay, BOOK)
    await until(lambda: relay.heard, PATIENCE, "a subscribe")
    await relay.sockets[-1].close(4003, "foreign origin")
    with pytest.raises(Unwelcome, match=r"^The relay closed the .*: foreign origin \(4003\)\.$"):
        await asyncio.wait_for(watching.task, PATIENCE)


async def test_a_refusal_of_the_moment_is_asked_again(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOMENTARY_RETRY", 0.05)
    error = {"code": "rate_limited", "message": "slow down"}
    relay.answers = [{"success": False, "error": error}]
    watching = Watching(relay, BOOK)
    await until(lambda: relay.asked() == ["subscribe"] * 2, PATIENCE, "a second subscribe")
    await relay.book("snapshot", 7, [["1", "5"]], [["2", "6"]])
    await watching.came(1)
    await watching.end()


async def test_a_relay_that_falls_silent_is_left(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "TERMINAL_PING", 0.1)
    monkeypatch.setattr(timing, "TERMINAL_SILENCE", 4.0)
    watching = Watching(relay, BOOK)
    await until(lambda: relay.heard, PATIENCE, "a subscribe")
    await relay.book("snapshot", 7, [["1", "5"]], [["2", "6"]])
    await watching.came(1)
    await asyncio.sleep(4.5)  # quiet, yet it answers pings
    assert len(relay.sockets) == 1
    relay.is_silent = True
    await until(lambda: len(relay.sockets) == 2, PATIENCE, "a new connection")
    assert watching.book.state is State.STALE
    await watching.end()


async def test_a_reader_that_stands_still_is_no_silence_of_the_relay(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "TERMINAL_PING", 0.1)
    monkeypatch.setattr(timing, "TERMINAL_SILENCE", 3.0)
    watching = Watching(relay, BOOK)
    await until(lambda: relay.heard, PATIENCE, "a subscribe")
    watching.hold.clear()
    await relay.book("snapshot", 7, [["1", "5"]], [["2", "6"]])
    await asyncio.sleep(3.5)
    watching.hold.set()
    await watching.came(1)
    assert len(relay.sockets) == 1
    await watching.end()


async def test_while_the_exchange_is_lost_only_what_continues_is_live(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = Watching(relay, BOOK)
    await until(lambda: relay.heard, PATIENCE, "a subscribe")
    await relay.book("snapshot", 7, [["1", "5"]], [["2", "6"]])
    await watching.came(1)
    await relay.say({"type": "status", "category": "linear", "upstream": "down", "since": 1})
    await relay.book("delta", 8, [], [])  # was under way
    await watching.came(2)
    assert watching.feed.state is FeedState.STALE
    assert watching.book.state is State.STALE
    monkeypatch.setattr(module, "UNDER_WAY", 0.0)
    await relay.book("delta", 9, [], [])  # comes by another connection of the relay's
    await watching.came(3)
    assert watching.book.state is State.LIVE
    await watching.end()
