"""A recording of the exchange, played again byte for byte.

Both layouts of recordings are read: one frame a line, or `{"category", "message"}` a line;
gzip if the name ends in `.gz`. A line `{"at"}` says when the frames after it arrived, in Unix ms;
where there is none, a frame is due by its own `ts`. The whole file is held in memory.

How it plays: every socket has a clock of its own, which starts when its first topic is
subscribed, at the first frame of that request's topics. A topic always plays from its
first frame, so nothing is ever missing: what a later subscriber has already missed comes in
one burst, then it goes on at the recorded pace. Subscribing again plays the topic again.

When all of a socket's topics have been played it is told so by an unsolicited pong, the
one message that every client of Bybit takes without harm.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path

import msgspec

from relay.simulator.exchange import Reader
from relay.simulator.topics import Category
from relay.simulator.wire import text_frame

END_WORDS = "the replay has ended; subscribing again plays it again"
FIRST_BURST = 3  # frames at most that go out before the ack


class RecordingError(Exception):
    """The file holds nothing that can be played; the words say why."""


class _Line(msgspec.Struct):
    category: str | None = None
    message: msgspec.Raw = msgspec.Raw()
    topic: str | None = None
    ts: int | None = None
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """One frame: its place in the file, when it is due (ms, never going back), its bytes."""

    position: int
    due: int
    payload: bytes


class Recording:
    """The frames of a file by category and topic.

    Acks, pongs and whatever else has no topic are left out: those are answers, and the
    session writes its own.
    """

    def __init__(self, lines: Iterable[bytes], category: Category | None = Category.LINEAR) -> None:
        """Read the lines.

        Args:
            category: Of frames that do not say theirs; None plays them in every category.

        Raises:
            RecordingError: A line is not JSON, or no line has a topic.
        """
        self.topics: dict[Category, dict[str, list[Recorded]]] = {}
        self._clocks: dict[Category, int] = {}
        self._at: int | None = None  # when what follows arrived, if the file says so
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    self._add(number, line.strip(b"\r\n"), category)
                except (msgspec.MsgspecError, ValueError) as fault:
                    raise RecordingError(
                        f"line {number} is not a recorded frame: {fault}"
                    ) from None
        if not self.topics:
            raise RecordingError("no frame of a topic in it")

    @classmethod
    def read(cls, path: Path, category: Category | None = None) -> Recording:
        """Read a file; a raw one is of the category that its name mentions, or of every one.

        Raises:
            RecordingError: As the constructor, or the file cannot be read.
        """
        guesses = (one for one in Category if one in path.name)
        opened = gzip.open if path.name.endswith(".gz") else open
        try:
            with opened(path, "rb") as file:
                return cls(file, category or next(guesses, None))
        except (OSError, EOFError) as fault:
            raise RecordingError(f"cannot be read: {fault}") from None

    def _add(self, position: int, line: bytes, category: Category | None) -> None:
        frame = msgspec.json.decode(line, type=_Line)
        if bytes(frame.message):
            category = Category(frame.category) if frame.category else category
            line = bytes(frame.message)
            frame = msgspec.json.decode(line, type=_Line)
        if frame.topic is None:
            self._at = self._at if frame.at is None else frame.at
            return
        for played_in in (category,) if category else Category:
            clock = self._clocks.get(played_in, 0)
            due = self._clocks[played_in] = max(clock, self._at or frame.ts or 0)
            topics = self.topics.setdefault(played_in, {})
            topics.setdefault(frame.topic, []).append(Recorded(position, due, line))


class Player:
    """One socket's playing of a recording; it takes the time and returns what is due."""

    def __init__(self, topics: dict[str, list[Recorded]], speed: float) -> None:
        """Stand still until a topic is added.

        Args:
            speed: How many times faster than recorded; 0 is as fast as possible.
        """
        self._topics = topics
        self._speed = speed
        self._origin: tuple[int, int] | None = None  # (recorded, ours): the same moment, in ms
        self._next: list[tuple[int, str]] = []  # a heap of (position of the next frame, topic)
        self._cursors: dict[str, int] = {}  # of each topic that plays or has played to its end
        self._is_end_told = False

    def add(self, topics: list[str], now_ms: int) -> None:
        """Begin topics of the recording from their first frames."""
        if self._origin is None:
            self._origin = min(self._topics[topic][0].due for topic in topics), now_ms
        self._is_end_told = False
        for topic in topics:
            self._cursors[topic] = 0
            heappush(self._next, (self._topics[topic][0].position, topic))

    def remove(self, topics: Iterable[str]) -> None:
        """Stop topics."""
        gone = set(topics)
        for topic in gone:
            self._cursors.pop(topic, None)
        self._next = sorted(entry for entry in self._next if entry[1] not in gone)

    def take(self, now_ms: int, most: int) -> list[bytes]:
        """Return at most so many frames that are due, in file order."""
        taken: list[bytes] = []
        while self._next and len(taken) < most and self.wait(now_ms) == 0:
            _, topic = heappop(self._next)
            frames, cursor = self._topics[topic], self._cursors[topic]
            taken.append(frames[cursor].payload)
            self._cursors[topic] = cursor = cursor + 1
            if cursor < len(frames):
                heappush(self._next, (frames[cursor].position, topic))
        return taken

    def take_end(self) -> bool:
        """Return, once each time, whether every topic has been played to its end."""
        is_news = bool(self._cursors) and not self._next and not self._is_end_told
        self._is_end_told = self._is_end_told or is_news
        return is_news

    def wait(self, now_ms: int) -> float | None:
        """Return the seconds until the next frame is due, None if there is none."""
        if not self._next or self._origin is None:
            return None
        if not self._speed:
            return 0
        topic = self._next[0][1]
        recorded, ours = self._origin
        elapsed = (now_ms - ours) * self._speed
        ahead = self._topics[topic][self._cursors[topic]].due - recorded - elapsed
        return max(0.0, ahead / self._speed / 1000)


