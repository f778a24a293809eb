"""Who reads one topic in this process, and how messages reach them.

A reader of a topic is in one of three places: it waits for the ack, a snapshot is owed to it,
or it is up to date. A new reader, one that was too slow and one whose messages were lost on
the way are in the same place: a snapshot is owed, and paid when there is one and room for it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Protocol

from relay import conf
from relay.bybit.errors import Refusal
from relay.bybit.frames import decode_frame, decode_rows
from relay.bybit.topics import Category, Kind, Topic
from relay.downstream.outbound import Outbound
from relay.downstream.wire import Batch
from relay.seam.envelopes import UpstreamState
from relay.seam.receiver import StreamReceiver
from relay.telemetry.counters import Counters

logger = logging.getLogger(__name__)

EVENT_PORTIONS = 4  # that fit into what may wait for one client
PORTIONS_AT_MOST = 8  # that wait for the next flush; what comes faster leaves in larger steps


class Reader(Protocol):
    """What the hub needs of a client. None of these may raise or have another input of the hub."""

    @property
    def outbound(self) -> Outbound:
        """By which its market messages leave."""

    takes_notices: bool
    """Whether it understands more than Bybit's dialect: notices, and a greeting of trades."""

    def has_room(self) -> bool:
        """Whether a snapshot may be sent."""

    def on_turn(self, now: float) -> None:
        """The turn that it asked for has come; its runner says so, and all inputs are allowed."""

    def on_subscribed(self, request: Request, refusal: Refusal | None) -> None:
        """A subscribe is decided: send the ack or the refusal."""

    def on_revoked(self, topic: Topic, refusal: Refusal) -> None:
        """The exchange refused a topic after its ack had been sent."""

    def on_failure(self) -> None:
        """Log the exception that is being handled, and close the connection."""

    def on_rows_lost(self, topic: Topic, dropped: int, *, is_slow: bool) -> None:
        """Trades or closed candles were lost that cannot be sent again, or the reader was slow."""

    def on_upstream_changed(self, category: Category, state: UpstreamState, since: int) -> None:
        """The connection of the reader's category went down or is up, again or as before."""


@dataclass(slots=True, eq=False)
class Request:
    """One subscribe of one reader, which is decided as a whole.

    Attributes:
        topics: Those that it decides, in order; a topic that the reader unsubscribes before
            leaves it, unless it is the last one.
        id: As the reader gave it; the hub only hands it back.
        undecided: Topics that the exchange has not spoken of yet.
    """

    reader: Reader
    topics: dict[Topic, None]
    id: object
    not_before: float
    deadline: float
    undecided: set[Topic] = field(default_factory=set)
    refusal: Refusal | None = None
    is_settled: bool = False


