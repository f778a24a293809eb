"""What the exchange says to the requests of one client; no socket is known here.

Bybit refuses a request whole for its first bad topic (option answers topic by topic), sends
data before the ack on linear and inverse, and stays open whatever it is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from relay.simulator.dialect import (
    ARGS_LENGTH_LIMIT,
    OPTION_ARGS_LIMIT,
    SPOT_ARGS_LIMIT,
    Dialect,
    undecodable,
)
from relay.simulator.exchange import Reader, Source
from relay.simulator.topics import Category
from relay.simulator.wire import text_frame

SERVER_ERROR = "error:Internal Server error"  # not about a topic: the same may be accepted later
_DATA_FIRST = (Category.LINEAR, Category.INVERSE)


class Session:
    """One client's conversation with one category.

    Attributes:
        topics: What it is subscribed to, in order.
        is_broken: Asked before each subscribe; True has it refused, whatever its topics are.
    """

    is_broken: Callable[[], bool] = staticmethod(lambda: False)

    def __init__(
        self,
        category: Category,
        conn_id: str,
        source: Source,
        reader: Reader,
        acknowledge: Callable[[bytes], None],
    ) -> None:
        """Greet no client yet.

        Args:
            reader: Gets the frames of market data and of pongs.
            acknowledge: Gets the frames that answer subscribe and unsubscribe, which a fault
                may delay or lose.
        """
        self.category = category
        self.topics: dict[str, None] = {}
        self._source = source
        self._reader = reader
        self._acknowledge = acknowledge
        self._dialect = Dialect(category, conn_id)

    def receive(self, text: str, now_ms: int) -> None:
        """Act on one message of the client."""
        try:
            request = msgspec.json.decode(text)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            self._send(self._dialect.refused("", None, undecodable(text)))
            return
        op = request.get("op")
        req_id = _text(request.get("req_id"))
        if op == "ping":
            self._send(self._dialect.pong(req_id, now_ms))
        elif op not in ("subscribe", "unsubscribe"):
            self._send(self._dialect.refused(_text(op) or "", req_id, "error:invalid op"))
        else:
            args = request.get("args")
            if not isinstance(args, list) or not args or not all(isinstance(a, str) for a in args):
                self._answer(self._dialect.refused(op, req_id, "error:invalid args"))
            elif op == "subscribe":
                self._subscribe(args, req_id, now_ms)
            else:
                self._unsubscribe(args, req_id)

    def close(self) -> None:
        """Forget every subscription."""
        self._source.leave(self.category, self.topics, self._reader)
        self.topics.clear()

    def _subscribe(self, args: list[str], req_id: str | None, now_ms: int) -> None:
        dialect = self._dialect
        if self.is_broken():
            self._answer(dialect.refused("subscribe", req_id, SERVER_ERROR))
            return
        if (why := self._overload(args)) is not None:
            self._answer(dialect.refused("subscribe", req_id, why))
            return
        accepted: dict[str, None] = {}
        failed: list[str] = []
        for topic in args:
            if not self._source.knows(self.category, topic):
                why = dialect.unknown_topic(topic)
            elif topic in self.topics or topic in accepted:
                why = f"error:already subscribed,topic:{topic}"
            else:
                accepted[topic] = None
                continue
            if self.category is not Category.OPTION:
                self._answer(dialect.refused("subscribe", req_id, why))
                return
            failed.append(topic)
        self.topics |= accepted
        if self.category is Category.OPTION:
            ack = dialect.partly(list(accepted), failed)
        else:
            ack = dialect.accepted("subscribe", req_id, args)
        if self.category not in _DATA_FIRST:
            self._answer(ack)
        for message in self._source.join(self.category, list(accepted), self._reader, now_ms):
            self._send(message)
        if self.category in _DATA_FIRST:
            self._answer(ack)

    def _overload(self, args: list[str]) -> str | None:
        """Return why so many args are refused, if they are."""
        if self.category is Category.SPOT and len(args) > SPOT_ARGS_LIMIT:
            return f"args size >{SPOT_ARGS_LIMIT}"
        if self.category is Category.OPTION and len(self.topics) + len(args) > OPTION_ARGS_LIMIT:
            return f"args size >{OPTION_ARGS_LIMIT}"
        if sum(map(len, self.topics)) + sum(map(len, args)) > ARGS_LENGTH_LIMIT:
            return f"args length >{ARGS_LENGTH_LIMIT}"
        return None

    def _unsubscribe(self, args: list[str], req_id: str | None) -> None:
        followed = [topic for topic in args if self.topics.pop(topic, topic) is None]
        self._source.leave(self.category, followed, self._reader)
        self._answer(self._dialect.accepted("unsubscribe", req_id, args))

    def _send(self, message: bytes) -> None:
        self._reader.push(text_frame(message))

    def _answer(self, message: bytes) -> None:
        self._acknowledge(text_frame(message))


def _text(value: Any) -> str | None:
    """Return a request id as the exchange gives it back: a number comes back as text."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
