"""One topic as the upstream worker publishes it: in order, numbered, and only while right.

The worker gives every message a place in its topic's stream. What would break a reader's
book is not published: after a gap nothing goes out until the next snapshot.

A book may be locked or crossed for a moment, because matching engines publish its two sides apart.
That is not a fault: the messages are held until one has healed the book, and are then published as
they came. A book that stays crossed has missed something; what was held of it is never published.
"""

from __future__ import annotations

import math
from enum import Enum, auto

from relay.bybit.errors import CrossedBook, ExchangeFault, NoSnapshotYet
from relay.bybit.frames import Frame
from relay.bybit.images import Image, make_image
from relay.bybit.topics import Topic
from relay.lib import timing
from relay.lib.pacing import Backoff

MAX_HELD = 2**20  # bytes of a crossed book's messages


class Outcome(Enum):
    """What became of a message."""

    PUBLISH = auto()  # after what `take_held` returns
    HOLD = auto()  # of a crossed book: published when a later message has healed it
    IGNORE = auto()  # a delta before its snapshot
    BAD = auto()  # not understood, and no later message builds on it
    BROKEN = auto()  # withheld: the topic needs a new snapshot


class StreamSender:
    """The worker's side of one topic.

    Attributes:
        offset: Position of the last published message; 0 before the first. Trades are
            counted one by one, so that lost ones can be told.
        start: Where it began to count; what lies before is of an earlier stream of the topic.
        settled: What `offset` was a beat ago: a hub behind it has lost something.
        is_confirmed: Whether the exchange has agreed to the subscription.
        was_confirmed: Whether it has ever done so.
        told_behind_at: When a hub that stood behind `settled` was answered last.
        owes_base: Whether a hub waits for a base until a crossed book has healed.
        fault: Words on what broke last, for operators; empty if nothing did.
        gaps: How often the stream broke.
        resyncs: How often a new snapshot was asked for.
    """

    def __init__(self, topic: Topic, offset: int = 0, *, was_confirmed: bool = False) -> None:
        """Start a stream.

        Args:
            offset: Where to start counting: after whatever this epoch has used for the topic.
            was_confirmed: Whether the exchange has agreed to the topic before.
        """
        self.topic = topic
        self.offset = self.start = offset
        self.settled = 0
        self.is_confirmed = False
        self.was_confirmed = was_confirmed
        self.owes_base = False
        self.told_behind_at = -math.inf
        self.fault = ""
        self.gaps = 0
        self.resyncs = 0
        self.messages = 0
        self._image: Image = make_image(topic)
        self._backoff = Backoff(timing.RESYNC_FIRST_BACKOFF, timing.RESYNC_CEILING)
        self._pause = 0.0  # seconds to wait if the topic breaks again
        self._live_since = 0.0
        self._was_right = False  # whether there ever was an image that could be trusted
        self._crossed_since: float | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._resync_at: float | None = None  # when to ask for a snapshot again
        self._asked_anew_at = -timing.RESYNC_ORDER_PAUSE
        self._last_offset = 0

    @property
    def is_live(self) -> bool:
        """Whether the image is what the exchange has."""
        return self._image.is_live

    @property
    def is_crossed(self) -> bool:
        """Whether the best bid is not below the best ask; no reader may start from it then."""
        return self._crossed_since is not None

    def confirm(self, now: float) -> None:
        """Note that the exchange has agreed; trades are live from here on."""
        self.is_confirmed = self.was_confirmed = True
        self._image.start()
        if not self.is_live and self._resync_at is None:
            self._resync_at = now + timing.SNAPSHOT_PATIENCE

    def receive(self, text: bytes, frame: Frame, now: float) -> Outcome:
        """Judge one message of the exchange."""
        self.messages += 1
        was_live = self.is_live
        try:
            weight = self._image.apply(text, frame)
        except NoSnapshotYet:
            return Outcome.IGNORE
        except ExchangeFault as fault:
            return self._judge(str(fault), now, was_live)
        if not was_live:
            self._live_since = now
        try:
            self._image.verify()
            self._crossed_since = self._resync_at = None
            self._was_right = True
        except CrossedBook as fault:
            if self._crossed_since is None:
                self._crossed_since = now
            self._held.append(text)
            self._held_bytes += len(text)
            is_over = now - self._crossed_since >= timing.CROSSED_PATIENCE
            if is_over or self._held_bytes > MAX_HELD:
                return self._judge(str(fault), now, was_live)
            return Outcome.HOLD
        except ExchangeFault as fault:
            return self._judge(str(fault), now, was_live)
        self.offset += len(self._held) + weight
        return Outcome.PUBLISH

    def take_held(self) -> list[bytes]:
        """Return the messages to publish before the last one; each takes one position."""
        if not self._held:
            return []
        held, self._held, self._held_bytes = self._held, [], 0
        return held

    def refuse(self, words: str, now: float) -> Outcome:
        """Take note of a message that could not be read; `words` say why."""
        self.messages += 1
        return self._judge(words, now, self.is_live)

    def _judge(self, words: str, now: float, was_live: bool) -> Outcome:
        if not self.topic.is_amended:
            self.fault = words
            return Outcome.BAD
        self._break(words, now, was_live and now - self._live_since >= timing.HEALTHY_AFTER)
        return Outcome.BROKEN

    def stays_crossed(self, now: float) -> bool:
        """Break the stream if its book has been crossed for too long; return whether it has."""
        since = self._crossed_since
        if since is None or not self.is_live or now - since < timing.CROSSED_PATIENCE:
            return False
        words = f"crossed for {timing.CROSSED_PATIENCE:g} s"
        self._break(words, now, since - self._live_since >= timing.HEALTHY_AFTER)
        return True

    def _break(self, words: str, now: float, is_healthy: bool) -> None:
        self.fault = words
        self.gaps += 1
        self._stop_image()
        if is_healthy:
            self._backoff.reset()
            self._pause = 0.0
        if self._resync_at is None or not self._pause:
            self._resync_at = now + min(self._pause, timing.BROKEN_CEILING)

    def _stop_image(self) -> None:
        self._image.stop()
        self.take_held()
        self._crossed_since = None
        self.owes_base = False

    def ask_anew(self, now: float) -> bool:
        """Have a new snapshot asked for although nothing is known to be wrong.

        Returns False if that was done a moment ago.
        """
        if now - self._asked_anew_at < timing.RESYNC_ORDER_PAUSE:
            return False
        self._asked_anew_at = now
        self._stop_image()
        self._resync_at = now
        return True

    @property
    def update_id(self) -> int | None:
        """Bybit's `u` of the last message, where the image keeps one."""
        return self._image.update_id if self.messages else None

    def stop(self) -> None:
        """Note that the connection is gone, and with it what was known."""
        self.is_confirmed = False
        self._resync_at = None
        self._stop_image()

    def mark_stale(self) -> None:
        """Take a position for the notice that the image is stale, so that losing it shows.

        Trades need none: what was traded stays true.
        """
        if not self.topic.is_events:
            self.offset += 1

    def take_resync(self, now: float) -> bool:
        """Take the resync that is due, if one is; return whether to subscribe again now."""
        if self._resync_at is None or now < self._resync_at:
            return False
        self._resync_at = None
        return True

    def resynced(self, now: float, fraction: float) -> None:
        """Note that a new snapshot was asked for; if none comes, ask again later."""
        self.is_confirmed = False
        self.resyncs += 1
        self._pause = self._backoff.next(fraction)
        longest = timing.BROKEN_CEILING if self._was_right else timing.RESYNC_CEILING
        self._resync_at = now + min(longest, max(timing.SNAPSHOT_PATIENCE, self._pause))

    def beat(self) -> None:
        """Let a beat pass: what was published before the last one has arrived by now."""
        self.settled, self._last_offset = self._last_offset, self.offset

    def base(self) -> list[bytes]:
        """Return messages that bring a hub to `offset`; none for trades before the first.

        Raises:
            CrossedBook: the book is crossed, for a moment or for longer.
        """
        return self._image.base()
