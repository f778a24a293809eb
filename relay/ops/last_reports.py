"""The last reports of a process, from which its rows and its rates are read."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Generic, TypeVar

from relay.telemetry.reports import (
    CategoryReport,
    HubRows,
    Report,
    StreamRow,
    TopicRow,
    WorkerReport,
    unpack,
)

TopicKey = tuple[str, str]  # category, topic
R = TypeVar("R", Report, WorkerReport)


class LazyReport(Generic[R]):
    """One report, whose rows are unpacked when somebody looks at them."""

    def __init__(self, report: R) -> None:
        self.report: R = report

    @cached_property
    def rows(self) -> HubRows:
        """What a web process packed."""
        return unpack(self.report["packed"], HubRows)

    @cached_property
    def topics(self) -> dict[TopicKey, TopicRow]:
        """The topics of a web process."""
        return {(row.category, row.topic): row for row in self.rows.topics}

    @cached_property
    def streams(self) -> dict[TopicKey, StreamRow]:
        """The topics of a worker."""
        rows = unpack(self.report["packed"], list[StreamRow])
        return {(row.category, row.topic): row for row in rows}


class LastReports(Generic[R]):
    """What a process said last, and before that. Never changed: threads may hold on to it."""

    def __init__(self, report: R, received: float, previous: LastReports[R] | None) -> None:
        """Keep a report; `previous` has those of the process until now."""
        self.last: LazyReport[R] = LazyReport(report)
        self.before: LazyReport[R] | None = None if previous is None else previous.last
        self.received = received

    @property
    def report(self) -> R:
        """The last report."""
        return self.last.report

    def rate(self, count: float, before: float | None) -> float:
        """Return what was counted per second between the two; nothing if it is new."""
        if before is None or self.before is None:
            return 0.0
        elapsed = self.report["at"] - self.before.report["at"]
        return max(0.0, count - before) / elapsed if elapsed > 0 else 0.0


Leader = tuple[LastReports[WorkerReport], CategoryReport, float]  # with its messages per second


def leaders_of(workers: Iterable[LastReports[WorkerReport]]) -> dict[str, Leader]:
    """Return who leads each category: of two who say so, the one with the higher epoch."""
    found: dict[str, Leader] = {}
    for worker in workers:
        for category, part in worker.report["categories"].items():
            if part["role"] != "leader":
                continue
            if category in found and found[category][1]["epoch"] >= part["epoch"]:
                continue
            before = worker.before and worker.before.report["categories"].get(category)
            rate = worker.rate(part["messages"], before["messages"] if before else None)
            found[category] = (worker, part, rate)
    return found
