"""The live picture: what all web processes and workers say of themselves, as one.

Every web process keeps the reports of all, so whichever answers knows the sums. A process that
stops reporting is forgotten like a lease that runs out.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from relay.core.topics import Category
from relay.envelopes import UpstreamState
from relay.events import SharedLog
from relay.reports import (
    CONNECTIONS_TOLD,
    REPORT_INTERVAL,
    REPORT_LEASE,
    CategoryReport,
    ConnectionRow,
    HubRows,
    Report,
    StreamRow,
    TopicRow,
    WorkerReport,
    unpack,
)

HISTORY = 300  # seconds of each total that are kept
PAGE_LIMIT = 200  # topics on one page

_Key = tuple[str, str]  # category, topic
_Words = Annotated[str, Meta(max_length=100)]
R = TypeVar("R", Report, WorkerReport)


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Which topics somebody looks at: those that match, in order, from `offset` on.

    Attributes:
        search: Words that must all be in the topic, its category or its state.
    """

    search: _Words = ""
    category: _Words = ""
    state: _Words = ""
    sort: Literal[
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
    ] = "subscribers"
    descending: bool = True
    offset: Annotated[int, Meta(ge=0, le=10_000_000)] = 0
    limit: Annotated[int, Meta(ge=0, le=PAGE_LIMIT)] = 100


def read_page(asked: object) -> Page:
    """Return the page that somebody asks for, in JSON or as the query of an address.

    Raises:
        ValueError: with words on what is wrong.
    """
    return msgspec.convert(asked, Page, strict=False)


class Known(msgspec.Struct, frozen=True):
    """What the process that answers knows of a category's upstream."""

    state: UpstreamState
    since: int
    epoch: int
    worker: str


class _Kept(Generic[R]):
    """The last report of a process, and the one before it for the rates."""

    def __init__(self, report: R, received: float, before: _Kept[R] | None) -> None:
        self.report: R = report
        self.received = received
        self.before: _Kept[R] | None = before
        if before is not None:
            before.before = None

    @property
    def elapsed(self) -> float:
        """Seconds between the two reports; 0 if there is one."""
        return 0.0 if self.before is None else self.report["at"] - self.before.report["at"]

    def rate(self, count: float, before: float | None) -> float:
        """Return what was counted per second; nothing if it is new or started over."""
        elapsed = self.elapsed
        return max(0.0, count - before) / elapsed if before is not None and elapsed > 0 else 0.0

    @cached_property
    def rows(self) -> HubRows:
        return unpack(self.report["packed"], HubRows)

    @cached_property
    def topics(self) -> dict[_Key, TopicRow]:
        return {(row.category, row.topic): row for row in self.rows.topics}

    @cached_property
    def streams(self) -> dict[_Key, StreamRow]:
        rows = unpack(self.report["packed"], list[StreamRow])
        return {(row.category, row.topic): row for row in rows}


