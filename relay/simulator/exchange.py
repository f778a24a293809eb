"""The markets of the simulated exchange and who follows which topic of them.

A market lives while a reader follows it, and moves from where it stood. Messages are framed
once for all readers. Faults of a single topic happen here, on the way out: the market
itself is always right.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from relay.simulator.instruments import Instrument, catalogue
from relay.simulator.market import SymbolMarket
from relay.simulator.topics import Category, Feed, Topic
from relay.simulator.views import DepthView, LevelOneView, View, view_of
from relay.simulator.wire import text_frame


class Reader(Protocol):
    """A reader that is sent frames."""

    def push(self, frame: bytes) -> None: ...


class Source(Protocol):
    """Where topics come from: the simulated market, or a recording."""

    def knows(self, category: Category, topic: str) -> bool:
        """Tell whether the topic can be subscribed."""

    def join(
        self, category: Category, topics: list[str], reader: Reader, now_ms: int
    ) -> list[bytes]:
        """Start sending known topics to `reader`; return what it must be sent first."""

    def leave(self, category: Category, topics: Iterable[str], reader: Reader) -> None:
        """Stop sending topics, followed or not, to `reader`."""


@dataclass(eq=False, slots=True)
class Stream:
    """One topic on its way to its readers.

    Attributes:
        views: One; on the trades of an option's base coin, one for each contract.
        last: The last message that was due, sent or not.
        to_swallow: How many of the next messages get lost.
        to_swap: Whether the next message is to come after the one that follows it.
        to_repeat: Whether the next message is to come twice.
    """

    topic: Topic
    views: list[View]
    readers: dict[Reader, None] = field(default_factory=dict)
    last: bytes | None = None
    to_swallow: int = 0
    to_swap: bool = False
    to_repeat: bool = False
    sent: int = 0
    _held_back: bytes | None = None

    def send(self, message: bytes) -> None:
        """Pass one message on, unless a fault has been ordered."""
        self.last = message
        if self.to_swallow:
            self.to_swallow -= 1
        elif self.to_swap:
            self._held_back, self.to_swap = message, False
        else:
            self.deliver(message)
            if self.to_repeat:
                self.to_repeat = False
                self.deliver(message)
            if self._held_back is not None:
                late, self._held_back = self._held_back, None
                self.deliver(late)

    def deliver(self, message: bytes) -> None:
        """Send one message to every reader."""
        frame = text_frame(message)
        for reader in self.readers:
            reader.push(frame)
        self.sent += len(self.readers)


@dataclass(eq=False, slots=True)
class Listing:
    """A symbol with its market, once a reader asked for it, and the topics followed of it."""

    instrument: Instrument
    market: SymbolMarket
    lines: list[tuple[View, Stream]] = field(default_factory=list)
    due: float = 0.0  # when the server lets it move next, in seconds of its loop
    is_scheduled: bool = False


class Exchange:
    """Every market of the four categories.

    Attributes:
        followed: The streams that have readers.
        woken: Listings that a reader began to follow; the owner of the clock empties it.
    """

    def __init__(self, seed: int, rate: float, symbols: int | None = None) -> None:
        self._seed = seed
        self._rate = rate
        self._instruments = {category: catalogue(category, symbols) for category in Category}
        self._coins = {one.base_coin for one in self._instruments[Category.OPTION].values()}
        self._listings: dict[tuple[Category, str], Listing] = {}
        self._refused: set[tuple[Category, str]] = set()
        self.followed: dict[Topic, Stream] = {}
        self.woken: list[Listing] = []
        self.steps = 0
        self._sent_before = 0

    @property
    def sent(self) -> int:
        """How many messages of the market have been given to readers."""
        return self._sent_before + sum(stream.sent for stream in self.followed.values())

    def refuse(self, category: Category, symbol: str) -> None:
        """Do not know this symbol from now on; readers that follow it already keep it."""
        self._refused.add((category, symbol))

    def topic(self, category: Category, text: str) -> Topic | None:
        """Return the topic of that name if the exchange has it."""
        topic = Topic.parse(category, text)
        if topic is None or (category, topic.symbol) in self._refused:
            return None
        if category is Category.OPTION and topic.feed is Feed.TRADES:
            return topic if topic.symbol in self._coins else None
        return topic if topic.symbol in self._instruments[category] else None

    def knows(self, category: Category, topic: str) -> bool:
        return self.topic(category, topic) is not None or self._is_silent(category, topic)

    def _is_silent(self, category: Category, text: str) -> bool:
        """Option accepts a few topics of which nothing is ever sent."""
        feed, _, rest = text.partition(".")
        kind, _, symbol = rest.partition(".")
        return (
            category is Category.OPTION
            and (feed == "kline" or (feed == "orderbook" and kind in ("1", "50")))
            and symbol in self._instruments[category]
        )

    def join(
        self, category: Category, topics: list[str], reader: Reader, now_ms: int
    ) -> list[bytes]:
        greeting: list[bytes] = []
        for text in topics:
            topic = self.topic(category, text)
            if topic is None:
                continue
            stream = self.followed.get(topic)
            if stream is None:
                stream = self._open(topic, now_ms)
            stream.readers[reader] = None
            for view in stream.views:
                greeting += view.greeting()
        return greeting

    def leave(self, category: Category, topics: Iterable[str], reader: Reader) -> None:
        for text in topics:
            topic = Topic.parse(category, text)
            stream = None if topic is None else self.followed.get(topic)
            if stream is not None and stream.readers.pop(reader, reader) is None:
                self._close_if_idle(stream)

    def _open(self, topic: Topic, now_ms: int) -> Stream:
        stream = Stream(topic, [])
        for listing in self._listed(topic, now_ms):
            view = view_of(topic, listing.market, self._rate)
            stream.views.append(view)
            if not listing.lines:
                self.woken.append(listing)
            listing.lines.append((view, stream))
            listing.lines.sort(key=_sending_order)
        self.followed[topic] = stream
        return stream

    def _close_if_idle(self, stream: Stream) -> None:
        if stream.readers:
            return
        del self.followed[stream.topic]
        self._sent_before += stream.sent
        for view in stream.views:
            listing = self.listing(stream.topic.category, view.market.instrument.symbol, 0)
            listing.lines.remove((view, stream))

    def _listed(self, topic: Topic, now_ms: int) -> list[Listing]:
        if topic.category is Category.OPTION and topic.feed is Feed.TRADES:
            symbols = [
                one.symbol
                for one in self._instruments[Category.OPTION].values()
                if one.base_coin == topic.symbol
            ]
        else:
            symbols = [topic.symbol]
        return [self.listing(topic.category, symbol, now_ms) for symbol in symbols]

    def listing(self, category: Category, symbol: str, now_ms: int) -> Listing:
        """Return a symbol's listing, opening its market at `now_ms` if that is needed.

        Raises:
            KeyError: There is no such symbol.
        """
        listing = self._listings.get((category, symbol))
        if listing is None:
            instrument = self._instruments[category][symbol]
            listing = Listing(instrument, SymbolMarket(instrument, self._seed, now_ms))
            self._listings[category, symbol] = listing
        return listing

    def view(self, topic: Topic, now_ms: int) -> View:
        """Return how the exchange sees a topic of one symbol, followed or not."""
        stream = self.followed.get(topic)
        if stream is not None:
            return stream.views[0]
        return view_of(topic, self.listing(topic.category, topic.symbol, now_ms).market, self._rate)

    def step(self, listing: Listing, now_ms: int) -> None:
        """Let one market move and send what its topics have to say about it."""
        self.steps += 1
        listing.market.step(now_ms)
        for view, stream in listing.lines:
            message = view.advance()
            if message is not None:
                stream.send(message)

    def repush(self, now_ms: int) -> None:
        """Say every quiet level 1 again."""
        for stream in self.followed.values():
            for view in stream.views:
                if isinstance(view, LevelOneView) and (message := view.repush(now_ms)):
                    stream.send(message)

    def restart(self, stream: Stream, kind: str) -> bool:
        """Restart the service behind a topic; False if the topic has nothing to restart."""
        view = stream.views[0]
        message = view.restart(kind) if isinstance(view, DepthView) else view.restart()
        if message is not None:
            stream.last = message
            stream.deliver(message)
        return message is not None

    def cross(self, stream: Stream) -> bool:
        """Send a delta that crosses the book; False if the topic has no deltas of a book."""
        view = stream.views[0]
        if isinstance(view, DepthView):
            stream.last = view.crossed()
            stream.deliver(stream.last)
        return isinstance(view, DepthView)


def _sending_order(line: tuple[View, Stream]) -> tuple[int, int]:
    """Trades first, then candles, then books by depth, the ticker last."""
    topic = line[1].topic
    return list(Feed).index(topic.feed), topic.depth or 0
