"""What Bybit's frames say, and how requests to Bybit are written.

A frame is decoded in two steps: the envelope first, its `data` only by the code that needs it.
Source of every shape: Bybit v5 docs, WebSocket, Connect and Public; real frames of 2023 to 2026.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from relay.bybit.errors import BadFrame
from relay.bybit.topics import Category

Number = Annotated[int, Meta(ge=0, le=2**53 - 1)]
"""An id, a sequence or a Unix time in ms. JavaScript counts exactly up to 2^53 - 1, and so do the
packed reports, clocks in seconds and every client. Bybit sends nothing near it."""

DecimalText = Annotated[str, Meta(max_length=64)]
"""A price or a size, in quote or base units. Bybit's longest has some 20 characters."""

Level = tuple[DecimalText, DecimalText]
"""(price, size) as decimal strings, in quote and base units; size "0" deletes the level."""


class AckData(msgspec.Struct, frozen=True):
    """The topics an option ack speaks of."""

    failTopics: list[str] = []
    successTopics: list[str] = []


class Frame(msgspec.Struct, frozen=True):
    """The envelope of anything Bybit sends: a market message, an ack, a refusal or a pong.

    A market message has a `topic`; a reply has none. `ts`, `cts` are Unix ms. `cs` is only
    handed on, so it stays the JSON text that came; empty where the frame has none.
    """

    topic: str | None = None
    type: str | None = None
    ts: Number | None = None
    cts: Number | None = None
    cs: msgspec.Raw = msgspec.Raw()
    id: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    op: str | None = None
    success: bool | None = None
    ret_msg: str | None = None
    req_id: str | None = None

    @property
    def is_pong(self) -> bool:
        """Whether this answers a ping; Bybit calls the answer "ping" too, except on option."""
        return self.op == "pong" or (self.op == "ping" and self.ret_msg == "pong")

    @property
    def is_ack(self) -> bool:
        """Whether this answers a subscribe or an unsubscribe, with success or refusal."""
        return self.success is not None and self.op != "ping"


class BookData(msgspec.Struct, frozen=True):
    """`data` of an order book message. `seq` was missing on options in 2023."""

    s: str
    b: list[Level]
    a: list[Level]
    u: Number
    seq: Number | None = None


class Candle(msgspec.Struct, frozen=True, rename={"is_closed": "confirm"}):
    """One row of a candle message, as far as the relay reads it; `start` and `end` in Unix ms.

    Each message carries the whole candle so far. `is_closed` is true once, in the last message
    of a candle, or twice where the exchange repeats itself: the last one counts.
    """

    start: Number
    end: Number
    is_closed: bool


class _Pool(msgspec.Struct, frozen=True):
    """What tells a row of insurance pools from the others."""

    coin: str
    symbols: str


class _Address(msgspec.Struct, frozen=True):
    topic: str | None = None


ROW_BYTES = 4096
"""Of one row: images keep rows, so their number does not bound the bytes. Bybit's have some 300."""

_address = msgspec.json.Decoder(_Address)
_frame = msgspec.json.Decoder(Frame)
_book = msgspec.json.Decoder(BookData)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_rows = msgspec.json.Decoder(list[msgspec.Raw])
_candles = msgspec.json.Decoder(list[Candle])
_pool = msgspec.json.Decoder(_Pool)
_ack = msgspec.json.Decoder(AckData)


def decode_frame(text: bytes) -> Frame:
    """Return the envelope of one frame.

    Raises:
        BadFrame: not JSON, not UTF-8, not an object, or a field of the wrong type or size.
    """
    try:
        if not text.isascii():
            text.decode()  # a string that the decoder skips is forwarded, so it must be UTF-8 too
        return _frame.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFrame(str(error)) from error


