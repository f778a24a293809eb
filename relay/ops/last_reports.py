"""The last report of a process, from which its rows and its rates are read."""

from __future__ import annotations

import copy
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


class LastReport(Generic[R]):
    """The last report of a process, whose rows are unpacked when an operator looks at them.

    Nothing else of it changes: other threads may read it while the next one arrives.

    Attributes:
        received: When, in seconds of the monotonic clock.
        before: The report before this one, which knows none before it; None for the first.
    """

    def __init__(self, report: R, received: float, previous: LastReport[R] | None = None) -> None:
        self.report: R = report
        self.received = received
        self.before: LastReport[R] | None = None
        if previous is not None:
            self.before = copy.copy(previous)  # with the rows that are unpacked already
            self.before.before = None

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

    def rate(self, count: float, before: float | None) -> float:
        """Return what was counted per second since the report before; 0 without one."""
        if before is None or self.before is None:
            return 0.0
        elapsed = self.report["at"] - self.before.report["at"]
        return max(0.0, count - before) / elapsed if elapsed > 0 else 0.0


Leader = tuple[LastReport[WorkerReport], CategoryReport, float]  # with its messages per second


def leaders_of(workers: Iterable[LastReport[WorkerReport]]) -> dict[str, Leader]:
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
