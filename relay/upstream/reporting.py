"""What a worker reports of itself, and what the other workers report to it.

For the overview it reports once a second. Workers also tell each other at once how many
topics they carry, so that `RELAY_MAX_TOPICS` bounds what all of them subscribe together.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping
from typing import Any, assert_never

from channels.layers import get_channel_layer

from relay.bybit.topics import Category
from relay.layers import post
from relay.layers.inbox import Inbox, channel_in
from relay.lib import timing
from relay.seam import envelopes
from relay.seam.envelopes import WORKERS_GROUP, Carries, Hello, Left, ToWorker, UpstreamState
from relay.telemetry.reports import (
    CategoryReport,
    StreamRow,
    WorkerReport,
    encode,
    pack,
)
from relay.telemetry.telemetry import Telemetry
from relay.upstream.category import CategoryUpstream

REST = 0.02  # seconds between two words on how many topics are carried


class Reporting:
    """The reports of one worker, and what the others carry."""

    def __init__(
        self,
        telemetry: Telemetry,
        name: str,
        categories: Iterable[Category],
        upstreams: Mapping[Category, CategoryUpstream],
    ) -> None:
        """Prepare; `listen` and `tell` are to be run.

        Args:
            telemetry: What this process records.
            name: Of the worker, for operators.
            categories: Those the worker competes for.
            upstreams: Those it leads now.
        """
        self._telemetry = telemetry
        self._name = name
        self._categories = tuple(categories)
        self._upstreams = upstreams
        self._layer: Any = get_channel_layer()
        self._others: dict[str, tuple[float, dict[str, tuple[int, int]]]] = {}
        self._told = 0  # the last event that was told
        self._carried: dict[str, tuple[int, int]] | None = None  # as the others were told last
        self._has_news = asyncio.Event()  # the number of topics may change

    def topics_elsewhere(self, now: float) -> int:
        """Return how many topics other workers carry, of categories that this one does not lead.

        A category counts as its newest leader reports it: a worker that died is soon replaced by
        another, and its own report is ignored once it is older than `REPORT_LEASE`.
        """
        newest: dict[str, tuple[int, int]] = {}
        for heard, carried in self._others.values():
            if now - heard > timing.REPORT_LEASE:
                continue
            for category, (epoch, topics) in carried.items():
                newest[category] = max(newest.get(category, (0, 0)), (epoch, topics))
        return sum(topics for c, (_, topics) in newest.items() if c not in self._upstreams)

    def announce(self) -> None:
        """Report to the other workers now if the number of topics carried has changed."""
        self._has_news.set()

    def _forget_silent(self, now: float) -> None:
        """Forget the workers that died: a standby counts no topics, and would remember them all."""
        for process, (heard, _) in list(self._others.items()):
            if now - heard > timing.REPORT_LEASE:
                del self._others[process]

    async def listen(self) -> None:
        """Receive what other workers carry; ask for it at the start."""
        inbox = Inbox("upstream: hear", envelopes.decode_to_worker, self._take)
        async with channel_in(self._layer, WORKERS_GROUP) as channel:
            await self._send(Hello(self._process))
            while True:
                inbox(await self._layer.receive(channel))

    def _take(self, envelope: ToWorker) -> None:
        process = envelope.process
        if process == self._process:
            return
        match envelope:
            case Carries():
                self._others[process] = (time.monotonic(), envelope.topics)
            case Left():
                self._others.pop(process, None)
            case Hello():
                self._told, self._carried = 0, None
                self._has_news.set()
            case envelopes.WorkerReport():  # for the web processes
                pass
            case _:
                assert_never(envelope)

    @property
    def _process(self) -> str:
        return f"worker-{self._telemetry.events.origin}"

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
                category.value: (upstream.epoch, len(upstream.streams))
                for category, upstream in self._upstreams.items()
            }
            now = time.monotonic()
            is_due = now >= next_report
            if is_due or carried != self._carried:
                self._carried = carried
                await self._send(Carries(self._process, carried))
            if is_due:
                next_report = now + timing.REPORT_INTERVAL
                self._forget_silent(now)
                told = self._told
                report = await self._make(now)
                await self._send(envelopes.WorkerReport(self._process, encode(report)))
                if self._told == told:  # else a new process wants everything
                    self._told = max((e["number"] for e in report["events"]), default=told)

    async def goodbye(self) -> None:
        """Say that this worker stops."""
        await self._send(Left(self._process))

    async def _send(self, envelope: ToWorker) -> None:
        await post.group_send(self._layer, WORKERS_GROUP, envelope)

    async def _make(self, now: float) -> WorkerReport:
        events = self._telemetry.events.since(self._told)
        categories: dict[str, CategoryReport] = {}
        rows: list[StreamRow] = []
        for category in self._categories:
            upstream = self._upstreams.get(category)
            if upstream is None:
                counted = self._telemetry.counters.upstream[category]
                categories[category.value] = standby(counted.messages)
            else:
                categories[category.value] = upstream.report()
                rows += upstream.rows()
        packed = await asyncio.to_thread(pack, rows)
        return {
            "process": self._process,
            "name": self._name,
            "at": now,
            "categories": categories,
            "packed": packed,
            "origin": self._telemetry.events.origin,
            "events": events,
        }


def standby(messages: int) -> CategoryReport:
    """Return what a worker knows of a category that another one leads.

    Args:
        messages: Those that it has counted when it led.
    """
    return {
        "role": "standby",
        "epoch": 0,
        "state": UpstreamState.IDLE.value,
        "since": 0,
        "topics": 0,
        "wanted": 0,
        "confirmed": 0,
        "messages": messages,
        "connections": [],
    }
