"""The overview: what all web processes and workers report, as one.

Every web process keeps the reports of all, so whichever answers knows the sums. A process that
stops reporting is forgotten like a lease that runs out.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from relay.bybit.topics import Category
from relay.lib import timing
from relay.lib.clock import wall_ms
from relay.ops.last_reports import LastReport, Leader, R, TopicKey, leaders_of
from relay.ops.topic_table import Page, TopicTable
from relay.seam.envelopes import UpstreamState
from relay.telemetry.events import SharedLog
from relay.telemetry.reports import (
    CONNECTIONS_TOLD,
    ConnectionRow,
    Report,
    WorkerReport,
)

MOST_MISSING = 50  # processes that fell silent and are remembered, of each kind
HISTORY = 300  # seconds of each total that are kept


class Known(msgspec.Struct, frozen=True):
    """What the process that answers knows of a category's upstream."""

    state: UpstreamState
    since: int
    epoch: int
    worker: str


class Overview:
    """Keeps the reports and puts them together.

    Reports are taken in the event loop; `show` may be called from any thread.
    """

    def __init__(self) -> None:
        """Start with nothing known."""
        self.log = SharedLog()
        self._hubs: dict[str, LastReport[Report]] = {}
        self._workers: dict[str, LastReport[WorkerReport]] = {}
        self._history: dict[str, deque[float]] = {}
        self._web_roll = _Roll("web")
        self._worker_roll = _Roll("worker")

    # ---- reports ----

    def take(self, report: Report, now: float) -> None:
        """Take what a web process says."""
        process = report["process"]
        if process not in self._hubs:
            self._web_roll.came(process, now)
        self._hubs[process] = LastReport(report, now, self._hubs.get(process))
        self.log.take(report["origin"], report["name"], report["events"])

    def take_worker(self, report: WorkerReport, now: float) -> None:
        """Take what a worker says."""
        process = report["process"]
        if process not in self._workers:
            self._worker_roll.came(process, now)
        self._workers[process] = LastReport(report, now, self._workers.get(process))
        self.log.take(report["origin"], report["name"], report["events"])

    def forget(self, process: str) -> None:
        """Forget a process that has said that it stops."""
        self._hubs.pop(process, None)
        self._workers.pop(process, None)

    def beat(self, now: float, *, could_hear: bool = True) -> list[str]:
        """Let a second pass; return the names of processes that have fallen silent.

        Args:
            could_hear: Whether this process could receive reports lately; else a process that is
                not received from is forgotten, and is called missing only if it does not return.
        """
        silent = [
            *_expire(self._hubs, self._web_roll, now),
            *_expire(self._workers, self._worker_roll, now),
        ]
        if could_hear:
            self._web_roll.judge()
            self._worker_roll.judge()
        leaders = leaders_of(self._alive(self._workers, now))
        rates = {
            f"upstream.{category}": round(leaders[category][2], 1) if category in leaders else 0.0
            for category in Category
        }
        for name, value in (self._totals(now) | rates).items():
            history = self._history.setdefault(name, deque(maxlen=HISTORY))
            history.append(value or 0)
        return silent

    def workers(self, now: float) -> tuple[list[str], list[str]]:
        """Return the names of the workers that report, and the categories that they lead."""
        alive = self._alive(self._workers, now)
        return [worker.report["name"] for worker in alive], list(leaders_of(alive))

    def processes(self) -> list[str]:
        """Return the web processes that are known."""
        return list(self._hubs)

    # ---- the overview ----

    def show(
        self, known: Mapping[Category, Known], page: Page | None, now: float
    ) -> dict[str, Any]:
        """Return the overview, with a page of the topics, or all where that is None.

        Args:
            known: What this process knows of the upstream side.
        """
        [shown] = self.show_each(known, [page], now)
        return shown

    def show_each(
        self,
        known: Mapping[Category, Known],
        pages: Iterable[Page | None],
        now: float,
        layer_down_since: int | None = None,
    ) -> list[dict[str, Any]]:
        """Return the overview once for each page; only the topics differ.

        Args:
            known: What this process knows of the upstream side.
            layer_down_since: Unix ms from when on this process could not reach the channel layer
                and knows of no other; None while it can.
        """
        hubs, workers = self._alive(self._hubs, now), self._alive(self._workers, now)
        leaders = leaders_of(workers)
        table = TopicTable(hubs, leaders, now)
        shared: dict[str, Any] = {
            "generated_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "layer_down_since": layer_down_since,
            "totals": self._totals(now) | {"topics": len(table)},
            "upstream": {
                category.value: _upstream(category, at, leaders.get(category.value), workers)
                for category, at in known.items()
            },
            "processes": [_process(hub.report) for hub in hubs],
            "workers": [_worker(worker, leaders) for worker in workers],
            "missing": [*self._worker_roll.truncate(now), *self._web_roll.truncate(now)],
            "states": table.states(),
            "connections": _connections(hubs),
            "events": self.log.newest_first(),
        }
        shown = []
        for page in pages:
            if page is None:
                shown.append(shared | {"topics": table.all()})
            else:
                topics, matched = table.page(page)
                shown.append(shared | {"topics": topics, "topics_matched": matched})
        return shown

    def history(self) -> dict[str, list[float]]:
        """Return each total of the last five minutes, one a second, oldest first.

        And for each category its messages per second, as `upstream.linear`.
        """
        return {name: list(values) for name, values in list(self._history.items())}

    def live_readers(self, now: float) -> dict[TopicKey, int]:
        """Return how many clients read each topic, over the web processes in which it is live.

        Without the rest of the overview: with 5,000 topics that takes ten times as long.
        """
        readers: Counter[TopicKey] = Counter()
        for hub in self._alive(self._hubs, now):
            for row in hub.rows.topics:
                if row.state == "live":
                    readers[row.category, row.topic] += row.subscribers
        return readers

    def carries(self, category: str, topic: str) -> bool:
        """Whether any web process has a topic."""
        return any((category, topic) in hub.topics for hub in list(self._hubs.values()))

    def find_client(self, process: str, client: str) -> tuple[str, str | None] | None:
        """Return the name of a listed client's process and its address; None if there is none."""
        hub = self._hubs.get(process)
        for row in [] if hub is None else hub.rows.connections:
            if hub is not None and row.client == client:
                return hub.report["name"], row.address
        return None

    def _totals(self, now: float) -> dict[str, float | None]:
        hubs, workers = self._alive(self._hubs, now), self._alive(self._workers, now)
        leaders = leaders_of(workers)
        delays = [d for hub in hubs if (d := hub.report["redis_delay_ms"]) is not None]
        # Distinct topics over all: what the workers receive, or what one process has by itself.
        wanted = sum(part["wanted"] for _, part, _ in leaders.values())
        counts = [hub.report["topics"] for hub in hubs]
        return {
            "clients": sum(hub.report["clients"] for hub in hubs),
            "subscriptions": sum(hub.report["subscriptions"] for hub in hubs),
            "topics": max([wanted, *counts]),
            "messages_per_second": round(sum(rate for _, _, rate in leaders.values()), 1),
            "deliveries_per_second": round(sum(_total_rate(hub, "deliveries") for hub in hubs), 1),
            "bytes_per_second": round(sum(_total_rate(hub, "bytes") for hub in hubs)),
            "lagging": sum(hub.report["lagging"] for hub in hubs),
            "unsent": sum(hub.report["unsent"] for hub in hubs),
            "redis_delay_ms": max(delays, default=None),
        }

    @staticmethod
    def _alive(reports: dict[str, LastReport[R]], now: float) -> list[LastReport[R]]:
        return [
            last for last in list(reports.values()) if now - last.received <= timing.REPORT_LEASE
        ]


