"""The current state of a topic, from which a late reader is greeted.

An image for each kind of feed: messages that amend a state (order books deeper than 1), that
change some of its fields or rows (tickers other than spot's, insurance pools), that are the whole
state (depth 1, spot tickers, price limits, alerts), candles, and events (trades, liquidations).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from itertools import islice
from zlib import crc32

import msgspec

from relay.bybit.book import OrderBook
from relay.bybit.errors import BadFrame, CrossedBook, NoSnapshotYet
from relay.bybit.frames import (
    BookData,
    Frame,
    Level,
    decode_book,
    decode_candles,
    decode_fields,
    decode_pools,
    decode_rows,
)
from relay.bybit.topics import Category, Kind, Shape, Topic

ROWS_KEPT = 50  # trades, or other events, that greet a late reader
CANDLES_KEPT = 100  # closing messages of a topic, for readers that were behind
RESTARTED = 1  # a `u` that says: the exchange's service restarted, this is the whole book
# Levels a side that a book may have beyond its depth. Recorded books never had one, but nothing
# else bounds what an exchange would have every process keep that forgets to delete.
SPARE_LEVELS = 1_000
MAX_FIELDS = 500  # of a ticker, which has about 40
MAX_POOLS = 5_000  # of a coin, which has at most one a contract: about 750
FOLDED_AT_ONCE = 16  # deltas; more would save little and keep more messages in memory


class Image(ABC):
    """What is known of a topic.

    Attributes:
        is_live: Whether a reader may be greeted from it; false before the first snapshot
            and after `stop`.
    """

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.is_live = False
        self._greeting: bytes | None = None

    @abstractmethod
    def apply(self, text: bytes, frame: Frame) -> int:
        """Fold in one message; return how many positions of the stream it takes.

        Args:
            text: The message as it came.
            frame: The same, decoded.

        Raises:
            NoSnapshotYet: a delta that nothing precedes; ignore it.
            SequenceGap: the message does not follow the last one.
            BadFrame: the message lacks what its feed must have.
        """

    def start(self) -> None:  # noqa: B027 - most feeds have a state to wait for
        """Take the exchange's agreement; a feed without a state is live from here on."""

    @property
    def update_id(self) -> int | None:
        """Bybit's `u` of the last message that was folded in; None where messages have none."""
        return None

    def levels(self, depth: int) -> tuple[list[Level], list[Level]]:
        """Return the best `depth` bids, falling, and asks, rising; after `stop` the last known.

        Both are empty where the feed has no price levels.

        Raises:
            SequenceGap, BadFrame: as `apply`, where that has put it off.
        """
        return [], []

    def fields(self) -> Mapping[str, msgspec.Raw]:
        """Return the fields by key, each value as the JSON text that came; after `stop` the last.

        It is empty where the feed has no fields.
        """
        return {}

    def recover(self, count: int) -> tuple[int, bytes | None]:
        """Return what can be told again of the last `count` positions.

        Only rows of events are kept for that; where there is a state, a snapshot heals.

        Returns:
            How many are lost, and the rest as one message, None if there is no rest.
        """
        return count, None

    def verify(self) -> None:  # noqa: B027 - most images have nothing to verify
        """Raise what is wrong with the state as a whole.

        Raises:
            CrossedBook: the best bid is not below the best ask.
            BadFrame: a price is not a decimal number.
        """

    def stop(self) -> None:
        """Forget that the image is current: messages may have been missed."""
        self.is_live = False

    def greeting(self) -> bytes | None:
        """Return a message that brings a late reader to this state; None if there is none.

        Made once per state, however many readers ask.

        Raises:
            SequenceGap, BadFrame: as `apply`, where that has put it off.
            CrossedBook: as `verify`.
        """
        if self._greeting is None and self.is_live:
            self._greeting = self._make_greeting()
        return self._greeting if self.is_live else None

    @abstractmethod
    def _make_greeting(self) -> bytes | None:
        """Return the greeting of the current state of a live image."""

    def base(self) -> list[bytes]:
        """Return the messages that bring a hub to this state: the greeting, as a rule.

        Raises:
            SequenceGap, BadFrame: as `apply`, where that has put it off.
        """
        greeting = self.greeting()
        return [] if greeting is None else [greeting]

    def renewed(self) -> Image:
        """Return an image that knows no state yet, and what must not be forgotten with it."""
        return make_image(self.topic)

    @property
    def closings(self) -> int:
        """How many messages there were that no reader may miss; 0 where any may be missed."""
        return 0

    def closed_since(self, closings: int) -> tuple[int, list[bytes]]:
        """Return the messages that no reader may miss, after the first `closings` of them.

        Returns:
            How many are not kept any more, and the rest as they came.
        """
        return 0, []


