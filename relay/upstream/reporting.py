"""What a worker tells of itself, and what it hears of the other workers.

For the live picture it reports once a second. Workers also tell each other at once how many
topics they carry, so that `RELAY_MAX_TOPICS` bounds what all of them subscribe together.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping
from typing import Any

from channels.layers import get_channel_layer

from relay.bybit.topics import Category
from relay.layers.inbox import Intake, channel_in
from relay.seam import timing
from relay.seam.envelopes import UnknownEnvelope, UpstreamState, stamped
from relay.telemetry.counters import counters
from relay.telemetry.events import log
from relay.telemetry.reports import (
    WORKERS_GROUP,
    CategoryReport,
    StreamRow,
    WorkerReport,
    pack,
)
from relay.upstream.supply import CategoryUpstream

REST = 0.02  # seconds between two words on how many topics are carried


class Reporting:
    """The reports of one worker, and what the others carry."""

    def __init__(
        self,
        name: str,
        categories: Iterable[Category],
        supplies: Mapping[Category, CategoryUpstream],
    ) -> None:
        """Prepare; `listen` and `tell` are to be run.

        Args:
            categories: Those the worker competes for.
            supplies: Those it leads now.
        """
        self._name = name
        self._categories = tuple(categories)
        self._supplies = supplies
        self._layer: Any = get_channel_layer()
        self._others: dict[str, tuple[float, dict[str, list[int]]]] = {}
        self._told = 0  # the last event that was told
        self._carried: dict[str, list[int]] | None = None  # as the others were told last
        self._has_news = asyncio.Event()  # the number of topics may change

    def topics_elsewhere(self, now: float) -> int:
        """Return how many topics other workers carry, of categories that this one does not lead.

        A category counts as its newest leader reports it: a worker that died is soon replaced by
        another, and its own report is ignored once it is older than `REPORT_LEASE`.
        """
        newest: dict[str, list[int]] = {}
        for heard, carried in self._others.values():
            if now - heard > timing.REPORT_LEASE:
                continue
            for category, (epoch, topics) in carried.items():
                newest[category] = max(newest.get(category, [0, 0]), [epoch, topics])
        return sum(topics for c, (_, topics) in newest.items() if c not in self._supplies)

    def announce(self) -> None:
        """Report to the other workers now if the number of topics carried has changed."""
        self._has_news.set()

    def _forget_silent(self, now: float) -> None:
        """Forget the workers that died: a standby counts no topics, and would remember them all."""
        for process, (heard, _) in list(self._others.items()):
            if now - heard > timing.REPORT_LEASE:
                del self._others[process]

    async def listen(self) -> None:
        """Hear what other workers carry; ask for it at the start."""
        intake = Intake("upstream: hear", self._take)
        async with channel_in(self._layer, WORKERS_GROUP) as channel:
            await self._send({"type": "hello", "process": self._process})
            while True:
                intake(await self._layer.receive(channel))

    def _take(self, message: Any) -> None:
        process = message["process"]
        if process == self._process:
            return
        match message["type"]:
            case "carries":
                carried = {c: [int(epoch), int(n)] for c, (epoch, n) in message["topics"].items()}
                self._others[process] = (time.monotonic(), carried)
            case "left":
                self._others.pop(process, None)
            case "hello":
                self._told, self._carried = 0, None
                self._has_news.set()
            case "worker_report":  # for the web processes
                pass
            case _:
                raise UnknownEnvelope

    @property
    def _process(self) -> str:
        return f"worker-{log.origin}"

    async def tell(self) -> None:
        """Tell how many topics are carried when that changes, and everything once a second."""
        next_report = time.monotonic()
        while True:
            await asyncio.sleep(REST)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, next_report - time.monotonic())):
                    await self._has_news.wait()
            self._has_news.clear()
            carried = {
                category.value: [supply.epoch, len(supply.streams)]
                for category, supply in self._supplies.items()
            }
            now = time.monotonic()
            is_due = now >= next_report
            if is_due or carried != self._carried:
                self._carried = carried
                await self._send({"type": "carries", "process": self._process, "topics": carried})
            if is_due:
                next_report = now + timing.REPORT_INTERVAL
                self._forget_silent(now)
                told = self._told
                report = await self._make(now)
                await self._send(dict(report))
                if self._told == told:  # else somebody new wants to be told everything
                    self._told = max((e["number"] for e in report["events"]), default=told)

    async def goodbye(self) -> None:
        """Say that this worker stops."""
        await self._send({"type": "left", "process": self._process})

    async def _send(self, envelope: dict[str, Any]) -> None:
        await self._layer.group_send(WORKERS_GROUP, stamped(envelope))

    async def _make(self, now: float) -> WorkerReport:
        events = log.since(self._told)
        categories: dict[str, CategoryReport] = {}
        rows: list[StreamRow] = []
        for category in self._categories:
            supply = self._supplies.get(category)
            categories[category.value] = standby(category) if supply is None else supply.report()
            if supply is not None:
                rows += supply.rows()
        packed = await asyncio.to_thread(pack, rows)
        return {
            "type": "worker_report",
            "process": self._process,
            "name": self._name,
            "at": now,
            "categories": categories,
            "packed": packed,
            "origin": log.origin,
            "events": events,
        }


def standby(category: Category) -> CategoryReport:
    """Return what a worker knows of a category that another one leads."""
    return {
        "role": "standby",
        "epoch": 0,
        "state": UpstreamState.IDLE.value,
        "since": 0,
        "topics": 0,
        "wanted": 0,
        "confirmed": 0,
        "messages": counters.upstream[category].messages,
        "connections": [],
    }