class _Roll:
    """Which processes of one kind fell silent and have not been replaced.

    A process that comes takes the place of one that is missing. So does one that came after
    the last report of a process whose silence is noticed later.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._arrivals: deque[float] = deque(maxlen=MOST_MISSING)  # that took no place yet
        # process -> its name, and when it reported last
        self._silent: dict[str, tuple[str, float]] = {}  # until it is known whether it is missing
        self._missing: dict[str, tuple[str, float]] = {}

    def came(self, process: str, now: float) -> None:
        """Take a process that has not been known until now."""
        if process in self._silent:
            del self._silent[process]
        elif process in self._missing:
            del self._missing[process]
        elif self._missing:
            del self._missing[next(iter(self._missing))]
        else:
            self._arrivals.append(now)

    def fell_silent(self, process: str, name: str, heard: float) -> None:
        """Take a process that has not reported since `heard`."""
        self._silent[process] = (name, heard)

    def judge(self) -> None:
        """Call missing what fell silent and has no successor; call it while reports arrive."""
        for process, (name, heard) in self._silent.items():
            while self._arrivals and self._arrivals[0] <= heard:
                self._arrivals.popleft()
            if self._arrivals:
                self._arrivals.popleft()
            else:
                self._missing[process] = (name, heard)
        self._silent.clear()
        while len(self._missing) > MOST_MISSING:
            del self._missing[next(iter(self._missing))]

    def truncate(self, now: float) -> list[dict[str, Any]]:
        """Return who is missing, with `since` in Unix ms."""
        wall = wall_ms()
        return [
            {"kind": self._kind, "name": name, "since": wall - round((now - heard) * 1000)}
            for name, heard in list(self._missing.values())
        ]


def _expire(reports: dict[str, LastReport[R]], roll: _Roll, now: float) -> list[str]:
    """Forget those whose lease ran out; return their names."""
    gone = [p for p, last in reports.items() if now - last.received > timing.REPORT_LEASE]
    names = []
    for process in gone:
        last = reports.pop(process)
        names.append(last.report["name"])
        roll.fell_silent(process, names[-1], last.received)
    return names


def _total_rate(hub: LastReport[Report], name: Literal["deliveries", "bytes"]) -> float:
    before = None if hub.before is None else hub.before.report["totals"][name]
    return hub.rate(hub.report["totals"][name], before)


def _upstream(
    category: Category,
    at: Known,
    leader: Leader | None,
    workers: Iterable[LastReport[WorkerReport]],
) -> dict[str, Any]:
    """Return how a category is: by the newest word of its worker, in detail by its report."""
    workers = list(workers)
    is_alive = any(worker.report["name"] == at.worker for worker in workers)
    shown: dict[str, Any] = {
        "state": at.state.value,
        "since": at.since,
        "epoch": at.epoch,
        "worker": at.worker if is_alive else "",  # a leader that was killed leads no more
        "standbys": [
            worker.report["name"]
            for worker in workers
            if (part := worker.report["categories"].get(category.value)) is not None
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


def _worker(worker: LastReport[WorkerReport], leaders: Mapping[str, Leader]) -> dict[str, Any]:
    report = worker.report
    parts = report["categories"].items()
    return {
        "process": report["process"],
        "name": report["name"],
        "leads": [category for category, (leader, _, _) in leaders.items() if leader is worker],
        "stands_by": [category for category, part in parts if part["role"] == "standby"],
    }


def _connections(hubs: Iterable[LastReport[Report]]) -> list[dict[str, Any]]:
    """Return the clients with the most unsent bytes, then those that have been here longest."""
    rows: list[tuple[str, ConnectionRow]] = [
        (hub.report["process"], row) for hub in hubs for row in hub.rows.connections
    ]
    rows.sort(key=lambda row: (-row[1].unsent, row[1].since))
    return [
        {"process": process, **msgspec.structs.asdict(row)}
        for process, row in rows[:CONNECTIONS_TOLD]
    ]