class ReplaySource:
    """A recording in the place of the exchange.

    Attributes:
        players: One for each reader; the owner of the clock asks them for what is due.
        sent: Frames so far, over all readers.
    """

    def __init__(self, recording: Recording, speed: float) -> None:
        self._recording = recording
        self._speed = speed
        self.players: dict[Reader, Player] = {}
        self.sent = 0

    def knows(self, category: Category, topic: str) -> bool:
        return topic in self._recording.topics.get(category, {})

    def join(
        self, category: Category, topics: list[str], reader: Reader, now_ms: int
    ) -> list[bytes]:
        if not topics:
            return []
        player = self.players.get(reader)
        if player is None:
            player = Player(self._recording.topics[category], self._speed)
            self.players[reader] = player
        player.add(topics, now_ms)
        first = player.take(now_ms, FIRST_BURST)
        self.sent += len(first)
        return first

    def leave(self, category: Category, topics: Iterable[str], reader: Reader) -> None:
        if reader in self.players:
            self.players[reader].remove(topics)

    def forget(self, reader: Reader) -> None:
        """Drop the player of a reader that is gone."""
        self.players.pop(reader, None)

    def play(self, reader: Reader, now_ms: int, most: int) -> float | None:
        """Send what is due to a reader; return the seconds until more is."""
        player = self.players.get(reader)
        if player is None:
            return None
        for payload in player.take(now_ms, most):
            reader.push(text_frame(payload))
            self.sent += 1
        return player.wait(now_ms)

    def tell_end(self, reader: Reader, now_ms: int) -> bool:
        """Tell a reader that it has been sent everything; return whether that is news."""
        player = self.players.get(reader)
        if player is None or not player.take_end():
            return False
        end = {"op": "pong", "ret_msg": END_WORDS, "args": [str(now_ms)]}
        reader.push(text_frame(msgspec.json.encode(end)))
        return True
