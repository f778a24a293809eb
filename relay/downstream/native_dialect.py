"""The relay's native dialect: one object a request, `method` says what for.

-> {"method": "subscribe", "topic": "orderbook", "symbol": "BTCUSDT", "levels": 50, "id": 7}
<- {"method": "subscribe", "success": true, "topic": "orderbook.50.BTCUSDT",
    "category": "linear", "id": 7}
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from relay.bybit.errors import Code, Refusal
from relay.bybit.requests import Fields, decode_integer, decode_string, is_number
from relay.bybit.topics import FEEDS, TICKERS, Category, FeedSpec, Topic, parse_category, truncate

MAX_ID = 64  # characters of a request's id
_FEEDS = FEEDS | {"ticker": TICKERS}


class Method(StrEnum):
    """What can be asked for."""

    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    PING = "ping"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class NativeId:
    """What makes an answer recognisable: the method and the id, as the client wrote them."""

    method: str | None = None
    id: msgspec.Raw | None = None


def read_name(fields: Fields) -> NativeId:
    """Return the method of a request, as far as it can be repeated."""
    method = decode_string(fields["method"]) if "method" in fields else None
    return NativeId(None if method is None else truncate(method))


def read_id(fields: Fields) -> NativeId:
    """Return the method and the id of a request.

    Raises:
        Refusal: `bad_request`: the id is neither a number nor a string up to 64 characters.
    """
    known = read_name(fields)
    raw = fields.get("id")
    if raw is None:
        return known
    text = decode_string(raw)
    if (text is None and not is_number(raw)) or len(text or bytes(raw)) > MAX_ID:
        raise Refusal(Code.BAD_REQUEST, "id: expected a number or a string up to 64 characters")
    return NativeId(known.method, raw.copy())


def read_method(fields: Fields) -> Method:
    """Return what a request asks for.

    Raises:
        Refusal: `bad_request` or `unknown_method`.
    """
    name = _string(fields, "method")
    try:
        return Method(name)
    except ValueError:
        raise Refusal(Code.UNKNOWN_METHOD, f"unknown method: {truncate(name)}") from None


def read_topic(fields: Fields, category: Category | None) -> Topic:
    """Return the topic of a subscribe or unsubscribe.

    Args:
        category: Of the connection; None while it has none.

    Raises:
        Refusal: What is wrong with it.
    """
    named = _string(fields, "topic")
    feed = _FEEDS.get(named)
    if feed is None:
        if "." not in named or "symbol" in fields:
            raise Refusal(Code.UNKNOWN_TOPIC, f"unknown topic: {truncate(named)}")
        return Topic.parse(_category(fields, category), named)  # Bybit's own text
    category = _category(fields, category)
    symbol = _string(fields, "symbol")
    return Topic(category, feed, symbol, _parameter(fields, feed, category))


def _category(fields: Fields, fixed: Category | None) -> Category:
    if "category" not in fields:
        return fixed or Category.LINEAR
    name = decode_string(fields["category"])
    if name is None:
        raise Refusal(Code.BAD_REQUEST, "category: expected a string")
    category = parse_category(name)
    if fixed is not None and category is not fixed:
        raise Refusal(Code.BAD_CATEGORY, f"this connection is {fixed}; open another for {category}")
    return category


def _parameter(fields: Fields, feed: FeedSpec, category: Category) -> str:
    """Return the parameter of a topic, as Bybit writes it; the feed decides whether it has it."""
    if not feed.key:
        return ""
    raw = fields.get(feed.key)
    if raw is None:
        if category in feed.parameters and category not in feed.defaults:
            raise Refusal(feed.bad_parameter, f"{feed.key}: missing")
        return feed.defaults.get(category, "")
    number, text = decode_integer(raw), decode_string(raw)
    if number is not None:
        return str(number)
    if text and not (feed.is_numeric and text.isdigit()):
        return text
    written = bytes(raw)[:80].decode(errors="replace")
    raise Refusal(feed.bad_parameter, feed.words(category, written))


def _string(fields: Fields, key: str) -> str:
    if key not in fields:
        raise Refusal(Code.BAD_REQUEST, f"{key}: missing")
    text = decode_string(fields[key])
    if text is None:
        raise Refusal(Code.BAD_REQUEST, f"{key}: expected a string")
    return text


def _encode(known: NativeId, **rest: object) -> bytes:
    body: dict[str, object] = {} if known.method is None else {"method": known.method}
    body |= rest
    if known.id is not None:
        body["id"] = known.id
    return msgspec.json.encode(body)


def agreed(known: NativeId, topic: Topic, *, already: bool = False) -> bytes:
    """Return the ack of a subscribe or unsubscribe."""
    rest = {"topic": topic.text, "category": topic.category}
    if already:
        return _encode(known, success=True, **rest, already=True)
    return _encode(known, success=True, **rest)


def refused(known: NativeId, refusal: Refusal) -> bytes:
    """Return a refusal, which names the fault."""
    body: dict[str, object] = {} if known.method is None else {"method": known.method}
    body["success"] = False
    if known.id is not None:
        body["id"] = known.id
    body["error"] = {"code": refusal.code, "message": refusal.message}
    return msgspec.json.encode(body)


def pong(known: NativeId) -> bytes:
    """Return the answer to a ping."""
    return _encode(NativeId("pong", known.id))


def listing(known: NativeId, category: Category | None, topics: Iterable[Topic]) -> bytes:
    """Return what the connection is subscribed to."""
    texts = [topic.text for topic in topics]
    return _encode(known, success=True, category=category or Category.LINEAR, topics=texts)


def status(category: Category, upstream: str, since: int) -> bytes:
    """Return the notice that the upstream connection is "down" or "live", since Unix ms."""
    body = {"type": "status", "category": category, "upstream": upstream, "since": since}
    return msgspec.json.encode(body)


def lagging(unsent: int) -> bytes:
    """Return the notice that a client is about to be sent less; `unsent` in bytes."""
    return msgspec.json.encode({"type": "lagging", "unsent": unsent})


def gap(topic: Topic, dropped: int) -> bytes:
    """Return the notice that so many trades were lost."""
    return msgspec.json.encode({"type": "gap", "topic": topic.text, "dropped": dropped})


def bye(code: str, message: str) -> bytes:
    """Return the last words before the relay closes."""
    return msgspec.json.encode({"type": "bye", "code": code, "message": message})
