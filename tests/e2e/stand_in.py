"""An exchange that a test leads by the hand: it says what it is told and keeps what it hears.

Independent of the relay and of its simulator. It answers pings, subscribes and unsubscribes as
Bybit does in each category, and sends nothing else by itself but the greetings of topics that
have a feed. `said` keeps each message of a topic as it left, for comparison byte for byte.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.processes import PATIENCE, until

SPOT_ARGS = 10
CHARACTERS = 21_000  # of all topics on one connection
DATA_FIRST = ("linear", "inverse")

Key = tuple[str, str]
"""(category, topic)"""


@dataclass(frozen=True, slots=True)
class Heard:
    """One request of the relay."""

    line: int
    category: str
    op: str
    args: tuple[str, ...]
    text: str


@dataclass(eq=False, slots=True)
class Line:
    """One open connection of the relay."""

    number: int
    category: str
    socket: ServerConnection
    topics: dict[str, None] = field(default_factory=dict)
    is_silent: bool = False  # half open: it hears, and says nothing any more

    async def send(self, text: str) -> None:
        if not self.is_silent:
            with contextlib.suppress(ConnectionClosed):
                await self.socket.send(text)

    def cut(self) -> None:
        """End it as Bybit does: without a close frame."""
        self.socket.transport.abort()


class StandIn:
    """The exchange while it runs.

    Attributes:
        lines: Open connections, oldest first.
        opened: Connections so far, by category.
        heard: Every request but pings, in order.
        pings: How many came, by category.
        said: What was sent of each topic, in order.
        feeds: What greets whoever subscribes a topic.
        refused: Topics that are refused, with the words.
        acks_to_lose: How many of the next acks are not sent.
        is_shut: Whether it refuses connections.
        turned_away: How many it has refused.
    """

    def __init__(self) -> None:
        self.port = 0
        self.lines: list[Line] = []
        self.opened: Counter[str] = Counter()
        self.heard: list[Heard] = []
        self.pings: Counter[str] = Counter()
        self.said: defaultdict[Key, list[str]] = defaultdict(list)
        self.feeds: dict[Key, Callable[[], Iterable[str]]] = {}
        self.refused: dict[Key, str] = {}
        self.acks_to_lose = 0
        self.is_shut = False
        self.turned_away = 0
        self._server: Server | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v5/public"

    # ---- what a test has it say ----

    async def say(self, category: str, topic: str, text: str) -> None:
        """Send one message of a topic to whoever follows it, and keep it."""
        self.said[category, topic].append(text)
        for line in self.followers(category, topic):
            await line.send(text)

    async def say_raw(self, category: str, payload: str | bytes, *, text: bool = True) -> None:
        """Send a frame of any kind on every connection of a category."""
        for line in self.of(category):
            await line.socket.send(payload, text=text)

    def of(self, category: str) -> list[Line]:
        return [line for line in self.lines if line.category == category]

    def followers(self, category: str, topic: str) -> list[Line]:
        return [line for line in self.of(category) if topic in line.topics]

    def topics(self, category: str) -> list[str]:
        """Return what is subscribed, over all connections; one named twice is two."""
        return [topic for line in self.of(category) for topic in line.topics]

    def asked(self, op: str, topic: str) -> int:
        """Return how often a topic was in a request."""
        return sum(heard.args.count(topic) for heard in self.heard if heard.op == op)

    async def until(self, condition: Callable[[], object], what: str = "") -> None:
        await until(condition, PATIENCE, f"{what}; {self.heard[-5:]}")

    async def until_followed(self, category: str, *topics: str) -> None:
        """Return when each of the topics is subscribed."""
        await self.until(
            lambda: all(self.followers(category, topic) for topic in topics), f"{topics} subscribed"
        )

    # ---- what it does by itself ----

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self.port,
            process_request=self._admit,
            compression=None,
            ping_interval=None,
            close_timeout=1,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        for line in list(self.lines):
            line.cut()
        self._server.close()
        await self._server.wait_closed()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        self.turned_away += self.is_shut
        return connection.respond(503, "shut\n") if self.is_shut else None

    async def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        category = socket.request.path.rpartition("/")[2]
        line = Line(sum(self.opened.values()), category, socket)
        self.opened[category] += 1
        self.lines.append(line)
        try:
            async for text in socket:
                await self._answer(line, str(text))
        except ConnectionClosed:
            pass
        finally:
            self.lines.remove(line)

    async def _answer(self, line: Line, text: str) -> None:
        request = json.loads(text)
        op, req_id = request["op"], request.get("req_id")
        if op == "ping":
            self.pings[line.category] += 1
            await line.send(self.pong(line.category, req_id))
            return
        args = request["args"]
        self.heard.append(Heard(line.number, line.category, op, tuple(args), text))
        if line.is_silent:
            return
        if op == "unsubscribe":
            for topic in args:
                line.topics.pop(topic, None)
            await self._acknowledge(line, op, req_id, args)
            return
        fault = self._fault(line, args)
        if fault is not None:
            await self._acknowledge(line, op, req_id, args, fault)
            return
        line.topics |= dict.fromkeys(args)
        if line.category not in DATA_FIRST:
            await self._acknowledge(line, op, req_id, args)
        for topic in args:
            for message in self.feeds.get((line.category, topic), list)():
                self.said[line.category, topic].append(message)
                await line.send(message)
        if line.category in DATA_FIRST:
            await self._acknowledge(line, op, req_id, args)

    def _fault(self, line: Line, args: list[str]) -> str | None:
        if line.category == "spot" and len(args) > SPOT_ARGS:
            return "args size >10"
        if sum(map(len, [*line.topics, *args])) > CHARACTERS:
            return "args characters >21000"
        for topic in args:
            if (line.category, topic) in self.refused:
                return self.refused[line.category, topic]
            if topic in line.topics or args.count(topic) > 1:
                return f"error:already subscribed,topic:{topic}"
        return None

    async def _acknowledge(
        self, line: Line, op: str, req_id: str | None, args: list[str], fault: str | None = None
    ) -> None:
        if self.acks_to_lose:
            self.acks_to_lose -= 1
            return
        if line.category == "option":
            agreed, failed = (args, []) if fault is None else ([], args)
            data = {"failTopics": failed, "successTopics": agreed}
            body = {"success": fault is None, "conn_id": "x", "data": data, "type": "COMMAND_RESP"}
        else:
            words = fault or ("subscribe" if line.category == "spot" else "")
            body = {"success": fault is None, "ret_msg": words, "conn_id": "x"}
            if req_id is not None or line.category != "spot":
                body["req_id"] = req_id or ""
            body["op"] = op
        await line.send(_compact(body))

    def pong(self, category: str, req_id: str | None) -> str:
        if category == "option":
            return '{"args":["1700000000000"],"op":"pong"}'
        body = {"success": True, "ret_msg": "pong", "conn_id": "x"}
        if req_id is not None or category != "spot":
            body["req_id"] = req_id or ""
        return _compact(body | {"op": "ping"})


def _compact(body: dict[str, Any]) -> str:
    return json.dumps(body, separators=(",", ":"))


class BookFeed:
    """A small order book that moves when it is told to: 20 prices a side at most.

    Prices are written as Bybit writes them, with zeros at the end in deltas and without in
    snapshots, so that whoever compares the strings goes wrong.
    """

    def __init__(self, symbol: str, depth: int = 50, seed: int = 0) -> None:
        self.symbol = symbol
        self.topic = f"orderbook.{depth}.{symbol}"
        self.u = 5000 + seed
        self.seq = 900_000
        self._random = Random(f"{symbol}:{depth}:{seed}")
        self._ts = 1_700_000_000_000
        self._bids = {n: n % 7 + 1 for n in range(1, 16)}
        self._asks = {n: n % 5 + 1 for n in range(21, 36)}

    def snapshot(self) -> str:
        bids = [[_price(n), str(size)] for n, size in sorted(self._bids.items(), reverse=True)]
        asks = [[_price(n), str(size)] for n, size in sorted(self._asks.items())]
        return self._write("snapshot", bids, asks)

    def greeting(self) -> list[str]:
        return [self.snapshot()]

    def delta(self) -> str:
        """Let the book move and return the words for it."""
        self.u += 1
        self.seq += self._random.randrange(1, 50)
        self._ts += 20
        bids = self._move(self._bids, range(1, 21))
        asks = self._move(self._asks, range(21, 41))
        return self._write("delta", sorted(bids, reverse=True), sorted(asks))

    def restart(self, kind: str) -> str:
        """Begin the count at 1 again, as a restarted service does."""
        self.u, self.seq = 1, self.seq + 1
        return self.snapshot().replace('"snapshot"', f'"{kind}"')

    def crossed(self) -> str:
        """Return a delta whose bid is above the asks."""
        self.u += 1
        self.seq += 1
        return self._write("delta", [["10.90", "1"]], [])

    def _move(self, side: dict[int, int], prices: range) -> list[list[str]]:
        changes = []
        for n in self._random.sample(prices, 3):
            if n in side and len(side) > 3 and self._random.random() < 0.4:
                del side[n]
                changes.append([f"{_price(n)}0", "0"])
            else:
                side[n] = self._random.randrange(1, 1000)
                changes.append([f"{_price(n)}0", str(side[n])])
        return changes

    def _write(self, kind: str, bids: list[list[str]], asks: list[list[str]]) -> str:
        data = {"s": self.symbol, "b": bids, "a": asks, "u": self.u, "seq": self.seq}
        body = {"topic": self.topic, "type": kind, "ts": self._ts, "data": data}
        return _compact(body | {"cts": self._ts - 2})


def _price(n: int) -> str:
    return f"10.{n:02}"


class TickerFeed:
    """A derivatives ticker that moves when it is told to."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.topic = f"tickers.{symbol}"
        self.cs = 70_000
        self._random = Random(symbol)
        self._ts = 1_700_000_000_000
        names = ("lastPrice", "markPrice", "bid1Price", "bid1Size", "fundingRate", "deliveryTime")
        self._fields = dict.fromkeys(names, "")

    def greeting(self) -> list[str]:
        return [self._write("snapshot", self._fields)]

    def lose(self, name: str) -> str:
        """Return a snapshot without a field that was there before."""
        del self._fields[name]
        self.cs += 1
        return self._write("snapshot", self._fields)

    def delta(self) -> str:
        self.cs += self._random.randrange(1, 50)
        self._ts += 100
        names = self._random.sample(sorted(self._fields), 2)
        changes = {name: f"{self._random.randrange(10_000)}.50" for name in names}
        self._fields |= changes
        return self._write("delta", changes)

    def _write(self, kind: str, fields: dict[str, str]) -> str:
        body: dict[str, Any] = {"topic": self.topic, "type": kind}
        body["data"] = {"symbol": self.symbol} | fields
        return _compact(body | {"cs": self.cs, "ts": self._ts})