class BookImage(Image):
    """An order book deeper than 1, kept by Bybit's rules.

    Deltas are folded in a few at a time: a book that was just worked on is in the processor's
    cache, and fetching it costs more than the work. So `SequenceGap` and `BadFrame` may come with
    a later call than the message that is to blame, and with `greeting`.
    """

    def __init__(self, topic: Topic) -> None:
        super().__init__(topic)
        self._book = OrderBook()
        self._pending: list[Frame] = []
        # The first time earlier or later, or all books of a steady market would be due at once.
        self._folded_at = 1 + crc32(topic.text.encode()) % FOLDED_AT_ONCE
        self._last = Frame()
        self._symbol = topic.symbol
        self._depth = int(topic.parameter)
        self._seq: int | None = None

    def apply(self, text: bytes, frame: Frame) -> int:
        if frame.type == "snapshot":
            data = decode_book(frame)
            self._replace(frame, data)
            if max(len(data.b), len(data.a)) <= self._depth:
                self._greeting = text  # until the next delta the exchange's own words greet best
            return 1
        if not self.is_live:
            data = decode_book(frame)
            if data.u != RESTARTED:
                raise NoSnapshotYet
            self._replace(frame, data)
            return 1
        self._pending.append(frame)
        self._greeting = None
        if len(self._pending) >= self._folded_at:
            self._folded_at = FOLDED_AT_ONCE
            self._fold()
        return 1

    def _replace(self, frame: Frame, data: BookData) -> None:
        self._pending.clear()
        self._book.replace(data.b, data.a, data.u)
        self._check_size()
        self._note(frame, data)
        self.is_live = True

    def _note(self, frame: Frame, data: BookData) -> None:
        self._last, self._seq, self._symbol = frame, data.seq, data.s
        self._greeting = None

    def _fold(self) -> None:
        pending, self._pending = self._pending, []
        for frame in pending:
            data = decode_book(frame)
            if data.u == RESTARTED:
                self._book.replace(data.b, data.a, data.u)
            else:
                self._book.amend(data.b, data.a, data.u)
            self._note(frame, data)
        self._check_size()

    def _check_size(self) -> None:
        """Raise if an exchange that deletes nothing would have the book grow without end."""
        most = self._depth + SPARE_LEVELS
        if self._book.size() > most:
            raise BadFrame(f"expected at most {most} levels a side, received {self._book.size()}")

    def stop(self) -> None:
        super().stop()
        self._pending.clear()

    @property
    def update_id(self) -> int:
        return self._book.update_id

    def levels(self, depth: int) -> tuple[list[Level], list[Level]]:
        self._fold()
        return self._book.levels(depth)

    def verify(self) -> None:
        self._fold()
        if self._book.is_crossed():
            raise CrossedBook(f"crossed at u {self._book.update_id}")

    def greeting(self) -> bytes | None:
        if self.is_live:
            self.verify()
        return super().greeting()

    def _make_greeting(self) -> bytes:
        bids, asks = self._book.levels(self._depth)
        data = {"s": self._symbol, "b": bids, "a": asks, "u": self._book.update_id}
        if self._seq is not None:
            data["seq"] = self._seq
        last = self._last
        body: dict[str, object] = {"topic": self.topic.text}
        if self.topic.category in (Category.SPOT, Category.OPTION):  # as the exchange orders them
            body |= {"ts": last.ts, "type": "snapshot"}
        else:
            body |= {"type": "snapshot", "ts": last.ts}
        if last.id is not None:
            body["id"] = last.id
        body["data"] = data
        if last.cts is not None:
            body["cts"] = last.cts
        return msgspec.json.encode(body)


