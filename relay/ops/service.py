"""What this process does for operators: it reports, keeps the overview, and takes orders.

Everything here happens once a second or because an operator asked, on a channel of its own, so that
it is never in the way of market data.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Collection, Iterable
from typing import Any, Protocol, assert_never

import msgspec
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django import db
from django.db import transaction
from django.db.models.signals import post_delete, post_save

from relay import conf
from relay.downstream.close_codes import CloseCode
from relay.downstream.runner import HubRunner
from relay.downstream.session import ClientSession
from relay.downstream.wire import Batch
from relay.layers import post
from relay.layers.inbox import Inbox, channel_in
from relay.lib import timing
from relay.lib.clock import wall_ms
from relay.lib.tasks import cancel_all, run_forever
from relay.models import PinnedTopic
from relay.ops import pins
from relay.ops.overview import Known, Overview
from relay.ops.rows import connection_rows, topic_rows
from relay.ops.topic_table import Page
from relay.ops.worker_watch import WorkerWatch
from relay.seam import envelopes
from relay.seam.envelopes import (
    REPORTS_GROUP,
    WORKERS_GROUP,
    Carries,
    Disconnect,
    Envelope,
    Hello,
    Left,
    PinsChanged,
    ToWeb,
)
from relay.telemetry.reports import (
    HubRows,
    Report,
    WorkerReport,
    decode,
    encode,
    pack,
)
from relay.telemetry.telemetry import Telemetry

logger = logging.getLogger(__name__)

MAX_WATCHERS = 100  # live pages open at once, in one process
PINS_READ = 30.0  # seconds between looks at the pins, in case the message about a change is lost


class Watcher(Protocol):
    """A live page that looks at the overview. Nothing here waits or raises."""

    @property
    def page(self) -> Page:
        """Which topics it looks at."""

    @property
    def has_history(self) -> bool:
        """Whether it was sent what the totals were before."""

    @property
    def is_ready(self) -> bool:
        """Whether it has read all that it was sent."""

    def look_after_backlog(self, now: float) -> None:
        """Close one that has read nothing for too long."""

    def push(self, batch: Batch, *, with_history: bool) -> None:
        """Send the overview."""

    def close(self, code: CloseCode, message: str = "") -> None:
        """Close its connection; without a message the code's own words say why."""


