"""A client of the relay at either door, which watches over the relay's promises.

Every message is held against them as it comes: no data before the ack of its topic nor after
that of the unsubscribe, Bybit's rules for each topic (`reference`), and on `/v5` nothing that
Bybit would not say. A breach fails the next `until`, or the end of the test.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.e2e.reference import Breach, Follower
from tests.processes import PATIENCE

ENVELOPE = {"topic", "ts", "data"}
REPLY = {"success", "ret_msg", "conn_id", "req_id", "op"}
OPTION_REPLY = {"success", "conn_id", "data", "type"}
OPTION_PONG = {"args", "op"}


class Client:
    """One connection.

    Attributes:
        followers: By topic, from its first ack on.
        replies: Acks, refusals, pongs and lists, in order.
        notices: Messages with a `type` that are no market data, in order.
        code: Of the close frame, once the connection has ended.
    """

    def __init__(self, socket: ClientConnection, path: str) -> None:
        self.socket = socket
        self.is_bybit = path.startswith("/v5/")
        self.followers: dict[str, Follower] = {}
        self.replies: list[dict[str, Any]] = []
        self.notices: list[dict[str, Any]] = []
        self.code: int | None = None
        self.breach: BaseException | None = None
        self._asked: dict[str, tuple[str, list[str]]] = {}
        self._acknowledged: set[str] = set()
        self._number = 0
        self._came = asyncio.Event()

    # ---- what it says ----

    async def subscribe(self, *topics: str) -> None:
        """Subscribe and wait for success: on `/v5` in one request, on `/ws` in one each."""
        await self._agree("subscribe", topics)

    async def unsubscribe(self, *topics: str) -> None:
        await self._agree("unsubscribe", topics)

    async def _agree(self, op: str, topics: tuple[str, ...]) -> None:
        ids = await self.request(op, *topics)
        await self.until(lambda: not self._asked.keys() & set(ids), f"an ack of {topics[:3]}")
        for reply in self.replies:
            assert reply.get("success", True) or _id(reply) not in ids, reply

    async def request(self, op: str, *topics: str) -> list[str]:
        """Ask without waiting; return the ids of the requests."""
        ids = []
        for part in [topics] if self.is_bybit else [(topic,) for topic in topics]:
            self._number += 1
            name = f"r{self._number}"
            self._asked[name] = (op, list(part))
            ids.append(name)
            if self.is_bybit:
                await self.say({"req_id": name, "op": op, "args": list(part)})
            else:
                await self.say({"method": op, "id": name, **native(part[0])})
        return ids

    async def say(self, body: object) -> None:
        await self.socket.send(json.dumps(body))

    async def ask(self, body: object) -> dict[str, Any]:
        """Say something and return the next reply, whatever it is."""
        before = len(self.replies)
        await (self.socket.send(body) if isinstance(body, str | bytes) else self.say(body))
        await self.until(lambda: len(self.replies) > before, f"a reply to {str(body)[:80]}")
        return self.replies[before]

    def pause(self) -> None:
        """Read nothing from the socket until `resume`."""
        self.socket.transport.pause_reading()

    def resume(self) -> None:
        self.socket.transport.resume_reading()

    # ---- what it hears ----

    async def listen(self) -> None:
        try:
            async for text in self.socket:
                if not isinstance(text, str):
                    raise Breach("a binary frame")
                self._take(text)
                self._came.set()
        except ConnectionClosed:
            pass
        except Exception as breach:
            self.breach = breach
        await self.socket.close()
        self.code = self.socket.close_code
        self._came.set()

    def _take(self, text: str) -> None:
        body = json.loads(text)
        if self.is_bybit:
            _check_bybit(text, body)
        if "topic" in body and "data" in body:
            if body["topic"] not in self._acknowledged:
                raise Breach(f"data without an ack: {text[:200]}")
            self.followers[body["topic"]].take(text, body)
        elif "success" in body or body.get("op") == "pong" or body.get("method") == "pong":
            self._settle(body)
            self.replies.append(body)
        else:
            self.notices.append(body)

    def _settle(self, reply: dict[str, Any]) -> None:
        name = _id(reply)
        if reply.get("type") == "COMMAND_RESP":
            told = set(reply["data"]["successTopics"] + reply["data"]["failTopics"])
            name = next((n for n, (_, asked) in self._asked.items() if told & set(asked)), None)
        if name not in self._asked:
            return
        op, topics = self._asked.pop(name)
        if reply["success"] and op == "subscribe":
            self._acknowledged.update(topics)
            for topic in topics:
                self.followers[topic] = Follower(topic)
        elif reply["success"]:
            self._acknowledged.difference_update(topics)

    async def until(
        self, condition: Callable[[], object], what: str = "", seconds: float = PATIENCE
    ) -> None:
        """Return when the condition holds; it is tried after each message."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    self.check()
                    if condition():
                        return
                    assert self.code is None, f"closed with {self.code}, awaiting {what}"
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            raise AssertionError(f"not within {seconds:g} s: {what}; {self.summary()}") from None

    async def until_closed(self, seconds: float = PATIENCE) -> int:
        """Return the code that the relay closes with."""
        await self.until(lambda: self.code is not None, "a close frame", seconds)
        assert self.code is not None
        return self.code

    async def until_at(self, topic: str, position: int | None) -> Follower:
        """Return the follower of a topic when it stands at `u` or `cs` `position`, or later."""
        follower = self.followers[topic]
        await self.until(
            lambda: follower.position is not None and follower.position >= (position or 0),
            f"{topic} at {position}",
        )
        return follower

    def check(self) -> None:
        """Raise the breach that has been seen, if any."""
        if self.breach is not None:
            raise self.breach

    def summary(self) -> str:
        counts = {topic: len(f.texts) for topic, f in list(self.followers.items())[:20]}
        positions = {topic: f.position for topic, f in list(self.followers.items())[:20]}
        return f"{counts} {positions} replies {self.replies[-3:]} notices {self.notices[-3:]}"