class TickerImage(Image):
    """A ticker of a contract or an option: a key that a delta leaves out is unchanged.

    Bybit documents deltas for contracts alone; on option the same rule is applied to any that come.
    """

    def __init__(self, topic: Topic) -> None:
        super().__init__(topic)
        self._fields: dict[str, msgspec.Raw] = {}
        self._last = Frame()

    def apply(self, text: bytes, frame: Frame) -> int:
        fields = decode_fields(frame)
        if frame.type == "snapshot":
            self._fields = {}
            self.is_live = True
        elif not self.is_live:
            raise NoSnapshotYet
        if len(self._fields) + len(fields) > MAX_FIELDS and len(self._fields | fields) > MAX_FIELDS:
            raise BadFrame(f"expected at most {MAX_FIELDS} fields")
        for key, value in fields.items():
            self._fields[key] = value.copy()  # a copy lets go of the rest of the frame
        self._last = frame
        self._greeting = text if frame.type == "snapshot" else None
        return 1

    def _make_greeting(self) -> bytes:
        last = self._last
        body: dict[str, object] = {"topic": self.topic.text}
        if self.topic.category is Category.OPTION:  # as the exchange orders them
            body |= {"ts": last.ts, "type": "snapshot"}
            if last.id is not None:
                body["id"] = last.id
            body["data"] = self._fields
        else:
            body |= {"type": "snapshot", "data": self._fields}
            if bytes(last.cs):
                body["cs"] = last.cs
            body["ts"] = last.ts
        return msgspec.json.encode(body)

    def fields(self) -> Mapping[str, msgspec.Raw]:
        return self._fields


class LastMessageImage(Image):
    """A feed whose every message is the whole state: the last one is the greeting."""

    def __init__(self, topic: Topic) -> None:
        super().__init__(topic)
        self._last = Frame()
        self._text = b""

    def apply(self, text: bytes, frame: Frame) -> int:
        match self.topic.feed.shape:
            case Shape.LEVELS:
                decode_book(frame)
            case Shape.FIELDS:
                decode_fields(frame)
            case _:
                decode_rows(frame)
        # Before March 2025 depth 1 had deltas too: forwarded, but no reader can start from one.
        # Price limits have no type.
        self.is_live = frame.type != "delta"
        self._greeting = None
        self._text = text
        self._last = frame
        return 1

    def levels(self, depth: int) -> tuple[list[Level], list[Level]]:
        if self.topic.feed.shape is not Shape.LEVELS or self._last.topic is None:
            return [], []
        data = decode_book(self._last)
        return data.b[:depth], data.a[:depth]

    def fields(self) -> Mapping[str, msgspec.Raw]:
        if self.topic.feed.shape is not Shape.FIELDS or self._last.topic is None:
            return {}
        return decode_fields(self._last)

    def _make_greeting(self) -> bytes:
        return self._text


class PoolsImage(Image):
    """Insurance pools: a delta has the rows of those that changed, each of them whole."""

    def __init__(self, topic: Topic) -> None:
        super().__init__(topic)
        self._rows: dict[tuple[str, str], msgspec.Raw] = {}  # by coin and symbols
        self._ts: int | None = None

    def apply(self, text: bytes, frame: Frame) -> int:
        pools = decode_pools(frame)
        if frame.type == "snapshot":
            self._rows = {}
            self.is_live = True
        elif not self.is_live:
            raise NoSnapshotYet
        self._rows |= pools
        if len(self._rows) > MAX_POOLS:
            raise BadFrame(f"expected at most {MAX_POOLS} pools, received {len(self._rows)}")
        self._ts = frame.ts
        self._greeting = text if frame.type == "snapshot" else None
        return 1

    def _make_greeting(self) -> bytes:
        rows = list(self._rows.values())
        return msgspec.json.encode(
            {"topic": self.topic.text, "type": "snapshot", "ts": self._ts, "data": rows}
        )


