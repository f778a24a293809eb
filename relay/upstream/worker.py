"""The upstream worker: carries demand, frames and envelopes for the categories it serves.

It decides nothing: `Supply` does. It runs as a process of its own (`run_upstream`) or inside
the web process, over whatever channel layer there is.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import time
from collections.abc import Iterable
from typing import Any

from channels.layers import get_channel_layer

from relay import conf, envelopes
from relay.core.limits import Window
from relay.core.topics import Category
from relay.envelopes import UpstreamState
from relay.upstream.connection import CONNECTS, CONNECTS_WINDOW, Connection
from relay.upstream.supply import Line, Supply

logger = logging.getLogger(__name__)

TICK = 0.1  # seconds between looks at what is due
PATIENCE = 1.0  # seconds between tries while the channel layer is away


def wall_ms() -> int:
    """Return the time of day in Unix ms."""
    return time.time_ns() // 1_000_000


class _CategoryWorker:
    """One category: its supply and the tasks that serve it."""

    def __init__(self, worker: UpstreamWorker, category: Category) -> None:
        settings = conf.current()
        self.supply = Supply(
            category,
            epoch=worker.epoch,
            worker=worker.name,
            linger=settings.linger,
            max_topics=worker.topics_left,
            wall_ms=wall_ms,
            random=random.random,
        )
        self._url = f"{settings.upstream_url}/{category}"
        self._ping_interval = settings.ping_interval
        self._worker = worker
        self._layer: Any = worker.layer
        self._connections: dict[int, tuple[Connection, asyncio.Task[None]]] = {}
        self._something_to_send = asyncio.Event()

    def notice(self) -> None:
        """Have what waits in the supply published."""
        if self.supply.has_envelopes:
            self._something_to_send.set()

    async def listen(self) -> None:
        """Take the demand of the hubs."""
        channel = await self._layer.new_channel()
        await self._layer.group_add(envelopes.demand_group(self.supply.category), channel)
        while True:
            message: Any = await self._layer.receive(channel)
            self.supply.demand(message, time.monotonic())
            self._settle()

    async def publish(self) -> None:
        """Send what the supply has to say, in order; messages that wait together go together."""
        while True:
            await self._something_to_send.wait()
            self._something_to_send.clear()
            for group, waiting in self.supply.take_envelopes().items():
                for envelope in waiting:
                    await self._layer.group_send(group, envelope)

    async def tick(self) -> None:
        """Let time pass for the supply."""
        next_beat = time.monotonic()
        while True:
            now = time.monotonic()
            self.supply.tick(now)
            if now >= next_beat:
                next_beat = now + envelopes.BEAT
                self.supply.beat()
            self._settle()
            await asyncio.sleep(TICK)

    def _settle(self) -> None:
        """Have a connection for every line, and none for lines that are gone."""
        lines = {line.number: line for line in self.supply.lines}
        for number in list(self._connections):
            if number not in lines:
                self._connections.pop(number)[1].cancel()
        for number, line in lines.items():
            if number not in self._connections:
                self._connect(number, line)
        for connection, _ in self._connections.values():
            connection.wake()
        self.notice()

    def _connect(self, number: int, line: Line) -> None:
        connection = Connection(
            self.supply,
            line,
            url=self._url,
            ping_interval=self._ping_interval,
            connects=self._worker.connects,
            on_envelopes=self.notice,
        )
        task = self._worker.start(connection.run(), f"connection {number}")
        self._connections[number] = (connection, task)

    async def say_goodbye(self) -> None:
        """Tell the hubs that nobody serves the category any more."""
        if self.supply.state is UpstreamState.IDLE:
            return
        last = envelopes.upstream(
            self.supply.category,
            self.supply.epoch,
            UpstreamState.DOWN,
            wall_ms(),
            self._worker.name,
        )
        await self._layer.group_send(envelopes.UPSTREAM_GROUP, dict(last))


class UpstreamWorker:
    """Serves categories until it is cancelled.

    Attributes:
        epoch: Higher than that of any worker before: Unix ms at the start.
        name: Host and process, for operators.
    """

    def __init__(self, categories: Iterable[Category] = tuple(Category)) -> None:
        self.layer = get_channel_layer()
        self.epoch = wall_ms()
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.connects = Window(CONNECTS, CONNECTS_WINDOW)
        self._group: asyncio.TaskGroup | None = None
        self._categories = tuple(categories)
        self._workers: list[_CategoryWorker] = []

    @property
    def supplies(self) -> list[Supply]:
        """The categories that are served."""
        return [worker.supply for worker in self._workers]

    def topics_left(self) -> int:
        """Return how many further topics may be subscribed, over all categories."""
        return conf.current().max_topics - sum(len(supply.streams) for supply in self.supplies)

    def start(self, work: Any, name: str) -> asyncio.Task[None]:
        """Run `work` for as long as the worker runs."""
        assert self._group is not None
        return self._group.create_task(work, name=f"upstream {name}")

    async def run(self) -> None:
        """Serve until cancelled."""
        self._workers = [_CategoryWorker(self, category) for category in self._categories]
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for worker in self._workers:
                    for step in (worker.listen, worker.publish, worker.tick):
                        self.start(_persist(step), f"{worker.supply.category} {step.__name__}")
        finally:
            await self._say_goodbye()

    async def _say_goodbye(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                for worker in self._workers:
                    await worker.say_goodbye()
        except Exception:  # the layer may be what ended the worker
            logger.warning("could not tell the hubs goodbye", exc_info=True)


async def _persist(step: Any) -> None:
    """Run a step for ever: while the channel layer is away, try again each second."""
    while True:
        try:
            await step()
        except Exception:
            logger.exception("upstream %s failed; again in %.0f s", step.__name__, PATIENCE)
        await asyncio.sleep(PATIENCE)
