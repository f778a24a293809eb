"""Carries envelopes between the channel layer and the hub, and wakes it in time.

The hub is a core: whatever has an input for it comes here, and after the input the runner does what
the hub wants done, its effects.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from channels.layers import get_channel_layer

from relay.bybit.topics import Category, Topic
from relay.downstream.audience import Reader
from relay.downstream.hub import Hub
from relay.layers import post
from relay.layers.groups import on_layer
from relay.layers.inbox import channel_in
from relay.lib import timing
from relay.lib.clock import wall_ms
from relay.lib.tasks import cancel_all, run_forever
from relay.seam.envelopes import UPSTREAM_GROUP, Demand, Joined, demand_group
from relay.seam.receiver import Position
from relay.telemetry.telemetry import Telemetry

logger = logging.getLogger(__name__)

ENVELOPES_PER_TURN = 200  # received before the event loop may do something else
LONGEST_PAUSE = 0.02  # seconds between flushes under load
PAUSE_SHARE = 0.75  # of the last flush's duration: leaves the loop nearly half of the time
BUSY_WITHIN = 0.001  # seconds: a flush requested so soon after the last means a saturated loop
PRESSURE_STEP = 0.25  # so that a chance pair of messages is not kept waiting


class HubRunner:
    """The hub of this process and the tasks that serve it.

    Attributes:
        hub: To be looked at; its inputs are the runner's methods of the same names.
        process: A name that no other process has, for leases.
        name: Host and process id, for operators.
        unreachable_since: When the channel layer was last reached, if it cannot be now.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        """Make a hub that `start` serves; `telemetry` is what this process records."""
        self.process = uuid.uuid4().hex
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.hub = Hub(telemetry, wall_ms=wall_ms)
        self._written = telemetry.counters.written
        self._loop = asyncio.get_running_loop()
        self._layer = get_channel_layer()
        self._channel = ""
        self._joined: dict[str, None] = {}  # groups of topics
        self._wanted = asyncio.Event()  # there is demand to tell
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0
        self._flush_handle: asyncio.Handle | None = None
        self._flushed_at = 0.0
        self._flush_took = 0.0  # seconds
        self._pressure = 0.0  # from 0, rest between flushes, to 1, none for a while
        self._tasks: list[asyncio.Task[None]] = []
        self.unreachable_since: float | None = None
        self._looked_at = self._read_until = time.monotonic()
        self._is_reading = False  # `_listen` has received something and may find more
        self._failing: dict[str, float] = {}  # step -> since when it cannot reach the layer

    def start(self) -> None:
        """Start serving the hub; `stop` ends it."""
        steps = {"listen": self._listen, "tell": self._tell, "watch": self._watch}
        self._tasks = [
            self._loop.create_task(run_forever(step, f"hub: {name}"), name=f"hub {name}")
            for name, step in steps.items()
        ]

    async def stop(self) -> None:
        """End the tasks, and tell the workers that nothing is wanted here any more."""
        await cancel_all(self._tasks)
        for handle in (self._timer, self._flush_handle):
            if handle is not None:
                handle.cancel()
        try:
            async with asyncio.timeout(timing.FAREWELL_LIMIT):
                for category in Category:
                    if self.hub.interest(category):
                        await self._send(category, {}, whole=True)
        except Exception:  # the lease will run out
            logger.warning("could not withdraw demand on shutdown", exc_info=True)

    # ---- inputs of clients and operators ----

    def subscribe(
        self, reader: Reader, topics: Iterable[Topic], request_id: object, now: float
    ) -> None:
        """Have a reader follow topics; see `Hub.subscribe`.

        Raises:
            Refusal: As the hub says.
        """
        try:
            self.hub.subscribe(reader, topics, request_id, now)
        finally:  # a refusal may have cost another reader its topics
            self._carry_out()

    def unsubscribe(self, reader: Reader, topic: Topic, now: float) -> None:
        """Have a reader no longer follow a topic."""
        self.hub.unsubscribe(reader, topic, now)
        self._carry_out()

    def leave(self, reader: Reader, topics: Iterable[Topic]) -> None:
        """Forget a reader that is gone."""
        self.hub.leave(reader, topics)
        self._carry_out()

    def ask_turn(self, reader: Reader, at: float) -> None:
        """Call `Reader.on_turn` at a time, or in the next turn if that is past."""
        self.hub.ask_turn(reader, at)
        self._carry_out()

    def pin(self, topics: Iterable[Topic], now: float) -> None:
        """Keep these topics whether a client reads them or not, and no others."""
        self.hub.pin(topics, now)
        self._carry_out()

    # ---- the channel layer ----

    async def _listen(self) -> None:
        """Receive until cancelled. A `receive` with a timeout would unsubscribe: it has none."""
        async with channel_in(self._layer, UPSTREAM_GROUP) as channel:
            self._channel, self._joined = channel, {}
            self._wanted.set()
            received = 0
            try:
                while True:
                    self._is_reading = False
                    message: Any = await self._layer.receive(channel)
                    self._is_reading = True
                    self.hub.receive(message, time.monotonic())
                    self._carry_out()
                    received += 1
                    if received % ENVELOPES_PER_TURN == 0:
                        await asyncio.sleep(0)
            finally:
                self._channel, self._is_reading = "", False
                for group in list(self._joined):
                    with contextlib.suppress(Exception):  # the layer may be away
                        await self._layer.group_discard(on_layer(group), channel)

    async def _tell(self) -> None:
        """Join the groups of new topics, then tell the workers; repeat the whole at intervals."""
        next_renewal = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(max(0.0, next_renewal - time.monotonic())):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
            if not self._channel:
                continue
            try:
                await self._join()
                is_renewal = time.monotonic() >= next_renewal
                if is_renewal:
                    next_renewal = time.monotonic() + timing.DEMAND_RENEWAL
                for category in Category:
                    await self._tell_category(category, is_renewal=is_renewal)
            except Exception:
                self.note_layer("tell", is_failing=True)
                raise
            self.note_layer("tell", is_failing=False)

    def note_layer(self, step: str, *, is_failing: bool) -> None:
        """Remember whether a step reached the channel layer when it last tried."""
        if is_failing:
            self._failing.setdefault(step, time.monotonic())
        else:
            self._failing.pop(step, None)
        self.unreachable_since = min(self._failing.values(), default=None)
        self.hub.is_reachable = not self._failing

    async def _join(self) -> None:
        """Be a member of the groups of the hub's topics, and of no others."""
        channel, joined = self._channel, self._joined  # `_listen` may make another meanwhile
        for group in [group for group in joined if group not in self.hub.audiences]:
            del joined[group]
            await self._layer.group_discard(on_layer(group), channel)
        for group in [group for group in self.hub.audiences if group not in joined]:
            await self._layer.group_add(on_layer(group), channel)
            joined[group] = None
        unjoined = self.hub.unjoined()
        if mine := {group: number for group, number in unjoined.items() if group in joined}:
            await post.send(self._layer, channel, Joined(mine))

    async def _tell_category(self, category: Category, *, is_renewal: bool) -> None:
        asked, dropped = self.hub.take_demand(category)
        if is_renewal:
            whole = self.hub.interest(category)
            if whole or dropped:
                await self._send(category, whole, whole=True)
        elif asked or dropped:
            await self._send(category, asked, dropped)

    async def _send(
        self,
        category: Category,
        want: Mapping[str, Position | None],
        drop: Sequence[str] = (),
        *,
        whole: bool = False,
    ) -> None:
        epoch = self.hub.categories[category].epoch
        demand = Demand(
            self.process,
            dict(want),
            list(drop),
            epoch=epoch,
            whole=whole,
            behind=self._is_behind(),
        )
        await post.group_send(self._layer, demand_group(category), demand)

    async def _watch(self) -> None:
        """Look after silent workers and slow readers."""
        next_tick = 0.0
        while True:
            await asyncio.sleep(timing.SLOW_RETRY)
            now = self._look()
            if now >= next_tick:
                next_tick = now + 1
                self._tick(now)
            if self.hub.has_slow:
                self.hub.retry_slow()
                self._carry_out()

    def _look(self) -> float:
        """Return the time; what came while this process was stopped is read before it is judged."""
        now = time.monotonic()
        late = now - self._looked_at
        if late > timing.SUSPENDED_AFTER:
            self.hub.extend_leases(now)
        if not self._is_reading and late < timing.LATE:
            self._read_until = now
        self._looked_at = now
        return now

    def _is_behind(self) -> bool:
        """Whether messages may wait to be read, so that the hub's positions show no loss."""
        now = time.monotonic()
        return now - self._looked_at > timing.LATE or now - self._read_until > timing.LATE

    # ---- effects ----

    def _carry_out(self) -> None:
        """Do what the hub wants after an input."""
        if not self.hub.has_effects:
            return
        effects = self.hub.effects()
        if effects.has_demand:
            self._wanted.set()
        if effects.has_fresh and self._flush_handle is None:
            self._flush_soon()
        if effects.wake_at is not None:
            self._wake(effects.wake_at)

    def _flush_soon(self) -> None:
        """Have the hub flush at the end of this turn, or after a pause if it does nothing else.

        With rest between flushes there is no pause. When one follows another the pause grows
        towards the time that the last one took: the loop has time for everything else, messages
        share their writes, and writes grow instead of queues.
        """
        now = self._loop.time()
        is_busy = now - self._flushed_at < BUSY_WITHIN
        self._pressure = min(1.0, self._pressure + PRESSURE_STEP) if is_busy else 0.0
        pause = min(self._flush_took * PAUSE_SHARE * self._pressure, LONGEST_PAUSE)
        if self._flushed_at + pause <= now:
            self._flush_handle = self._loop.call_soon(self._flush)
        else:
            self._flush_handle = self._loop.call_at(self._flushed_at + pause, self._flush)

    def _flush(self) -> None:
        self._flush_handle = None
        started = self._loop.time()
        oldest, self.hub.oldest = self.hub.oldest, 0.0
        try:
            self.hub.flush()
        finally:  # the event loop logs what is raised here; the rest goes on
            if oldest:
                self._written.observe(time.time() - oldest)
            self._flushed_at = self._loop.time()
            self._flush_took = self._flushed_at - started
            self._carry_out()

    def _wake(self, at: float) -> None:
        """Have the hub tick at a time, or at the earlier one that is set already."""
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._tick(self._look())

    def _tick(self, now: float) -> None:
        try:
            self.hub.tick(now, self._read_until)
            while (reader := self.hub.take_turn(now)) is not None:
                reader.on_turn(now)
        finally:
            self._carry_out()
