"""The last reports of a process, from which its rows and its rates are read."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Generic, TypeVar

from relay.reports import (
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


class Kept(Generic[R]):
    """The last report of a process, and the one before it for the rates."""

    def __init__(self, report: R, received: float, before: Kept[R] | None) -> None:
        self.report: R = report
        self.received = received
        self.before: Kept[R] | None = before
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
    def topics(self) -> dict[TopicKey, TopicRow]:
        return {(row.category, row.topic): row for row in self.rows.topics}

    @cached_property
    def streams(self) -> dict[TopicKey, StreamRow]:
        rows = unpack(self.report["packed"], list[StreamRow])
        return {(row.category, row.topic): row for row in rows}


Leader = tuple[Kept[WorkerReport], CategoryReport, float]  # with its messages per second


def leaders_of(workers: Iterable[Kept[WorkerReport]]) -> dict[str, Leader]:
    """Return who leads each category: of two who say so, the one with the higher epoch."""
    found: dict[str, Leader] = {}
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
