"""Every topic over all web processes and the worker that leads it, of which people see a page.

Thousands of topics are looked at each second to show a hundred: a number is worked out when
an operator orders by it or sees it, and not before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from relay.lib import timing
from relay.ops.last_reports import LastReport, Leader, TopicKey
from relay.telemetry.reports import (
    TOPIC_STATES,
    Report,
    StreamRow,
    TopicRow,
    WorkerReport,
)

PAGE_LIMIT = 200  # topics on one page

_Words = Annotated[str, Meta(max_length=100)]

Column = Literal[
    "category",
    "topic",
    "state",
    "subscribers",
    "peak",
    "messages_per_second",
    "deliveries_per_second",
    "age_ms",
    "gaps",
    "resyncs",
    "u",
    "pinned",
]
COLUMNS: tuple[str, ...] = get_args(Column)


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Which topics an operator looks at: those that match, in order, from `offset` on.

    Attributes:
        search: Words that must all be in the topic, its category or its state.
    """

    search: _Words = ""
    category: _Words = ""
    state: _Words = ""
    sort: Column = "subscribers"
    descending: bool = True
    offset: Annotated[int, Meta(ge=0, le=10_000_000)] = 0
    limit: Annotated[int, Meta(ge=0, le=PAGE_LIMIT)] = 100


def read_page(asked: object) -> Page:
    """Return the page that is asked for, in JSON or as the query of an address.

    Raises:
        ValueError: with words on what is wrong.
    """
    return msgspec.convert(asked, Page, strict=False)


class LiveTopic:
    """One topic: its counts are summed over the web processes.

    Each process receives the same messages, so those are not summed: the worker's own count
    says how many there are, or the process that had most while the worker's report is missing.
    """

    __slots__ = ("_told", "_worker", "category", "topic")

    def __init__(self, key: TopicKey, worker: LastReport[WorkerReport] | None) -> None:
        self.category, self.topic = key
        self._worker = worker
        self._told: list[tuple[LastReport[Report], TopicRow, float]] = []

    def add(self, hub: LastReport[Report], row: TopicRow, late: float) -> None:
        """Add what one process says; `late` is how long its next word is overdue, in seconds."""
        self._told.append((hub, row, late))

    @property
    def _stream(self) -> StreamRow | None:
        worker = self._worker
        return None if worker is None else worker.streams.get((self.category, self.topic))

    @property
    def state(self) -> str:
        states = [row.state for _, row, _ in self._told]
        return next((state for state in TOPIC_STATES if state in states), states[0])

    @property
    def subscribers(self) -> int:
        return sum(row.subscribers for _, row, _ in self._told)

    @property
    def peak(self) -> int:
        return sum(row.peak for _, row, _ in self._told)

    @property
    def messages_per_second(self) -> float:
        key = (self.category, self.topic)
        stream, worker = self._stream, self._worker
        if stream is not None and worker is not None and worker.before is not None:
            earlier = worker.before.streams.get(key)
            if earlier is not None:
                return round(worker.rate(stream.messages, earlier.messages), 1)
        rates = [
            hub.rate(row.messages, before.messages)
            for hub, row, _ in self._told
            if hub.before is not None and (before := hub.before.topics.get(key)) is not None
        ]
        return round(max(rates, default=0.0), 1)

    @property
    def deliveries_per_second(self) -> float:
        key = (self.category, self.topic)
        rates = (
            hub.rate(row.deliveries, before.deliveries)
            for hub, row, _ in self._told
            if hub.before is not None and (before := hub.before.topics.get(key)) is not None
        )
        return round(sum(rates), 1)

    @property
    def age_ms(self) -> int | None:
        ages = [row.age_ms + late * 1000 for _, row, late in self._told if row.age_ms is not None]
        return round(min(ages)) if ages else None

    @property
    def gaps(self) -> int:
        stream = self._stream
        return 0 if stream is None else stream.gaps

    @property
    def resyncs(self) -> int:
        stream = self._stream
        return 0 if stream is None else stream.resyncs

    @property
    def u(self) -> int | None:
        stream = self._stream
        return None if stream is None else stream.u

    @property
    def pinned(self) -> bool:
        return any(row.pinned for _, row, _ in self._told)

    def truncate(self) -> dict[str, Any]:
        """Return everything, as it is shown."""
        return {column: getattr(self, column) for column in COLUMNS}


class TopicTable:
    """All topics that some web process has."""

    def __init__(
        self, hubs: Iterable[LastReport[Report]], leaders: Mapping[str, Leader], now: float
    ) -> None:
        """Put together what the web processes and the leading workers say."""
        workers = {category: worker for category, (worker, _, _) in leaders.items()}
        self._topics: dict[TopicKey, LiveTopic] = {}
        for hub in hubs:
            late = max(0.0, now - hub.received - timing.REPORT_INTERVAL)
            for key, row in hub.topics.items():
                topic = self._topics.get(key)
                if topic is None:
                    topic = self._topics[key] = LiveTopic(key, workers.get(key[0]))
                topic.add(hub, row, late)

    def __len__(self) -> int:
        return len(self._topics)

    def states(self) -> Counter[str]:
        """Return how many topics are in each state."""
        return Counter(topic.state for topic in self._topics.values())

    def all(self) -> list[dict[str, Any]]:
        """Return every topic."""
        return [topic.truncate() for topic in self._topics.values()]

    def page(self, page: Page) -> tuple[list[dict[str, Any]], int]:
        """Return the topics of a page, and how many match; equal ones in the order of names."""
        words = page.search.lower().split()
        matched = [
            topic
            for topic in self._topics.values()
            if (not page.category or topic.category == page.category)
            and (not page.state or topic.state == page.state)
            and _has(topic, words)
        ]
        matched.sort(key=attrgetter("category", "topic"))
        # What has no value yet comes last, whichever way the rest is ordered.
        value = attrgetter(page.sort)
        valued = [(value(topic), topic) for topic in matched]
        present = [pair for pair in valued if pair[0] is not None]
        present.sort(key=lambda pair: pair[0], reverse=page.descending)
        ordered = present + [pair for pair in valued if pair[0] is None]
        seen = ordered[page.offset : page.offset + page.limit]
        return [topic.truncate() for _, topic in seen], len(matched)


def _has(topic: LiveTopic, words: list[str]) -> bool:
    if not words:
        return True
    text = f"{topic.category}:{topic.topic} {topic.state}".lower()
    return all(word in text for word in words)
