"""What happened in this process that an operator wants to know.

A short list in memory, told to all web processes with the reports. Nothing is noted per
message or per client that comes and goes; a storm of one kind is cut short and counted.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypedDict

KEPT = 200  # events of one process
STORM = 5  # events of one kind in one second; further ones are counted
LONGEST = 200  # characters of an event's words


class Event(TypedDict):
    """Something that happened; `at` in Unix ms, `number` counts up in its process."""

    number: int
    at: int
    kind: str
    category: str
    topic: str
    words: str


class EventLog:
    """The last events of a process.

    Attributes:
        origin: Whose they are: (origin, number) names an event among those of all processes.
    """

    def __init__(self, wall_ms: Callable[[], int]) -> None:
        """Start empty; `wall_ms` tells the time of day, Unix ms."""
        self.origin = uuid.uuid4().hex
        self._wall_ms = wall_ms
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._last = 0
        self._second: dict[str, tuple[int, int]] = {}  # kind -> the second, events in it

    def record(self, kind: str, words: str, *, category: str = "", topic: str = "") -> None:
        """Note that something happened.

        Args:
            kind: One of a few words, such as `gap`; storms are counted by it.
            words: A short sentence for people.
        """
        at = self._wall_ms()
        second, count = self._second.get(kind, (0, 0))
        if second != at // 1000:
            self._end_of_storm(kind, at, count)
            count = 0
        self._second[kind] = (at // 1000, count + 1)
        if count < STORM:
            self._add(at, kind, category, topic, words)

    def since(self, number: int) -> list[Event]:
        """Return what was noted after the event of that number; 0 for all that is kept."""
        now = self._wall_ms()
        for kind, (second, count) in list(self._second.items()):
            if second != now // 1000:
                self._end_of_storm(kind, now, count)
                self._second.pop(kind, None)
        return [event for event in self._kept if event["number"] > number]

    def _end_of_storm(self, kind: str, at: int, count: int) -> None:
        if count > STORM:
            self._add(at, kind, "", "", f"and {count - STORM} more within a second")

    def _add(self, at: int, kind: str, category: str, topic: str, words: str) -> None:
        self._last += 1
        self._kept.append(
            {
                "number": self._last,
                "at": at,
                "kind": kind,
                "category": category,
                "topic": topic,
                "words": words[:LONGEST],
            }
        )


class SharedLog:
    """The last events of all processes, each once."""

    def __init__(self) -> None:
        self._kept: list[tuple[str, Event]] = []  # newest first
        self._seen: dict[str, int] = {}  # origin -> the highest number

    def take(self, origin: str, process: str, events: Iterable[Event]) -> None:
        """Keep what is new among a process's events; `process` is its name for people."""
        seen = self._seen.pop(origin, 0)
        new = [(process, event) for event in events if event["number"] > seen]
        self._seen[origin] = max([seen, *(event["number"] for _, event in new)])
        if new:  # sorted, because a process that was away tells what is older than the rest
            kept = sorted([*self._kept, *new], key=lambda kept: kept[1]["at"], reverse=True)
            self._kept = kept[:KEPT]
        while len(self._seen) > KEPT:
            del self._seen[next(iter(self._seen))]  # silent for longest

    def newest_first(self) -> list[dict[str, object]]:
        """Return the events for the overview."""
        return [
            {
                "at": event["at"],
                "kind": event["kind"],
                "category": event["category"],
                "topic": event["topic"],
                "words": event["words"],
                "process": process,
            }
            for process, event in self._kept
        ]