class Picture:
    """Keeps the reports and puts them together.

    Reports are taken in the event loop; `show` may be called from any thread.
    """

    def __init__(self) -> None:
        """Start with nothing known."""
        self.log = SharedLog()
        self._hubs: dict[str, _Kept[Report]] = {}
        self._workers: dict[str, _Kept[WorkerReport]] = {}
        self._history: dict[str, deque[float]] = {}

    # ---- reports ----

    def take(self, report: Report, now: float) -> None:
        """Take what a web process says."""
        process = report["process"]
        self._hubs[process] = _Kept(report, now, self._hubs.get(process))
        self.log.take(report["origin"], report["name"], report["events"])

    def take_worker(self, report: WorkerReport, now: float) -> None:
        """Take what a worker says."""
        process = report["process"]
        self._workers[process] = _Kept(report, now, self._workers.get(process))
        self.log.take(report["origin"], report["name"], report["events"])

    def forget(self, process: str) -> None:
        """Forget a process that has said that it stops."""
        self._hubs.pop(process, None)
        self._workers.pop(process, None)

    def beat(self, now: float) -> list[str]:
        """Let a second pass; return the names of processes that have fallen silent."""
        silent = [*_expire(self._hubs, now), *_expire(self._workers, now)]
        leaders = _leaders(self._alive(self._workers, now))
        rates = {
            f"upstream.{category}": round(leaders[category][2], 1) if category in leaders else 0.0
            for category in Category
        }
        for name, value in (self._totals(now) | rates).items():
            history = self._history.setdefault(name, deque(maxlen=HISTORY))
            history.append(value or 0)
        return silent

    def processes(self) -> list[str]:
        """Return the web processes that are known."""
        return list(self._hubs)

    # ---- the picture ----

    def show(
        self, known: Mapping[Category, Known], page: Page | None, now: float
    ) -> dict[str, Any]:
        """Return the live picture.

        Args:
            known: What this process knows of the upstream side.
            page: Which topics to show; None for all.
        """
        hubs, workers = self._alive(self._hubs, now), self._alive(self._workers, now)
        leaders = _leaders(workers)
        topics = _topics(hubs, leaders, now)
        shown: dict[str, Any] = {
            "generated_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "totals": self._totals(now) | {"topics": len(topics)},
            "upstream": {
                category.value: _upstream(category, at, leaders.get(category.value), workers)
                for category, at in known.items()
            },
            "processes": [_process(kept.report) for kept in hubs],
            "workers": [_worker(kept.report) for kept in workers],
            "states": Counter(topic["state"] for topic in topics),
            "topics": topics,
            "connections": _connections(hubs),
            "events": self.log.newest_first(),
        }
        if page is not None:
            shown["topics"], shown["topics_matched"] = _chosen(topics, page)
        return shown

    def history(self) -> dict[str, list[float]]:
        """Return each total of the last five minutes, one a second, oldest first.

        And for each category its messages per second, as `upstream.linear`.
        """
        return {name: list(values) for name, values in list(self._history.items())}

    def carries(self, category: str, topic: str) -> bool:
        """Whether any web process has a topic."""
        return any((category, topic) in kept.topics for kept in list(self._hubs.values()))

    def find_client(self, process: str, client: str) -> tuple[str, str | None] | None:
        """Return the name of a listed client's process and its address; None if there is none."""
        kept = self._hubs.get(process)
        for row in [] if kept is None else kept.rows.connections:
            if kept is not None and row.client == client:
                return kept.report["name"], row.address
        return None

    def _totals(self, now: float) -> dict[str, float | None]:
        hubs, workers = self._alive(self._hubs, now), self._alive(self._workers, now)
        leaders = _leaders(workers)
        delays = [d for kept in hubs if (d := kept.report["redis_delay_ms"]) is not None]
        # Distinct topics over all: what the workers hear, or what one process has by itself.
        wanted = sum(part["wanted"] for _, part, _ in leaders.values())
        counts = [kept.report["topics"] for kept in hubs]
        return {
            "clients": sum(kept.report["clients"] for kept in hubs),
            "subscriptions": sum(kept.report["subscriptions"] for kept in hubs),
            "topics": max([wanted, *counts]),
            "messages_per_second": round(sum(rate for _, _, rate in leaders.values()), 1),
            "deliveries_per_second": round(sum(_total_rate(k, "deliveries") for k in hubs), 1),
            "bytes_per_second": round(sum(_total_rate(kept, "bytes") for kept in hubs)),
            "lagging": sum(kept.report["lagging"] for kept in hubs),
            "unsent": sum(kept.report["unsent"] for kept in hubs),
            "redis_delay_ms": max(delays, default=None),
        }

    @staticmethod
    def _alive(reports: dict[str, _Kept[R]], now: float) -> list[_Kept[R]]:
        return [kept for kept in list(reports.values()) if now - kept.received <= REPORT_LEASE]


def _expire(reports: dict[str, _Kept[R]], now: float) -> list[str]:
    """Forget those whose lease ran out; return their names."""
    gone = [p for p, kept in reports.items() if now - kept.received > REPORT_LEASE]
    return [reports.pop(process).report["name"] for process in gone]


_Leader = tuple[_Kept[WorkerReport], CategoryReport, float]  # with its messages per second


def _leaders(workers: Iterable[_Kept[WorkerReport]]) -> dict[str, _Leader]:
    """Return who leads each category: of two who say so, the one with the higher epoch."""
    found: dict[str, _Leader] = {}
    for kept in workers:
        for category, part in kept.report["categories"].items():
            if part["role"] != "leader":
                continue
            if category in found and found[category][1]["epoch"] >= part["epoch"]:
                continue
            before = kept.before and kept.before.report["categories"].get(category)
            rate = kept.rate(part["messages"], before["messages"] if before else None)
            found[category] = (kept, part, rate)
    return found


def _total_rate(kept: _Kept[Report], name: Literal["deliveries", "bytes"]) -> float:
    before = None if kept.before is None else kept.before.report["totals"][name]
    return kept.rate(kept.report["totals"][name], before)


def _upstream(
    category: Category,
    at: Known,
    leader: _Leader | None,
    workers: Iterable[_Kept[WorkerReport]],
) -> dict[str, Any]:
    """Return how a category is: by the newest word of its worker, in detail by its report."""
    shown: dict[str, Any] = {
        "state": at.state.value,
        "since": at.since,
        "epoch": at.epoch,
        "worker": at.worker,
        "standbys": [
            kept.report["name"]
            for kept in workers
            if (part := kept.report["categories"].get(category.value)) is not None
            and part["role"] == "standby"
        ],
        "topics": 0,
        "confirmed": 0,
        "messages_per_second": 0.0,
        "connections": [],
    }
    if leader is not None:
        _, told, rate = leader
        shown["topics"] = told["topics"]
        shown["confirmed"] = told["confirmed"]
        shown["connections"] = told["connections"]
        shown["messages_per_second"] = round(rate, 1)
    return shown