def decode_topic(text: bytes) -> str | None:
    """Return the topic of a frame that `decode_frame` refuses; None if it names none."""
    try:
        return _address.decode(text).topic
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def decode_book(frame: Frame) -> BookData:
    """Return the data of an order book message.

    Raises:
        BadFrame: a field is missing, or of the wrong type or size.
    """
    try:
        return _book.decode(frame.data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadFrame(str(error)) from error


def decode_fields(frame: Frame) -> dict[str, msgspec.Raw]:
    """Return the fields of a ticker, each value as the JSON text that came.

    Raises:
        BadFrame: not an object, or without `symbol`.
    """
    try:
        fields = _fields.decode(frame.data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadFrame(str(error)) from error
    if "symbol" not in fields:
        raise BadFrame("Object missing required field `symbol`")
    return fields


def decode_rows(frame: Frame) -> list[msgspec.Raw]:
    """Return the rows of a message, trades oldest first, each as the JSON text that came.

    Raises:
        BadFrame: not an array of objects.
    """
    try:
        rows = _rows.decode(frame.data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadFrame(str(error)) from error
    for row in rows:
        written = bytes(row)
        if written[:1] != b"{":
            raise BadFrame("Expected `object` in `data`")
        _bound(written, 1)
    return rows


def decode_pools(frame: Frame) -> dict[tuple[str, str], msgspec.Raw]:
    """Return the insurance pools of a message by coin and symbols, each as the JSON text that came.

    Raises:
        BadFrame: not an array of objects, or one lacks its coin or its symbols.
    """
    pools: dict[tuple[str, str], msgspec.Raw] = {}
    for row in decode_rows(frame):
        try:
            pool = _pool.decode(row)
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadFrame(str(error)) from error
        pools[pool.coin, pool.symbols] = row.copy()  # a copy lets go of the rest of the frame
    return pools


def decode_candles(frame: Frame) -> list[Candle]:
    """Return the candles of a message: one as a rule; two where one closed and the next opened.

    Raises:
        BadFrame: no candle, or a field is missing, or of the wrong type or size.
    """
    try:
        candles = _candles.decode(frame.data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadFrame(str(error)) from error
    if not candles:
        raise BadFrame("Expected at least one candle in `data`")
    _bound(frame.data, len(candles))
    return candles


def _bound(written: bytes | msgspec.Raw, rows: int) -> None:
    """Refuse rows that are longer than an image may keep."""
    size = len(bytes(written))
    if size > rows * ROW_BYTES:
        raise BadFrame(f"Expected at most {ROW_BYTES} bytes a row, found {size} in {rows}")


def decode_ack(frame: Frame) -> AckData:
    """Return the topics that an option ack lists; none for other categories."""
    try:
        return _ack.decode(frame.data)
    except (msgspec.DecodeError, RecursionError):
        return AckData()


def encode_request(op: str, args: Sequence[str], request_id: str) -> bytes:
    """Return a subscribe or unsubscribe request."""
    return msgspec.json.encode({"req_id": request_id, "op": op, "args": args})


def encode_ping(request_id: str) -> bytes:
    """Return Bybit's heartbeat: a JSON message, not a protocol ping."""
    return msgspec.json.encode({"req_id": request_id, "op": "ping"})


ARGS_PER_REQUEST: dict[Category, int] = {
    Category.SPOT: 10,  # more refuses the whole request
    Category.LINEAR: 200,
    Category.INVERSE: 200,
    Category.OPTION: 200,
}
"""Topics in one subscribe. Bybit states a limit for spot alone; elsewhere 200 keeps the
cost of one bad topic small."""

ARGS_PER_CONNECTION: dict[Category, int] = {Category.OPTION: 2_000}
"""Topics on one connection, where Bybit limits their number."""

CHARACTERS_PER_CONNECTION = 21_000
"""Length of all topics on one connection. Source: Bybit v5 docs, WebSocket, Connect."""


def argument_length(text: str) -> int:
    """Return what a topic counts towards `CHARACTERS_PER_CONNECTION`.

    Whether Bybit counts quotes and commas is not stated; counting them is the safe side.
    """
    return len(text) + 3
