"""The upstream worker: carries demand, frames and envelopes for the categories it leads.

It decides nothing: `CategoryUpstream` does, and `leadership` says who serves. It runs as a
process of its own (`run_upstream`), any number of times, or inside the web process where there
is no Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
import time
from collections.abc import Coroutine, Iterable
from typing import Any, assert_never

from channels.layers import get_channel_layer

from relay import conf
from relay.bybit.topics import Category
from relay.layers import post
from relay.layers.inbox import Inbox, channel_in
from relay.lib import timing
from relay.lib.clock import wall_ms
from relay.lib.tasks import cancel_all, run_forever
from relay.seam import envelopes
from relay.seam.envelopes import Demand, Resync, ToLeader, Upstream, UpstreamState
from relay.telemetry.telemetry import Telemetry
from relay.upstream import leadership
from relay.upstream.category import CategoryUpstream, ConnectionState, Effects
from relay.upstream.connection import Connection, ConnectPacing
from relay.upstream.connects import Connects
from relay.upstream.leadership import AloneLeadership, Leadership, LeaseLeadership
from relay.upstream.reporting import Reporting

logger = logging.getLogger(__name__)


class _Term:
    """One category for as long as this worker leads it, with the tasks that serve it."""

    def __init__(
        self, worker: UpstreamWorker, upstream: CategoryUpstream, leadership: Leadership
    ) -> None:
        settings = conf.current()
        self.upstream = upstream
        self._url = f"{settings.upstream_url}/{upstream.category}"
        self._ping_interval = settings.ping_interval
        self._worker = worker
        self._pacing = ConnectPacing(upstream.category, worker.connects)
        self._leadership = leadership
        self._layer: Any = worker.layer
        self._connections: dict[int, tuple[Connection, asyncio.Task[None]]] = {}
        self._paused: set[Connection] = set()
        self._has_envelopes = asyncio.Event()
        self._is_listening = asyncio.Event()
        self._group = asyncio.TaskGroup()

    async def serve(self) -> None:
        """Serve until the lead is lost; say why in the log."""
        steps = {"listen": self._listen, "publish": self._publish, "tick": self._tick}
        async with self._group:
            tasks = [
                self._start(run_forever(step, f"{self.upstream.category}: {name}"), name)
                for name, step in steps.items()
            ]
            try:
                words = await self._leadership.keep()
                logger.warning("%s: lost leadership: %s", self.upstream.category, words)
                words = f"{self._worker.name} lost leadership: {words}"
                self._worker.telemetry.events.record(
                    "leader", words, category=self.upstream.category
                )
            finally:
                await cancel_all(tasks)  # first: they are what makes connections
                await cancel_all([task for _, task in self._connections.values()])

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return self._group.create_task(work, name=f"upstream {self.upstream.category} {name}")

    async def _listen(self) -> None:
        """Take the demand of the hubs."""
        name = f"{self.upstream.category}: listen"
        inbox = Inbox(name, envelopes.decode_to_leader, self._on_envelope)
        group = envelopes.demand_group(self.upstream.category)
        async with channel_in(self._layer, group) as channel:
            self._is_listening.set()
            while True:
                inbox(await self._layer.receive(channel))
                self._interpret()

    def _on_envelope(self, envelope: ToLeader) -> None:
        match envelope:
            case Demand():
                self._leadership.on_epoch(envelope.epoch)
                self.upstream.on_demand(envelope, time.monotonic())
            case Resync():
                self.upstream.on_resync(envelope.topic, time.monotonic())
            case _:
                assert_never(envelope)

    async def _publish(self) -> None:
        """Send the envelopes of the category, in order; messages that wait together go together."""
        while True:
            await self._has_envelopes.wait()
            self._has_envelopes.clear()
            outbox = self.upstream.take_envelopes(time.monotonic(), time.time())
            self._interpret()
            waiting = ((group, each) for group, waits in outbox.items() for each in waits)
            await post.group_send_many(self._layer, waiting)

    async def _tick(self) -> None:
        """Let time pass for the category."""
        # The first beat tells the hubs of a new epoch, and they answer with all they want.
        await self._is_listening.wait()
        next_beat = sure_at = ticked_at = time.monotonic()
        while True:
            now = time.monotonic()
            was_stopped, ticked_at = now - ticked_at > timing.SUSPENDED_AFTER, now
            if was_stopped:
                self.upstream.extend_leases(now)
            if not self._leadership.is_in_doubt:
                sure_at = now
            elif now - sure_at < timing.DEMAND_KEPT_IN_DOUBT:
                self.upstream.extend_leases(now)
            self.upstream.tick(now)
            if now >= next_beat:
                next_beat = now + timing.BEAT
                self.upstream.beat()
            self._interpret()
            await asyncio.sleep(timing.WORKER_TICK)

    # ---- what happens to connections ----

    def on_opened(self, connection: Connection, now: float) -> None:
        """Hand it to the category."""
        self.upstream.on_opened(connection.state, now)
        self._interpret()

    def on_closed(self, connection: Connection, error: str) -> None:
        """Hand it to the category."""
        self.upstream.on_closed(connection.state, error)
        self._interpret()

    def on_frame(self, connection: Connection, text: bytes, now: float) -> None:
        """Hand it to the category; nearly always it waits there with others, to be published."""
        self.upstream.on_frame(connection.state, text, now)
        if self.upstream.has_effects and self._interpret().is_crowded:
            connection.pause()
            self._paused.add(connection)

    def on_binary(self, size: int) -> None:
        """Hand it to the category."""
        self.upstream.on_binary(size)

    # ---- what the category decides ----

    def _interpret(self) -> Effects:
        """Do what an input has led to."""
        effects = self.upstream.effects()
        for state in effects.closes:
            connection, task = self._connections.pop(state.number)
            self._paused.discard(connection)
            task.cancel()
        for state in effects.opens:
            self._open(state)
        for state in effects.asks:
            self._connections[state.number][0].wake()
        if effects.has_envelopes:
            self._has_envelopes.set()
        if effects.has_other_topics:
            self._worker.announce_topics()
        if self._paused and not effects.is_crowded:
            for connection in self._paused:
                connection.resume()
            self._paused.clear()
        return effects

    def _open(self, state: ConnectionState) -> None:
        connection = Connection(
            self,
            state,
            url=self._url,
            ping_interval=self._ping_interval,
            pacing=self._pacing,
        )
        task = self._start(connection.run(), f"connection {state.number}")
        self._connections[state.number] = (connection, task)

    async def say_goodbye(self) -> None:
        """Tell the hubs that this worker serves the category no more."""
        if self.upstream.state is UpstreamState.IDLE:
            return
        last = Upstream(
            self.upstream.category,
            self.upstream.epoch,
            UpstreamState.DOWN,
            wall_ms(),
            self._worker.name,
        )
        await post.group_send(self._layer, envelopes.UPSTREAM_GROUP, last)


class UpstreamWorker:
    """Competes for categories and serves those it leads, until it is cancelled.

    Attributes:
        telemetry: What this process records.
        name: Host and process, for operators.
        categories: Those it competes for.
        upstreams: The categories it leads.
        connects: Allows its connects to the exchange, over all categories and workers.
    """

    def __init__(
        self, telemetry: Telemetry, categories: Iterable[Category] = tuple(Category)
    ) -> None:
        self.telemetry = telemetry
        self.layer = get_channel_layer()
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.categories = tuple(categories)
        self.upstreams: dict[Category, CategoryUpstream] = {}
        self.connects = Connects(conf.current().upstream_url)
        self._reporting = Reporting(telemetry, self.name, self.categories, self.upstreams)

    def topics_left(self) -> int:
        """Return how many further topics may be subscribed, over all categories and workers."""
        used = sum(len(upstream.streams) for upstream in self.upstreams.values())
        return conf.current().max_topics - used - self._reporting.topics_elsewhere(time.monotonic())

    def announce_topics(self) -> None:
        """Report to the other workers now if the number of topics carried has changed."""
        self._reporting.announce()

    async def run(self) -> None:
        """Serve until cancelled."""
        urls = conf.current().redis_urls
        redis = leadership.connect(urls[0]) if urls else None
        self.connects = Connects(conf.current().upstream_url, redis)
        try:
            async with asyncio.TaskGroup() as group:
                steps = {"hear": self._reporting.listen, "report": self._reporting.tell}
                for name, step in steps.items():
                    group.create_task(
                        run_forever(step, f"upstream: {name}"), name=f"upstream {name}"
                    )
                for category in self.categories:
                    lead: Leadership = (
                        AloneLeadership(wall_ms)
                        if redis is None
                        else LeaseLeadership(redis, category, wall_ms)
                    )
                    group.create_task(self._compete(category, lead), name=f"upstream {category}")
        finally:
            with contextlib.suppress(Exception):  # the lease will run out
                async with asyncio.timeout(timing.FAREWELL_LIMIT):
                    await self._reporting.goodbye()
            if redis is not None:
                await redis.aclose()

    async def _compete(self, category: Category, lead: Leadership) -> None:
        """Serve a category whenever it is this worker's turn."""
        while True:
            await self._serve(category, lead, await lead.win())

    async def _serve(self, category: Category, lead: Leadership, epoch: int) -> None:
        """Serve a category for one term.

        A call of its own for each: its variables hold all images of the term, and a worker that
        stands by again has no use for them.
        """
        logger.info("%s: acquired leadership (epoch %d)", category, epoch)
        words = f"{self.name} acquired leadership (epoch {epoch})"
        self.telemetry.events.record("leader", words, category=category)
        upstream = self.upstreams[category] = CategoryUpstream(
            category,
            telemetry=self.telemetry,
            epoch=epoch,
            worker=self.name,
            linger=conf.current().linger,
            max_topics=self.topics_left,
            peers=self.upstreams.values,
            wall_ms=wall_ms,
            random=random.random,
        )
        term = _Term(self, upstream, lead)
        try:
            await term.serve()
        except asyncio.CancelledError:
            await self._say_goodbye(term)
            raise
        finally:
            del self.upstreams[category]
            await lead.leave()

    async def _say_goodbye(self, term: _Term) -> None:
        try:
            async with asyncio.timeout(timing.FAREWELL_LIMIT):
                await term.say_goodbye()
        except Exception:  # the layer may be what ended the worker
            logger.warning("could not notify the hubs on shutdown", exc_info=True)