class LiveService:
    """Reports of this process, the overview, and what operators ask for.

    Attributes:
        overview: What all processes report.
        watchers: Those that are sent the overview each second.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        runner: HubRunner,
        clients: Collection[ClientSession],
        backlogged: Collection[ClientSession],
    ) -> None:
        """Prepare to `start`, in the event loop of the process.

        Args:
            telemetry: What this process records.
            clients: All of this process, in the order in which they came.
            backlogged: Those whose socket has not accepted everything.
        """
        self.overview = Overview()
        self.watchers: set[Watcher] = set()
        self._telemetry = telemetry
        self._runner = runner
        self._clients = clients
        self._backlogged = backlogged
        self._loop = asyncio.get_running_loop()
        self._layer: Any = get_channel_layer()
        self._started_at = wall_ms()
        self._told = 0  # the last event that the others were told
        self._due: set[Watcher] = set()  # to be sent the overview now
        self._has_due = asyncio.Event()
        self._pins_changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start; `stop` ends it."""
        self._telemetry.events.record("process", "a web process started")
        for signal in (post_save, post_delete):
            signal.connect(self._pin_saved, sender=PinnedTopic)
        steps = {
            "listen": self._listen,
            "report": self._report,
            "beat": self._beat,
            "push": self._push,
            "pins": self._keep_pins,
        }
        self._tasks = [
            self._loop.create_task(run_forever(step, f"live: {name}"), name=f"live {name}")
            for name, step in steps.items()
        ]

    async def stop(self) -> None:
        """End the tasks, and take this process out of the sums of the others."""
        for signal in (post_save, post_delete):
            signal.disconnect(self._pin_saved, sender=PinnedTopic)
        await cancel_all(self._tasks)
        for watcher in list(self.watchers):
            watcher.close(CloseCode.SHUTTING_DOWN)
        try:
            async with asyncio.timeout(timing.FAREWELL_LIMIT):
                await post.group_send(self._layer, REPORTS_GROUP, Left(self._runner.process))
        except Exception:  # the lease will run out
            logger.warning("could not notify the other processes on shutdown", exc_info=True)

    def show(self, page: Page | None = None) -> dict[str, Any]:
        """Return the overview. Safe from any thread."""
        [shown] = self._show_each([page])
        return shown

    def _show_each(self, pages: Iterable[Page | None]) -> list[dict[str, Any]]:
        known = {
            category: Known(at.state, at.since, at.epoch, at.worker)
            for category, at in self._runner.hub.categories.items()
        }
        now = time.monotonic()
        since = self._runner.unreachable_since
        cut_off = None if since is None else wall_ms() - round((now - since) * 1000)
        return self.overview.show_each(known, pages, now, layer_down_since=cut_off)

    # ---- what others say ----

    async def _listen(self) -> None:
        inbox = Inbox("live: listen", envelopes.decode_to_web, self._take)
        async with channel_in(self._layer, REPORTS_GROUP, WORKERS_GROUP) as channel:
            for group in (REPORTS_GROUP, WORKERS_GROUP):
                await post.group_send(self._layer, group, Hello(self._runner.process))
            while True:
                inbox(await self._layer.receive(channel))

    def _take(self, envelope: ToWeb) -> None:
        is_own = envelope.process == self._runner.process
        now = time.monotonic()
        match envelope:
            case envelopes.Report():
                if not is_own:
                    self.overview.take(decode(envelope.body, Report), now)
            case envelopes.WorkerReport():
                self.overview.take_worker(decode(envelope.body, WorkerReport), now)
            case Left():
                self.overview.forget(envelope.process)
            case Hello():
                if not is_own:
                    self._told = 0
            case PinsChanged():
                self._pins_changed.set()
            case Disconnect():
                if is_own:
                    self._disconnect(envelope.client)
            case Carries():  # for the workers
                pass
            case _:
                assert_never(envelope)

    def _disconnect(self, number: str) -> None:
        for client in self._clients:
            if str(client.number) == number:
                self._telemetry.events.record(
                    "disconnect", f"an operator disconnected {client.address or 'a client'}"
                )
                client.disconnect()
                return

    # ---- what this process says ----

    async def _report(self) -> None:
        """Report each second; this process knows its own report without the channel layer."""
        while True:
            await asyncio.sleep(timing.REPORT_INTERVAL)
            now = time.monotonic()
            told = self._told
            report = await self._make(now)
            self.overview.take(report, now)
            try:
                envelope = envelopes.Report(self._runner.process, encode(report))
                await post.group_send(self._layer, REPORTS_GROUP, envelope)
            except Exception:  # noticed here alone by a process that wants nothing
                self._runner.note_layer("report", is_failing=True)
                raise
            self._runner.note_layer("report", is_failing=False)
            if self._told == told:  # else a new process wants everything
                self._told = max((event["number"] for event in report["events"]), default=told)

    async def _beat(self) -> None:
        """Once a second: keep the totals, and forget who is silent."""
        watch = WorkerWatch(time.monotonic())
        has_worker_inside = not conf.current().redis_urls
        cut_off = -math.inf  # when this process last could not reach the channel layer
        while True:
            await asyncio.sleep(timing.REPORT_INTERVAL)
            now = time.monotonic()
            if self._runner.unreachable_since is not None:
                cut_off = now
            could_hear = now - cut_off > timing.REPORT_LEASE
            silent = self.overview.beat(now, could_hear=could_hear)
            is_first = self._runner.process == min(self.overview.processes(), default="")
            # A process whose reports could not arrive is not silent.
            for name in silent if is_first and could_hear else ():
                self._telemetry.events.record("silent", f"no report any more of {name}")
            if could_hear and not has_worker_inside:
                self._look_after_workers(watch, now)
            if self.watchers:
                self._due |= self.watchers
                self._has_due.set()

    def _look_after_workers(self, watch: WorkerWatch, now: float) -> None:
        """Log when no upstream worker serves this process, and what to do."""
        workers, led = self.overview.workers(now)
        wanted = {audience.topic.category for audience in self._runner.hub.audiences.values()}
        for is_fault, words in watch.look(workers, led, wanted, now):
            logger.log(logging.ERROR if is_fault else logging.INFO, "%s", words)

    async def _make(self, now: float) -> Report:
        topics = topic_rows(self._runner.hub, now)
        delay: float | None = getattr(self._layer, "delay", None)  # only the one over Redis has it
        backlogged = list(self._backlogged)
        unsent = {client: client.outbound.unsent() for client in backlogged}
        rows = HubRows(topics, connection_rows(self._clients, unsent))
        packed = await asyncio.to_thread(pack, rows)  # most of the time is zlib's, without the GIL
        return {
            "process": self._runner.process,
            "name": self._runner.name,
            "started_at": self._started_at,
            "at": now,
            "clients": len(self._clients),
            "subscriptions": sum(row.subscribers for row in topics),
            "topics": len(topics),
            "lagging": sum(client.is_lagging for client in backlogged),
            "unsent": sum(unsent.values()),
            "totals": {
                "messages": self._telemetry.counters.messages_in,
                "deliveries": self._telemetry.counters.deliveries,
                "bytes": self._telemetry.counters.bytes_out,
            },
            "redis_delay_ms": None if delay is None else round(delay * 1000, 1),
            "packed": packed,
            "origin": self._telemetry.events.origin,
            "events": self._telemetry.events.since(self._told),
        }

    # ---- who looks ----

    def wish(self, watcher: Watcher) -> None:
        """Have the overview sent to a watcher now."""
        self._due.add(watcher)
        self._has_due.set()

    async def _push(self) -> None:
        """Send the overview to the watchers that are due, encoded once for each page."""
        while True:
            await self._has_due.wait()
            self._has_due.clear()
            await self._push_due()  # a call of its own: its variables hold no page on

    async def _push_due(self) -> None:
        due, self._due = self._due & self.watchers, set()
        now = time.monotonic()
        for watcher in due:
            watcher.look_after_backlog(now)
        asked = {w: (w.page, not w.has_history) for w in due if w.is_ready}
        if asked:
            batches = await asyncio.to_thread(self._draw, set(asked.values()))
            for watcher, wish in asked.items():
                if watcher in self.watchers:
                    watcher.push(batches[wish], with_history=wish[1])

    def _draw(self, wishes: Iterable[tuple[Page, bool]]) -> dict[tuple[Page, bool], Batch]:
        """Return the encoded overview for each page, with or without the history."""
        wished = list(wishes)
        overviews = self._show_each([page for page, _ in wished])
        drawn = {}
        for (page, with_history), shown in zip(wished, overviews, strict=True):
            history = {"history": self.overview.history()} if with_history else {}
            drawn[page, with_history] = Batch([msgspec.json.encode(shown | history)])
        return drawn

    # ---- what operators ask for ----

    async def _keep_pins(self) -> None:
        """Keep what is pinned in the hub: at the start, when it changes and at intervals."""
        is_told = False
        while True:
            self._pins_changed.clear()
            try:
                pinned = await database_sync_to_async(pins.read)()
            except db.Error as fault:
                if not is_told:
                    logger.warning("cannot read the pinned topics: %s", fault)
                is_told = True
            else:
                is_told = False
                self._runner.pin(pinned, time.monotonic())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PINS_READ):
                    await self._pins_changed.wait()

    def _pin_saved(self, **kwargs: Any) -> None:
        """Have every web process read the pins again; called in the thread that changed one."""
        transaction.on_commit(self._tell_of_pins)

    def _tell_of_pins(self) -> None:
        try:
            self.order(REPORTS_GROUP, PinsChanged(self._runner.process))
        except Exception as fault:  # whatever the layer raises; the processes look by themselves
            logger.warning("could not notify the other processes of changed pins: %s", fault)

    def order(self, group: str, envelope: Envelope) -> None:
        """Send an order to the processes that can carry it out. Safe from any other thread.

        Raises:
            Exception: the channel layer is away.
        """
        sending = post.group_send(self._layer, group, envelope)
        asyncio.run_coroutine_threadsafe(sending, self._loop).result(timing.ORDER_LIMIT)
