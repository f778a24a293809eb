"""Bybit's own dialect, as a client of Bybit expects it to be answered.

The shapes differ by category: spot leaves `req_id` out where the request had none, linear
and inverse answer "", and option acknowledges with COMMAND_RESP. Source: Bybit v5 docs,
WebSocket, Connect, and recorded replies of 2023 to 2026.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

import msgspec

from relay.bybit.errors import Code, Refusal
from relay.bybit.requests import Fields, decode_fields, decode_string, decode_strings, is_number
from relay.bybit.topics import Category, Topic, truncate

SPOT_ARGS = 10  # args in one spot request; more refuses the whole
TOPICS_AT_ONE_PRICE = 10  # take the relay about as long as a request of one topic
MAX_PING = 256  # characters; libraries send fewer than 100


@dataclass(frozen=True, slots=True)
class BybitId:
    """What makes an answer recognisable; `req_id` is None where the request had none."""

    op: str
    req_id: str | None


def read_id(fields: Fields) -> BybitId:
    """Return the op and the id of a request; a number as id comes back as a string."""
    op = decode_string(fields["op"]) if "op" in fields else None
    raw = fields.get("req_id")
    req_id = None
    if raw is not None:
        req_id = bytes(raw).decode().strip() if is_number(raw) else decode_string(raw)
    return BybitId(truncate(op or ""), req_id)


def read_args(fields: Fields) -> list[str] | None:
    """Return the topics of a request; None if it has no list of strings."""
    return decode_strings(fields["args"]) if "args" in fields else None


def price(args: Sequence[str] | None) -> float:
    """Return how many requests of one topic a request costs as much as."""
    return max(1.0, len(args or ()) / TOPICS_AT_ONE_PRICE)


def is_ping(text: str | bytes | None) -> bool:
    """Whether this is a heartbeat, as libraries write it."""
    if text is None or len(text) > MAX_PING:
        return False
    written = text if isinstance(text, str) else text.decode(errors="replace")
    if '"ping"' not in written:
        return False
    try:
        return read_id(decode_fields(text)).op == "ping"
    except Refusal:
        return False


def in_words_of_bybit(refusal: Refusal) -> Refusal:
    """Return a refusal of the relay in Bybit's form; those of the exchange have it already."""
    if refusal.code is Code.REFUSED_BY_EXCHANGE:
        return refusal
    return Refusal(refusal.code, f"error:{refusal.message}")


class BybitDialect:
    """Answers in the shapes of one category, on one connection."""

    def __init__(self, category: Category, connection_id: str) -> None:
        self.category = category
        self._connection_id = connection_id

    def read_topics(self, args: Sequence[str], held: Container[Topic]) -> list[Topic]:
        """Return the topics of a subscribe.

        Args:
            held: Topics that the connection follows already.

        Raises:
            Refusal: The whole request is refused; the message is in Bybit's words.
        """
        if self.category is Category.SPOT and len(args) > SPOT_ARGS:
            raise Refusal(Code.BAD_REQUEST, "args size >10")
        topics: dict[Topic, None] = {}
        for text in args:
            try:
                topic = Topic.parse(self.category, text)
            except Refusal as refusal:
                raise Refusal(refusal.code, self.unknown(text)) from None
            if topic in held or topic in topics:
                raise Refusal(Code.BAD_REQUEST, f"error:already subscribed,topic:{text}")
            topics[topic] = None
        return list(topics)

    def unknown(self, text: str) -> str:
        """Return Bybit's words for a topic that does not exist."""
        if self.category is Category.SPOT:
            return f"Invalid symbol :[{truncate(text)}]"
        return f"error:handler not found,topic:{truncate(text)}"

    def agreed(self, known: BybitId, args: Sequence[str]) -> bytes:
        """Return the ack of a subscribe or unsubscribe."""
        if self.category is Category.OPTION:
            return self._command_response([], args)
        words = "subscribe" if self.category is Category.SPOT else ""
        return self._reply(known, words, success=True)

    def refused(self, known: BybitId, words: str, args: Sequence[str] | None = None) -> bytes:
        """Return a refusal; `args` are the topics it concerns, if any."""
        if self.category is Category.OPTION and args is not None:
            return self._command_response(args, [])
        return self._reply(known, words, success=False)

    def pong(self, known: BybitId, wall_ms: int) -> bytes:
        """Return the answer to a ping, which Bybit calls "ping" except on option."""
        if self.category is Category.OPTION:
            return msgspec.json.encode({"args": [str(wall_ms)], "op": "pong"})
        return self._reply(known, "pong", success=True)

    def not_json(self, text: str | bytes) -> bytes:
        """Return the answer to something that is not a JSON object."""
        found = truncate(text if isinstance(text, str) else text[:80].decode(errors="replace"))[:1]
        words = "Failed to decode incoming data:readObjectStart: expect { or n, but found "
        return self._reply(BybitId("", None), words + (found or "nothing"), success=False)

    def _reply(self, known: BybitId, words: str, *, success: bool) -> bytes:
        body: dict[str, object] = {
            "success": success,
            "ret_msg": words,
            "conn_id": self._connection_id,
        }
        if known.req_id is not None or self.category is not Category.SPOT:
            body["req_id"] = known.req_id or ""
        body["op"] = known.op
        return msgspec.json.encode(body)

    def _command_response(self, failed: Sequence[str], agreed: Sequence[str]) -> bytes:
        return msgspec.json.encode(
            {
                "success": not failed,
                "conn_id": self._connection_id,
                "data": {"failTopics": failed, "successTopics": agreed},
                "type": "COMMAND_RESP",
            }
        )
