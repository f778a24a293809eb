"""One topic as it is known here: its state by Bybit's rules, and how well it is known."""

from __future__ import annotations

from collections import deque
from enum import StrEnum

import msgspec

from relay.bybit.errors import BadFrame
from relay.bybit.frames import Frame, Level, decode_rows
from relay.bybit.images import make_image
from relay.bybit.topics import Shape, Topic

TRADES_KEPT = 500  # more than the rows of any screen
CANDLES_KEPT = 500
ROWS_KEPT = 500
RATE_SPAN = 5.0  # seconds over which messages are counted
SMOOTHING = 0.1  # share of the newest message in the latency that is shown


class State(StrEnum):
    """How a topic is known. "Stale": the connection or the sequence is broken."""

    WAITING = "waiting"  # nothing has come yet
    LIVE = "live"
    STALE = "stale"
    REFUSED = "refused"


class Trade(msgspec.Struct, frozen=True, rename={"time": "T", "side": "S", "size": "v"}):
    """One trade; `time` is Unix ms, `side` that of the taker."""

    time: int
    side: str
    size: str
    price: str = msgspec.field(name="p")
    id: str = msgspec.field(name="i")


class CandleRow(msgspec.Struct, frozen=True):
    """One candle; `start` is Unix ms, the numbers are the exchange's own strings."""

    start: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    confirm: bool


class Meter:
    """Messages a second, and how old they are when they come.

    Attributes:
        latency: From the exchange's clock to this machine's, ms; None before the first message.
    """

    def __init__(self) -> None:
        self.latency: float | None = None
        self._times: deque[float] = deque()
        self._began: float | None = None

    def count(self, now: float) -> None:
        """Count a message."""
        if self._began is None:
            self._began = now
        self._times.append(now)
        self._forget(now)

    def delayed(self, ms: float) -> None:
        """Take the age of a message."""
        before = ms if self.latency is None else self.latency
        self.latency = before + (ms - before) * SMOOTHING

    def rate(self, now: float) -> float:
        """Return the messages a second, lately."""
        self._forget(now)
        if self._began is None:
            return 0.0
        return len(self._times) / min(RATE_SPAN, max(1.0, now - self._began))

    def _forget(self, now: float) -> None:
        while self._times and self._times[0] < now - RATE_SPAN:
            self._times.popleft()


_trade = msgspec.json.Decoder(Trade)
_candles = msgspec.json.Decoder(list[CandleRow])


def read_candles(frame: Frame) -> list[CandleRow]:
    """Return the candles of a message.

    Raises:
        BadFrame: a field is missing or of the wrong type.
    """
    try:
        return _candles.decode(frame.data)
    except msgspec.DecodeError as fault:
        raise BadFrame(str(fault)) from fault


def read_rows(frame: Frame) -> list[str]:
    """Return the rows of a message, each as the JSON text that came.

    Raises:
        BadFrame: not an array of objects.
    """
    return [bytes(row).decode() for row in decode_rows(frame)]


class Followed:
    """A topic that is followed.

    Attributes:
        words: Why it was refused.
        trades: The last ones, newest last; of `publicTrade` alone.
        candles: The last ones by their start, newest last; of `kline` alone.
        rows: The last rows as JSON, newest last; of feeds that have neither trades nor candles.
        dropped: Rows that the relay could not deliver.
        updated: When the last message came, on the clock of `now`; None before the first.
        is_subscribed: Whether the relay has agreed to it on this connection.
        is_crossed: Whether it is a book whose best bid is not below its best ask.
    """

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.state = State.WAITING
        self.words = ""
        self.trades: deque[Trade] = deque(maxlen=TRADES_KEPT)
        self.candles: dict[int, CandleRow] = {}
        self.rows: deque[str] = deque(maxlen=ROWS_KEPT)
        self.dropped = 0
        self.updated: float | None = None
        self.is_subscribed = False
        self.is_crossed = False
        self.meter = Meter()
        self._image = make_image(topic)
        self._is_greeted = False  # whether a message has come since it was subscribed

    def take(self, text: bytes, frame: Frame, now: float, wall_ms: int) -> list[Trade]:
        """Fold in one message; return the trades that are new in it.

        Raises:
            NoSnapshotYet: a delta that nothing precedes; ignore it.
            CrossedBook: the book is crossed; it may be right all the same.
            ExchangeFault: the message does not follow, or makes no sense.
        """
        self._image.apply(text, frame)
        self._image.verify()
        self.is_crossed = False
        trades = self._take_trades(frame) if self.topic.feed.shape is Shape.TRADES else []
        if self.topic.feed.shape is Shape.CANDLES:
            self._take_candles(frame)
        if self.topic.feed.shape is Shape.ROWS:
            if not self._is_greeted:  # rows have no id: after a loss the greeting has the known
                self.rows.clear()
            self.rows.extend(read_rows(frame))
        self.meter.count(now)
        made_at = frame.cts or frame.ts
        if self._is_greeted and made_at is not None:  # a greeting may be of any age
            self.meter.delayed(wall_ms - made_at)
        self._is_greeted = True
        self.updated = now
        self.state = State.LIVE
        return trades

    def _take_candles(self, frame: Frame) -> None:
        for candle in read_candles(frame):
            self.candles[candle.start] = candle
        while len(self.candles) > CANDLES_KEPT:
            del self.candles[min(self.candles)]

    def _take_trades(self, frame: Frame) -> list[Trade]:
        try:
            trades = [_trade.decode(row) for row in decode_rows(frame)]
        except msgspec.DecodeError as fault:
            raise BadFrame(str(fault)) from fault
        if not self._is_greeted:  # after a loss the greeting repeats what is known
            known = {trade.id for trade in self.trades}
            trades = [trade for trade in trades if trade.id not in known]
        self.trades.extend(trades)
        return trades

    def agreed(self, *, is_upstream_down: bool) -> None:
        """Take the relay's ack; trades are live without a message."""
        self.is_subscribed = True
        if self.topic.is_events and not is_upstream_down:
            self.state = State.LIVE

    def refuse(self, words: str) -> None:
        """Take the relay's refusal."""
        self.state = State.REFUSED
        self.words = words

    def cross(self) -> bool:
        """Note that the book is crossed, which the next message may heal; False if it was."""
        was_crossed, self.is_crossed = self.is_crossed, True
        if self.state is State.LIVE:
            self.state = State.STALE
        return not was_crossed

    def interrupt(self) -> None:
        """Note that messages may be missed from here on: only a snapshot makes it right."""
        self._image.stop()
        self.is_crossed = False
        self._is_greeted = False
        self.is_subscribed = False
        if self.state is State.LIVE:
            self.state = State.STALE

    def on_upstream_changed(self, *, is_down: bool) -> None:
        """Take the word that the relay has lost the exchange, or has it again.

        The image stays: where the sequence went on, the next message proves it.
        """
        if is_down and self.state is State.LIVE:
            self.state = State.STALE
        elif not is_down and self.state is State.STALE and self.topic.is_events:
            self.state = State.LIVE

    def levels(self, depth: int) -> tuple[list[Level], list[Level]]:
        """Return the best bids, falling, and asks, rising, as far as they are known."""
        return self._image.levels(depth)

    def fields(self) -> dict[str, str]:
        """Return the ticker, as far as it is known."""
        fields = self._image.fields()
        return {key: _text(value) for key, value in fields.items()}


def _text(value: msgspec.Raw) -> str:
    """Return a string of the exchange as it is, and a number as it was written: no float."""
    text = bytes(value)
    return str(msgspec.json.decode(text)) if text.startswith(b'"') else text.decode()