def _process(report: Report) -> dict[str, Any]:
    names = ("process", "name", "clients", "subscriptions", "topics", "lagging", "unsent")
    return {name: report[name] for name in (*names, "started_at")}  # type: ignore[literal-required]


def _worker(report: WorkerReport) -> dict[str, Any]:
    parts = report["categories"].items()
    return {
        "process": report["process"],
        "name": report["name"],
        "leads": [category for category, part in parts if part["role"] == "leader"],
        "stands_by": [category for category, part in parts if part["role"] == "standby"],
    }


_WORST_FIRST = ("stale", "waiting", "live")


def _topics(
    hubs: Iterable[_Kept[Report]], leaders: Mapping[str, _Leader], now: float
) -> list[dict[str, Any]]:
    """Return every topic, its counts summed over the web processes.

    Each process receives the same messages, so those are not summed: the worker's own count
    says how many there are, or the process that had most while the worker's report is missing.
    """
    merged: dict[_Key, dict[str, Any]] = {}
    for kept in hubs:
        earlier = {} if kept.before is None else kept.before.topics
        # The next report is due within a second, and says what came since: until it is late, a
        # topic is as old as the last one says.
        late = max(0.0, now - kept.received - REPORT_INTERVAL) * 1000
        for key, row in kept.topics.items():
            before = earlier.get(key)
            rate_in = kept.rate(row.messages, before.messages) if before else 0.0
            rate_out = kept.rate(row.deliveries, before.deliveries) if before else 0.0
            age = None if row.age_ms is None else round(row.age_ms + late)
            topic = merged.get(key)
            if topic is None:
                merged[key] = {
                    "category": row.category,
                    "topic": row.topic,
                    "state": row.state,
                    "subscribers": row.subscribers,
                    "peak": row.peak,
                    "messages_per_second": rate_in,
                    "deliveries_per_second": rate_out,
                    "age_ms": age,
                    "gaps": 0,
                    "resyncs": 0,
                    "u": None,
                    "pinned": row.pinned,
                }
                continue
            states = (topic["state"], row.state)
            topic["state"] = next((s for s in _WORST_FIRST if s in states), row.state)
            topic["subscribers"] += row.subscribers
            topic["peak"] += row.peak
            topic["messages_per_second"] = max(topic["messages_per_second"], rate_in)
            topic["deliveries_per_second"] += rate_out
            if age is not None and (topic["age_ms"] is None or age < topic["age_ms"]):
                topic["age_ms"] = age
            topic["pinned"] = topic["pinned"] or row.pinned
    for category, (worker, _, _) in leaders.items():
        earlier_streams = {} if worker.before is None else worker.before.streams
        for key, stream in worker.streams.items():
            topic = merged.get(key)
            if topic is None or key[0] != category:
                continue  # nobody reads it any more, and it lingers; or a former term's
            before_stream = earlier_streams.get(key)
            if before_stream is not None:
                rate = worker.rate(stream.messages, before_stream.messages)
                topic["messages_per_second"] = rate
            topic["gaps"] = stream.gaps
            topic["resyncs"] = stream.resyncs
            topic["u"] = stream.u
    for topic in merged.values():
        topic["messages_per_second"] = round(topic["messages_per_second"], 1)
        topic["deliveries_per_second"] = round(topic["deliveries_per_second"], 1)
    return list(merged.values())


def _connections(hubs: Iterable[_Kept[Report]]) -> list[dict[str, Any]]:
    """Return the clients with the most unsent bytes, then those that have been here longest."""
    rows: list[tuple[str, ConnectionRow]] = [
        (kept.report["process"], row) for kept in hubs for row in kept.rows.connections
    ]
    rows.sort(key=lambda row: (-row[1].unsent, row[1].since))
    return [
        {"process": process, **msgspec.structs.asdict(row)}
        for process, row in rows[:CONNECTIONS_TOLD]
    ]


def _chosen(topics: list[dict[str, Any]], page: Page) -> tuple[list[dict[str, Any]], int]:
    """Return the topics of a page, and how many match; equal ones in the order of their names."""
    words = page.search.lower().split()
    matched = [
        topic
        for topic in topics
        if (not page.category or topic["category"] == page.category)
        and (not page.state or topic["state"] == page.state)
        and all(
            word in f"{topic['category']}:{topic['topic']} {topic['state']}".lower()
            for word in words
        )
    ]
    matched.sort(key=lambda topic: (topic["category"], topic["topic"]))
    # What has no value yet comes last, whichever way the rest is ordered.
    present = [topic for topic in matched if topic[page.sort] is not None]
    absent = [topic for topic in matched if topic[page.sort] is None]
    present.sort(key=lambda topic: topic[page.sort], reverse=page.descending)
    return (present + absent)[page.offset : page.offset + page.limit], len(matched)