def native(topic: str) -> dict[str, Any]:
    """Return the words of the native dialect for a topic in Bybit's."""
    feed, rest = topic.split(".", 1)
    if feed == "orderbook":
        depth, symbol = rest.split(".", 1)
        return {"topic": feed, "levels": int(depth), "symbol": symbol}
    if feed == "kline":
        interval, symbol = rest.split(".", 1)
        return {"topic": feed, "interval": interval, "symbol": symbol}
    return {"topic": feed, "symbol": rest}


def _id(reply: dict[str, Any]) -> Any:
    return reply.get("req_id") or reply.get("id")


def _check_bybit(text: str, body: dict[str, Any]) -> None:
    keys = set(body)
    if "topic" in keys:
        is_known = keys >= ENVELOPE  # the rest is the exchange's own
    elif body.get("type") == "COMMAND_RESP":
        is_known = keys == OPTION_REPLY
    elif body.get("op") == "pong":
        is_known = keys == OPTION_PONG
    else:
        is_known = REPLY - {"req_id"} <= keys <= REPLY
    if not is_known:
        raise Breach(f"Bybit says nothing like this: {text[:200]}")
    if "topic" not in keys and text != json.dumps(
        body, separators=(",", ":"), ensure_ascii="\\u" in text
    ):
        raise Breach(f"not compact: {text[:200]}")


@asynccontextmanager
async def client(url: str, **options: Any) -> AsyncIterator[Client]:
    """Connect to a door of the relay; at the end every promise must have been kept."""
    path = "/" + url.split("/", 3)[3]
    defaults = {"compression": None, "max_size": None, "max_queue": None, "open_timeout": PATIENCE}
    options = defaults | options
    async with connect(url, **options) as socket:
        made = Client(socket, path)
        listening = asyncio.create_task(made.listen())
        try:
            yield made
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        made.check()
