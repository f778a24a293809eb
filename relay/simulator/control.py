"""Commands for tests: faults, freezing the market, and looking at what the exchange believes.

One JSON object in, one out: `{"do": "gap", "category": "linear", "topic": "orderbook.50.BTCUSDT"}`
is answered `{"ok": true}`, anything wrong `{"ok": false, "error": "..."}`. Every order has been
carried out when its answer comes.
"""

from __future__ import annotations

import logging
from random import Random
from typing import Any

import msgspec
from websockets.asyncio.server import ServerConnection

from relay.simulator.exchange import Stream
from relay.simulator.topics import Category, Feed, Topic
from relay.simulator.venue import Socket, Venue
from relay.simulator.views import DepthView, View
from relay.simulator.wire import binary_frame, text_frame

logger = logging.getLogger(__name__)

Command = dict[str, Any]
Answer = dict[str, Any]

HUGE = 10_000_000  # bytes of the huge garbage frame
GARBAGE = ("utf8", "binary", "json", "array", "unknown_topic", "missing_field", "huge")
STEPS_AT_ONCE = 10_000
RANDOM_SILENCE = 5.0  # seconds, as the next two: how long a fault by option lasts
RANDOM_REFUSAL = 2.0
RANDOM_ACK_DELAY = 2.0

_OF_A_TOPIC = ("gap", "repeat", "reorder", "restart", "cross")
_OF_A_CATEGORY = (
    "drop",
    "refuse_connections",
    "refuse_subscribes",
    "silence",
    "garbage",
    "delay_acks",
    "lose_acks",
)
FAULTS = _OF_A_CATEGORY + _OF_A_TOPIC
"""The faults that can be ordered by name and interval."""


class ControlError(Exception):
    """A command that cannot be carried out; the words are the answer."""


class Controls:
    """The control endpoint of one venue."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    async def serve(self, connection: ServerConnection) -> None:
        """Answer one test's commands until it leaves."""
        async for message in connection:
            await connection.send(msgspec.json.encode(self.answer(message)).decode())

    def answer(self, message: str | bytes) -> Answer:
        """Carry out one command in text."""
        try:
            command = msgspec.json.decode(message)
        except ValueError:
            command = None
        if not isinstance(command, dict):
            return {"ok": False, "error": "expected a JSON object"}
        return self.do(command)

    def do(self, command: Command) -> Answer:
        """Carry out one command."""
        name = command.get("do")
        method = getattr(self, f"_do_{name}", None) if isinstance(name, str) else None
        if method is None:
            return {"ok": False, "error": f"unknown command: {name!r}"[:100]}
        try:
            return {"ok": True, **(method(command) or {})}
        except ControlError as fault:
            return {"ok": False, "error": str(fault)}

    # Faults of a category

    def _do_drop(self, command: Command) -> Answer:
        sockets = self._sockets(_category(command))
        for socket in sockets:
            socket.abort()
        return {"dropped": len(sockets)}

    def _do_refuse_connections(self, command: Command) -> None:
        until = self._venue.loop_time() + _number(command, "seconds")
        categories = [_category(command)] if "category" in command else list(Category)
        for category in categories:
            self._venue.faults[category].refusing_until = until

    def _do_silence(self, command: Command) -> None:
        until = self._venue.loop_time() + _number(command, "seconds")
        self._venue.faults[_category(command)].silent_until = until

    def _do_delay_acks(self, command: Command) -> None:
        faults = self._venue.faults[_category(command)]
        faults.ack_delay = _number(command, "seconds")
        faults.acks_to_delay = _count(command, default=10**9)

    def _do_lose_acks(self, command: Command) -> None:
        self._venue.faults[_category(command)].acks_to_lose = _count(command)

    def _do_refuse_subscribes(self, command: Command) -> None:
        self._venue.faults[_category(command)].subscribes_to_refuse = _count(command)

    def _do_garbage(self, command: Command) -> Answer:
        kind = command.get("kind")
        if kind not in GARBAGE:
            raise ControlError(f"kind must be one of {', '.join(GARBAGE)}")
        sockets = self._sockets(_category(command))
        for socket in sockets:
            socket.push(_garbage(kind, socket.session.topics))
        return {"sent": len(sockets)}

    def _do_refuse(self, command: Command) -> None:
        self._venue.exchange.refuse(_category(command), _string(command, "symbol"))

    # Faults of a topic

    def _do_gap(self, command: Command) -> None:
        self._stream(command).to_swallow += _count(command)

    def _do_repeat(self, command: Command) -> None:
        stream = self._stream(command)
        if stream.last is None:
            stream.to_repeat = True
        else:
            stream.deliver(stream.last)

    def _do_reorder(self, command: Command) -> None:
        self._stream(command).to_swap = True

    def _do_restart(self, command: Command) -> Answer:
        kind = command.get("as", "snapshot")
        if kind not in ("snapshot", "delta"):
            raise ControlError("as must be snapshot or delta")
        if "topic" in command:
            stream = self._stream(command)
            if not self._venue.exchange.restart(stream, kind):
                raise ControlError(f"{stream.topic} has no state to restart")
            return {"restarted": 1}
        category = _category(command)
        restarted = [
            stream
            for stream in list(self._venue.exchange.followed.values())
            if stream.topic.category is category and self._venue.exchange.restart(stream, kind)
        ]
        return {"restarted": len(restarted)}

    def _do_cross(self, command: Command) -> None:
        stream = self._stream(command)
        if not self._venue.exchange.cross(stream):
            raise ControlError(f"{stream.topic} is not a book with deltas")

    # The market

    def _do_pause(self, command: Command) -> None:
        self._check_market()
        self._venue.is_paused = True

    def _do_resume(self, command: Command) -> None:
        self._check_market()
        self._venue.is_paused = False

    def _do_step(self, command: Command) -> None:
        self._check_market()
        venue = self._venue
        symbol = _string(command, "symbol")
        try:
            listing = venue.exchange.listing(_category(command), symbol, venue.clock())
        except KeyError:
            raise ControlError(f"unknown symbol: {symbol[:80]}") from None
        for _ in range(min(_count(command), STEPS_AT_ONCE)):
            venue.exchange.step(listing, venue.clock())

    # Looking

    def _do_state(self, command: Command) -> Answer:
        venue = self._venue
        topics: dict[str, dict[str, int]] = {category: {} for category in Category}
        for socket in venue.sockets:
            for topic in socket.session.topics:
                counts = topics[socket.category]
                counts[topic] = counts.get(topic, 0) + 1
        return {
            "connections": {category: len(self._sockets(category)) for category in Category},
            "opened": {category: venue.tallies[category].opened for category in Category},
            "topics": topics,
            "requests": {c: len(venue.tallies[c].requests) for c in Category},
            "silent": [category for category in Category if venue.is_silent(category)],
            "sent": venue.exchange.sent,
            "steps": venue.exchange.steps,
            "paused": venue.is_paused,
        }

    def _do_requests(self, command: Command) -> Answer:
        return {"requests": list(self._venue.tallies[_category(command)].requests)}

    def _do_book(self, command: Command) -> Answer:
        topic = self._topic(command)
        if topic.feed is not Feed.ORDERBOOK:
            raise ControlError(f"{topic} is not a book")
        return self._view(topic).state()

    def _do_candle(self, command: Command) -> Answer:
        topic = self._topic(command)
        if topic.feed is not Feed.CANDLES:
            raise ControlError(f"{topic} is not a candle")
        return self._view(topic).state()

    def _do_ticker(self, command: Command) -> Answer:
        text = command.get("topic") or f"{Feed.TICKERS}.{_string(command, 'symbol')}"
        topic = self._topic(command | {"topic": text})
        if topic.feed is not Feed.TICKERS:
            raise ControlError(f"{topic} is not a ticker")
        return self._view(topic).state()

    def _check_market(self) -> None:
        if self._venue.replay is not None:
            raise ControlError("a replay has no market")

    def _sockets(self, category: Category) -> list[Socket]:
        return [socket for socket in self._venue.sockets if socket.category is category]

    def _topic(self, command: Command) -> Topic:
        self._check_market()
        category, text = _category(command), _string(command, "topic")
        topic = self._venue.exchange.topic(category, text)
        if topic is None:
            raise ControlError(f"unknown topic: {text[:80]}")
        return topic

    def _stream(self, command: Command) -> Stream:
        topic = self._topic(command)
        stream = self._venue.exchange.followed.get(topic)
        if stream is None:
            raise ControlError(f"no reader follows {topic}")
        return stream

    def _view(self, topic: Topic) -> View:
        return self._venue.exchange.view(topic, self._venue.clock())