class Audience:
    """The local readers of one topic.

    Attributes:
        number: No other audience of this hub has it, not even an earlier one of the topic.
        current: Readers that have everything up to the receiver's position, with their outbound,
            so that a delivery need not look at the reader.
        owed: Readers to whom a snapshot is owed.
        waiting: Readers whose ack has not been sent, with their request.
        is_joined: Whether what arrives was sent since this audience began. What an earlier one
            left in the channel would bring a snapshot that the next message does not follow.
        fresh: Messages that the current readers have not been sent yet.
        withheld: Trades that slow readers were not sent, to be told when they have room.
        failing: Readers whose snapshot could not be sent, by an error; at the second it is closed.
        behind: How many closing messages there had been (see `Image.closings`) when a reader in
            `owed` or `waiting` was last current, or began to wait; of feeds that have such alone.
        crowded: How many readers had no room for the snapshot owed to them, when last tried.
        is_pinned: Whether an operator wants the topic kept, readers or not.
        peak: The most readers there were at once.
    """

    def __init__(self, counters: Counters, topic: Topic, number: int) -> None:
        self._counters = counters
        self.topic = topic
        self.number = number
        self.receiver = StreamReceiver(topic)
        self.is_joined = False
        self.is_confirmed = False
        self.is_pinned = False
        self.peak = 0
        self.current: dict[Reader, Outbound] = {}
        self.owed: dict[Reader, None] = {}
        self.waiting: dict[Reader, Request] = {}
        self.withheld: dict[Reader, int] = {}
        self.failing: set[Reader] = set()
        self.behind: dict[Reader, int] = {}
        self._closings_sent = 0  # to those who are current
        self.crowded = 0
        self.fresh: list[bytes] = []
        self.messages = 0
        self.deliveries = 0
        self.updated = 0.0  # time of the last message

    @property
    def subscribers(self) -> int:
        """How many readers there are, acknowledged or not."""
        return len(self.current) + len(self.owed) + len(self.waiting)

    @property
    def is_wanted(self) -> bool:
        """Whether there is a reason to go on."""
        return self.is_pinned or bool(self.subscribers)

    @property
    def has_slow(self) -> bool:
        """Whether readers wait for room, and for nothing else."""
        return bool(self.withheld) or (bool(self.owed) and self.receiver.is_live)

    def flush(self) -> None:
        """Send all that is fresh to those who are current."""
        while self.fresh:
            self.flush_some()

    def flush_some(self) -> None:
        """Send what is fresh to those who are current, one batch for all.

        No batch is larger than what may wait for one client, as a socket may take nothing of it. Of
        books and tickers a snapshot stands for a larger one. Events leave in portions, of which
        some may be left for the next flush, so that sockets can drain in between.
        """
        fresh = self.fresh
        if not fresh:
            return
        limit = conf.current().client_buffer
        size = sum(map(len, fresh))
        if size <= limit // EVENT_PORTIONS or (size <= limit and not self.topic.is_events):
            self.fresh = []
            self._send(fresh)
        elif not self.topic.is_events:
            self.fresh = []
            self._withhold(list(self.current), fresh)
        else:
            portion = limit // EVENT_PORTIONS
            left_at_most = size - max(1, size // (portion * PORTIONS_AT_MOST)) * portion
            while self.fresh and sum(map(len, self.fresh)) > left_at_most:
                self._send(self._take(portion))

    def _take(self, size: int) -> list[bytes]:
        """Remove and return the first messages that are fresh, up to `size` bytes, but one."""
        count = taken = 0
        for text in self.fresh:
            taken += len(text)
            if taken > size and count:
                break
            count += 1
        texts, self.fresh = self.fresh[:count], self.fresh[count:]
        return texts

    def _send(self, texts: list[bytes]) -> None:
        batch = Batch(texts)
        if self.withheld:
            self._tell_withheld()
        withheld = self.withheld
        refused: list[Reader] = []
        for reader, outbound in self.current.items():
            try:
                if (withheld and reader in withheld) or not outbound.deliver(batch):
                    refused.append(reader)
            except Exception:
                self._log_failure()
                refused.append(reader)
        if self.crowded:
            self._counters.conflated += min(self.crowded, len(self.owed)) * len(texts)
        self._count(batch, len(self.current) - len(refused))
        if refused:
            self._withhold(refused, texts)
        self._closings_sent = self.receiver.closings

    def _log_failure(self) -> None:
        logger.exception("%s: cannot send to a client; it is owed a snapshot", self.topic.text)

    def _count(self, batch: Batch, readers: int) -> None:
        """Count what so many readers were sent."""
        deliveries = readers * len(batch.texts)
        self.deliveries += deliveries
        counters = self._counters
        counters.deliveries += deliveries
        counters.bytes_out += batch.size_for(readers)

    def _withhold(self, readers: list[Reader], texts: list[bytes]) -> None:
        """Readers had no room: a snapshot will be owed to them; of trades, a count."""
        if not self.topic.is_events:
            self._counters.conflated += len(readers) * len(texts)
            for reader in readers:
                del self.current[reader]
                self._owe(reader)
            return
        trades = sum(len(decode_rows(decode_frame(text))) for text in texts)
        for reader in readers:
            if reader.takes_notices:
                self.withheld[reader] = self.withheld.get(reader, 0) + trades
            else:
                reader.on_rows_lost(self.topic, trades, is_slow=True)

    def _owe(self, reader: Reader) -> None:
        """Owe a snapshot to a reader that was current, and whatever closes from here on."""
        self.owed[reader] = None
        if self.topic.kind is Kind.CLOSING:
            self.behind[reader] = self._closings_sent

    def owe_closings(self, since: int) -> None:
        """Owe what closes from here on to readers that wait for their first message.

        Args:
            since: How many closing messages there were before this moment.
        """
        if self.topic.kind is Kind.CLOSING:
            for reader in (*self.owed, *self.waiting):
                self.behind.setdefault(reader, since)

    def _tell_withheld(self) -> None:
        for reader in list(self.withheld):
            if reader.has_room():
                reader.on_rows_lost(self.topic, self.withheld.pop(reader), is_slow=True)

    def pay(self, *, is_down: bool) -> None:
        """Send what is owed to those who have room for it.

        Args:
            is_down: Upstream is: the image may be outdated, and is handed to no reader.

        Raises:
            ExchangeFault: The image turned out to be wrong; a base is needed.
        """
        self._tell_withheld()
        if not self.owed or is_down or not self.receiver.is_live:
            return
        greeting = self.receiver.greeting()
        self.owe_closings(self.receiver.closings)
        batch = None if greeting is None else Batch([greeting])
        late = self._late_batches(greeting)
        before = len(self.owed)
        for reader in list(self.owed):
            own = late.get(self.behind[reader], batch) if reader in self.behind else batch
            try:
                if own is not None and not (reader.has_room() and reader.outbound.deliver(own)):
                    continue
            except Exception:
                if reader not in self.failing:
                    self.failing.add(reader)
                    self._log_failure()
                    continue
                reader.on_failure()
            self.failing.discard(reader)
            del self.owed[reader]
            self.current[reader] = reader.outbound
            self._tell_late(reader)
        self._closings_sent = self.receiver.closings
        self.crowded = len(self.owed)
        if batch is not None:
            self._count(batch, before - self.crowded)
            self._counters.snapshots += before - self.crowded

    def _late_batches(self, greeting: bytes | None) -> dict[int, Batch]:
        """Return what readers that were behind are sent: what closed meanwhile, then the greeting.

        By how many closing messages they had been sent, so that those who know the same share it.
        """
        batches = {}
        for closings in set(self.behind.values()):
            texts = self.receiver.closed_since(closings)[1]
            if greeting is not None and texts[-1:] != [greeting]:
                texts.append(greeting)
            if texts:
                batches[closings] = Batch(texts)
        return batches

    def _tell_late(self, reader: Reader) -> None:
        """Tell a reader that has caught up of closing messages that were not kept long enough."""
        if reader in self.behind:
            lost = self.receiver.closed_since(self.behind.pop(reader))[0]
            if lost:
                reader.on_rows_lost(self.topic, lost, is_slow=True)

    def restart(self) -> None:
        """Owe a snapshot to all: the readers that were current have missed something."""
        self.fresh.clear()
        for reader in self.current:
            self._owe(reader)
        self.current.clear()

    def leave(self, reader: Reader) -> None:
        """Forget a reader."""
        for place in (self.current, self.owed, self.waiting, self.withheld, self.behind):
            place.pop(reader, None)
        self.failing.discard(reader)
