"""relay/upstream/reporting.py: what workers tell each other of their topics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from channels.layers import channel_layers, get_channel_layer

from relay.bybit.topics import Category
from relay.lib import timing
from relay.lib.tasks import cancel_all
from relay.seam.envelopes import WORKERS_GROUP, Carries, Demand, Hello, Left, as_message
from relay.telemetry.reports import WorkerReport, decode
from relay.telemetry.telemetry import Telemetry
from relay.upstream.category import CategoryUpstream
from relay.upstream.reporting import Reporting
from tests.processes import PATIENCE, until


@pytest.fixture(autouse=True)
def _a_layer_of_its_own() -> None:
    channel_layers.backends.clear()


class Worker:
    """What a worker's reporting is told of, and what it says."""

    def __init__(self, *leads: Category) -> None:
        self.telemetry = Telemetry.fresh()
        self.upstreams: dict[Category, CategoryUpstream] = {}
        self.reporting = Reporting(self.telemetry, "w", Category, self.upstreams)
        for category in leads:
            self.lead(category)

    def lead(self, category: Category) -> CategoryUpstream:
        upstream = self.upstreams[category] = CategoryUpstream(
            category,
            telemetry=self.telemetry,
            epoch=1,
            worker="w",
            linger=0,
            max_topics=lambda: 100 - self.reporting.topics_elsewhere(time.monotonic()),
            wall_ms=lambda: 0,
            random=lambda: 0.0,
        )
        return upstream


def carries(process: str, **topics: tuple[int, int]) -> dict[str, Any]:
    return as_message(Carries(process, topics))


@asynccontextmanager
async def running(reporting: Reporting) -> AsyncIterator[Any]:
    layer = get_channel_layer()
    assert layer is not None
    tasks = [asyncio.create_task(step()) for step in (reporting.listen, reporting.tell)]
    await asyncio.sleep(0)
    try:
        yield layer
    finally:
        await cancel_all(tasks)


async def test_the_topics_of_other_categories_count_as_their_newest_leader_says() -> None:
    worker = Worker(Category.LINEAR)
    reporting = worker.reporting
    async with running(reporting) as layer:
        for said in (
            carries("a", spot=(5, 10), linear=(4, 1_000)),  # linear is this worker's own by now
            carries("b", spot=(6, 3), option=(1, 2)),
        ):
            await layer.group_send(WORKERS_GROUP, said)
        await until(lambda: reporting.topics_elsewhere(time.monotonic()) == 5, PATIENCE, "3 and 2")
        assert reporting.topics_elsewhere(time.monotonic() + timing.REPORT_LEASE + 1) == 0


async def test_a_worker_that_stops_carries_nothing() -> None:
    reporting = Worker().reporting
    async with running(reporting) as layer:
        await layer.group_send(WORKERS_GROUP, carries("a", spot=(5, 10)))
        await until(lambda: reporting.topics_elsewhere(time.monotonic()) == 10, PATIENCE, "heard")
        await layer.group_send(WORKERS_GROUP, as_message(Left("a")))
        await until(lambda: reporting.topics_elsewhere(time.monotonic()) == 0, PATIENCE, "gone")


async def test_a_standby_forgets_the_workers_that_died(monkeypatch: pytest.MonkeyPatch) -> None:
    reporting = Worker().reporting
    async with running(reporting) as layer:
        for number in range(3):
            await layer.group_send(WORKERS_GROUP, carries(f"w{number}", spot=(5, 10)))
        await until(lambda: len(reporting._others) == 3, PATIENCE, "three workers are heard")
        monkeypatch.setattr(timing, "REPORT_LEASE", 0.01)
        await until(lambda: not reporting._others, PATIENCE, "none of them is remembered")


async def test_a_worker_that_starts_is_told_at_once_what_the_others_carry() -> None:
    async with running(Worker(Category.SPOT).reporting) as layer:
        channel = await layer.new_channel()
        await layer.group_add(WORKERS_GROUP, channel)
        while (await layer.receive(channel))["type"] != "worker_report":
            pass
        await layer.group_send(WORKERS_GROUP, as_message(Hello("new")))
        said = [(await layer.receive(channel))["type"] for _ in range(2)]
        assert said == ["hello", "carries"]  # and not with the next report, a second later


async def test_the_number_of_topics_is_told_when_it_changes_and_all_once_a_second() -> None:
    worker = Worker(Category.SPOT)
    async with running(worker.reporting) as layer:
        channel = await layer.new_channel()
        await layer.group_add(WORKERS_GROUP, channel)
        upstream = worker.upstreams[Category.SPOT]
        first = await layer.receive(channel)
        while first["type"] == "hello":
            first = await layer.receive(channel)
        assert first["body"].topics == {"spot": (1, 0)}
        report = await layer.receive(channel)
        assert report["type"] == "worker_report"
        roles = {
            name: part["role"]
            for name, part in decode(report["body"].body, WorkerReport)["categories"].items()
        }
        assert roles == {
            "spot": "leader",
            "linear": "standby",
            "inverse": "standby",
            "option": "standby",
        }
        upstream.on_demand(
            Demand("p", {"orderbook.50.BTCUSDT": None}),
            time.monotonic(),
        )
        worker.reporting.announce()
        assert (await layer.receive(channel))["body"].topics == {"spot": (1, 1)}