class CandlesImage(Image):
    """The last candle, which greets, and the messages that closed the ones before it.

    A reader may miss what a candle was in between, but never how it closed. So a closing message
    is kept until 100 newer ones have come, for readers that were behind when it was sent.
    """

    def __init__(self, topic: Topic) -> None:
        super().__init__(topic)
        self._closed: deque[bytes] = deque(maxlen=CANDLES_KEPT)
        self._last_closed = -1  # start of the newest candle that is known to be closed, Unix ms
        self._closings = 0
        self._text = b""

    def apply(self, text: bytes, frame: Frame) -> int:
        closed = [candle.start for candle in decode_candles(frame) if candle.is_closed]
        if closed and max(closed) > self._last_closed:
            self._last_closed = max(closed)
            self._closed.append(text)
            self._closings += 1
        self._greeting = None
        self._text = text
        self.is_live = True
        return 1

    @property
    def closings(self) -> int:
        return self._closings

    def closed_since(self, closings: int) -> tuple[int, list[bytes]]:
        missed = self._closings - closings
        lost = max(0, missed - len(self._closed))
        return lost, list(islice(self._closed, len(self._closed) - missed + lost, None))

    def base(self) -> list[bytes]:
        greeting = self.greeting()
        if greeting is None:
            return []
        return [text for text in self._closed if text != greeting] + [greeting]

    def renewed(self) -> Image:
        self.stop()  # what closed stays closed
        return self

    def _make_greeting(self) -> bytes:
        return self._text


class EventsImage(Image):
    """The last rows. Each row takes one position, so that lost ones can be counted."""

    def __init__(self, topic: Topic) -> None:
        super().__init__(topic)
        self._rows: deque[bytes] = deque(maxlen=ROWS_KEPT)
        self._ts: int | None = None

    def start(self) -> None:
        self.is_live = True  # a quiet market has no events to show

    def recover(self, count: int) -> tuple[int, bytes | None]:
        return max(0, count - len(self._rows)), self._tail(count)

    def apply(self, text: bytes, frame: Frame) -> int:
        rows = decode_rows(frame)
        self._rows.extend(bytes(row) for row in rows[-ROWS_KEPT:])
        self._ts = frame.ts
        self.is_live = True
        self._greeting = None
        return len(rows)

    def _tail(self, count: int) -> bytes | None:
        """Return the last `count` rows, or all that are kept, as one message."""
        rows = islice(self._rows, max(0, len(self._rows) - count), None)
        data = [msgspec.Raw(row) for row in rows]
        if not data:
            return None
        body = {"topic": self.topic.text, "type": "snapshot", "ts": self._ts, "data": data}
        if self.topic.feed.generated:
            body["generated"] = True
        return msgspec.json.encode(body)

    def _make_greeting(self) -> bytes | None:
        return self._tail(ROWS_KEPT)


_IMAGES: dict[tuple[Kind, Shape], type[Image]] = {
    (Kind.AMENDED, Shape.LEVELS): BookImage,
    (Kind.MERGED, Shape.FIELDS): TickerImage,
    (Kind.MERGED, Shape.ROWS): PoolsImage,
    (Kind.REPLACED, Shape.LEVELS): LastMessageImage,
    (Kind.REPLACED, Shape.FIELDS): LastMessageImage,
    (Kind.REPLACED, Shape.ROWS): LastMessageImage,
    (Kind.CLOSING, Shape.CANDLES): CandlesImage,
    (Kind.EVENTS, Shape.TRADES): EventsImage,
    (Kind.EVENTS, Shape.ROWS): EventsImage,
}


def make_image(topic: Topic) -> Image:
    """Return an empty image for messages of the topic's kind and shape."""
    return _IMAGES[topic.kind, topic.feed.shape](topic)