def random_command(name: str, venue: Venue, random: Random) -> Command | None:
    """Return the command for one fault on a random target, None while there is no target."""
    if name in _OF_A_TOPIC:
        streams = [
            stream
            for stream in venue.exchange.followed.values()
            if isinstance(stream.views[0], DepthView)
        ]
        if not streams:
            return None
        topic = random.choice(sorted((stream.topic for stream in streams), key=str))
        return {"do": name, "category": topic.category, "topic": topic.text}
    categories = sorted({socket.category for socket in venue.sockets})
    if not categories:
        return None
    command: Command = {"do": name, "category": random.choice(categories)}
    match name:
        case "garbage":
            command["kind"] = random.choice(GARBAGE)
        case "silence":
            command["seconds"] = RANDOM_SILENCE
        case "refuse_connections":
            command["seconds"] = RANDOM_REFUSAL
        case "delay_acks":
            command |= {"seconds": RANDOM_ACK_DELAY, "count": 1}
    return command


def _garbage(kind: str, topics: dict[str, None]) -> bytes:
    match kind:
        case "utf8":
            return text_frame(b'{"topic":"\xff\xfe\xfa"}')
        case "binary":
            return binary_frame(b"\x00\x01\x02\x03")
        case "json":
            return text_frame(b'{"topic":"orderbook.50.')
        case "array":
            return text_frame(b"[1,2,3]")
        case "unknown_topic":
            return text_frame(b'{"topic":"candles.1.NOSUCH","type":"snapshot","ts":1,"data":{}}')
        case "missing_field":
            topic = next((one for one in topics if one.startswith("orderbook")), "orderbook.50.X")
            symbol = topic.split(".", 2)[2]
            return text_frame(
                f'{{"topic":"{topic}","type":"delta","ts":1,"data":{{"s":"{symbol}","b":[]}}}}'.encode()
            )
        case _:
            return text_frame(b'{"topic":"' + b"x" * (HUGE - 12) + b'"}')


def _category(command: Command) -> Category:
    name = _string(command, "category")
    try:
        return Category(name)
    except ValueError:
        raise ControlError(f"bad category: {name[:80]}") from None


def _string(command: Command, name: str) -> str:
    value = command.get(name)
    if not isinstance(value, str):
        raise ControlError(f"{name} must be a string")
    return value


def _number(command: Command, name: str) -> float:
    value = command.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ControlError(f"{name} must be a number, 0 or more")
    return value


def _count(command: Command, default: int = 1) -> int:
    value = command.get("count", default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ControlError("count must be a whole number, 0 or more")
    return value
