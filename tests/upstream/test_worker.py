"""relay/upstream/worker.py: how a term begins and ends."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from typing import Any

import pytest
from channels.layers import get_channel_layer

from relay.bybit.topics import Category
from relay.layers.local import LocalChannelLayer
from relay.lib import timing
from relay.seam import envelopes
from relay.seam.envelopes import WORKERS_GROUP
from relay.telemetry.telemetry import Telemetry
from relay.upstream import worker as worker_module
from relay.upstream.category import CategoryUpstream
from relay.upstream.connection import Connection
from relay.upstream.worker import UpstreamWorker
from tests.e2e.stand_in import BookFeed, StandIn
from tests.processes import PATIENCE, until


class SlowLayer(LocalChannelLayer):
    """Takes its time to let somebody join, and swallows the first cancel of who sends."""

    def __init__(self) -> None:
        super().__init__()
        self.may_join = asyncio.Event()
        self.sent = asyncio.Event()
        self.may_send = asyncio.Event()
        self.swallowed = 0

    async def group_add(self, group: str, channel: str) -> None:
        await self.may_join.wait()
        await super().group_add(group, channel)

    async def group_send_many(self, messages: Any) -> None:
        self.sent.set()
        try:
            await self.may_send.wait()
        except asyncio.CancelledError:
            self.swallowed += 1


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> SlowLayer:
    slow = SlowLayer()
    monkeypatch.setattr(worker_module, "get_channel_layer", lambda: slow)
    monkeypatch.setattr(timing, "CANCEL_INTERVAL", 0.01)
    return slow


async def test_a_term_says_nothing_before_it_hears_what_is_answered(layer: SlowLayer) -> None:
    serving = asyncio.create_task(UpstreamWorker(Telemetry.fresh(), [Category.LINEAR]).run())
    await asyncio.sleep(timing.BEAT / 4)
    assert not layer.sent.is_set()
    layer.may_join.set()
    async with asyncio.timeout(PATIENCE):
        await layer.sent.wait()
    layer.may_send.set()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_a_term_ends_though_a_cancel_is_swallowed(layer: SlowLayer) -> None:
    layer.may_join.set()
    serving = asyncio.create_task(UpstreamWorker(Telemetry.fresh(), [Category.LINEAR]).run())
    async with asyncio.timeout(PATIENCE):
        await layer.sent.wait()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
    assert layer.swallowed == 1


class LostLead:
    """A lead that is lost when the test says so, and then led by another worker for good."""

    is_in_doubt = False

    def __init__(self) -> None:
        self.is_lost = asyncio.Event()
        self.is_waiting = asyncio.Event()

    async def win(self) -> int:
        if self.is_lost.is_set():
            self.is_waiting.set()
            await asyncio.Event().wait()
        return 1

    async def keep(self) -> str:
        await self.is_lost.wait()
        return "another worker leads"

    async def leave(self) -> None: ...

    def on_epoch(self, epoch: int) -> None: ...


async def test_a_worker_that_stands_by_again_keeps_nothing_of_its_term(layer: SlowLayer) -> None:
    layer.may_join.set()
    layer.may_send.set()
    worker, lead = UpstreamWorker(Telemetry.fresh(), [Category.LINEAR]), LostLead()
    competing = asyncio.create_task(worker._compete(Category.LINEAR, lead))
    async with asyncio.timeout(PATIENCE):
        await layer.sent.wait()
        term = weakref.ref(worker.upstreams[Category.LINEAR])
        lead.is_lost.set()
        await lead.is_waiting.wait()
    gc.collect()
    assert term() is None
    competing.cancel()
    await asyncio.gather(competing, return_exceptions=True)


class Clock:
    """The clock, which may skip the time in which a process was stopped."""

    def __init__(self) -> None:
        self.skipped = 0.0
        self.asked = 0

    def monotonic(self) -> float:
        self.asked += 1
        return time.monotonic() + self.skipped

    def time(self) -> float:
        return time.time()


async def test_a_worker_that_was_stopped_keeps_what_was_wanted(
    layer: SlowLayer, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.RELAY = {"upstream_url": "ws://127.0.0.1:9"}  # nobody is there
    clock = Clock()
    monkeypatch.setattr(worker_module, "time", clock)
    layer.may_join.set()
    layer.may_send.set()
    worker = UpstreamWorker(Telemetry.fresh(), [Category.LINEAR])
    serving = asyncio.create_task(worker.run())

    async def ticks() -> None:
        async with asyncio.timeout(10):
            enough = clock.asked + 10
            while True:
                await asyncio.sleep(timing.WORKER_TICK)
                if clock.asked >= enough:
                    break

    await ticks()
    upstream = worker.upstreams[Category.LINEAR]
    book = "orderbook.50.BTCUSDT"
    upstream.on_demand(envelopes.Demand("p", {book: None}, epoch=0), clock.monotonic())
    clock.skipped = 1_000.0
    await ticks()
    assert list(upstream.streams) == [book]
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_the_other_workers_are_told_at_once_what_a_demand_adds(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.RELAY = {"upstream_url": "ws://127.0.0.1:9"}  # nobody is there
    monkeypatch.setattr(timing, "REPORT_INTERVAL", 3_600.0)  # so no report tells it
    layer: Any = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(WORKERS_GROUP, channel)
    worker = UpstreamWorker(Telemetry.fresh(), [Category.LINEAR])
    serving = asyncio.create_task(worker.run())

    async def carried() -> int:
        while True:
            message = await layer.receive(channel)
            if message["type"] == "carries":
                return sum(topics for _, topics in message["body"].topics.values())

    async with asyncio.timeout(PATIENCE):
        assert await carried() == 0
        await until(lambda: worker.upstreams, PATIENCE, "it leads")
        demand = envelopes.Demand("p", {"orderbook.50.BTCUSDT": None}, epoch=0)
        group = envelopes.demand_group(Category.LINEAR)
        while not worker.upstreams[Category.LINEAR].streams:  # it may not listen yet
            await layer.group_send(group, envelopes.as_message(demand))
            await asyncio.sleep(0.01)
        while await carried() == 0:
            pass
    await layer.group_discard(WORKERS_GROUP, channel)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_the_exchange_waits_for_the_channel_layer_and_nothing_is_left_of_the_term(
    layer: SlowLayer, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """A connection does not read while too much waits, and reads on when it was taken."""
    monkeypatch.setattr("relay.upstream.category.CROWDED_BYTES", 5_000)
    layer.may_join.set()
    feed = BookFeed("BTCUSDT")
    made: list[Connection] = []

    def make(*args: Any, **options: Any) -> Connection:
        made.append(Connection(*args, **options))
        return made[-1]

    monkeypatch.setattr(worker_module, "Connection", make)

    async def serve(exchange: StandIn) -> weakref.ref[CategoryUpstream]:
        worker = UpstreamWorker(Telemetry.fresh(), [Category.LINEAR])
        serving = asyncio.create_task(worker.run())
        async with asyncio.timeout(PATIENCE):
            await layer.sent.wait()  # and swallows what is published from here on
        upstream = worker.upstreams[Category.LINEAR]
        upstream.on_demand(envelopes.Demand("p", {feed.topic: None}, epoch=0), time.monotonic())
        await exchange.until_followed("linear", feed.topic)

        async def say(messages: int) -> None:
            for _ in range(messages):
                await exchange.say("linear", feed.topic, feed.delta())

        def is_reading() -> bool:
            [connection] = made
            return connection._socket is not None and connection._socket.transport.is_reading()

        await say(100)
        await until(lambda: not is_reading(), PATIENCE, "it waits")
        assert upstream.waiting_bytes > 5_000
        await say(100)
        layer.may_send.set()
        await until(is_reading, PATIENCE, "it reads on")
        await until(lambda: upstream.counted.messages == 201, PATIENCE, "all is read")
        made.clear()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        return weakref.ref(upstream)

    async with StandIn() as exchange:
        settings.RELAY = {"upstream_url": exchange.url}
        exchange.feeds["linear", feed.topic] = feed.greeting
        ended = await asyncio.create_task(serve(exchange))

        def is_gone() -> bool:
            gc.collect()
            return ended() is None

        await until(is_gone, PATIENCE, "the category is forgotten")