class CandlesFeed:
    """Candles of a minute that move and close when they are told to."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.topic = f"kline.1.{symbol}"
        self._minute = 0
        self._pushes = 0

    def push(self) -> str:
        """Return the open candle as it is now."""
        self._pushes += 1
        return self._write(is_closed=False)

    def close(self) -> str:
        """Return the last message of the open candle, and open the next one."""
        text = self._write(is_closed=True)
        self._minute, self._pushes = self._minute + 1, 0
        return text

    def _write(self, *, is_closed: bool) -> str:
        start = 1_700_000_040_000 + self._minute * 60_000
        row = {
            "start": start,
            "end": start + 59_999,
            "interval": "1",
            "open": "10",
            "close": "10.3",
        }
        row |= {"high": "10.4", "low": "10", "volume": str(self._pushes), "turnover": "8329.06"}
        row |= {"confirm": is_closed, "timestamp": start + self._pushes}
        ts = start + self._pushes
        return _compact({"topic": self.topic, "data": [row], "ts": ts, "type": "snapshot"})


class TradesFeed:
    """Trades that happen when they are told to."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.topic = f"publicTrade.{symbol}"
        self._count = 0

    def trade(self, rows: int = 1) -> str:
        data = []
        for _ in range(rows):
            self._count += 1
            data.append(
                {
                    "T": 1_700_000_000_000 + self._count,
                    "s": self.symbol,
                    "S": "Buy",
                    "v": "0.5",
                    "p": "10.06",
                    "i": f"{self._count:08}-0000-5000-8000-000000000001",
                    "BT": False,
                    "seq": 900_000 + self._count,
                }
            )
        body = {"topic": self.topic, "type": "snapshot", "ts": 1_700_000_000_000, "data": data}
        return _compact(body)
