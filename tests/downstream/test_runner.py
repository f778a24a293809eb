"""relay/downstream/runner.py: what the hub's tasks do while the event loop or the layer is slow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from relay.bybit.topics import Category
from relay.downstream import runner as runner_module
from relay.downstream.hub import Hub
from relay.downstream.runner import HubRunner
from relay.layers.local import LocalChannelLayer
from relay.lib import timing
from relay.seam import envelopes
from relay.seam.envelopes import UPSTREAM_GROUP, UpstreamState, as_message, demand_group
from relay.telemetry.telemetry import Telemetry
from tests.builders import topic
from tests.downstream.readers import RecordingReader
from tests.processes import PATIENCE, until

TOPICS = [topic(f"orderbook.50.S{number}USDT") for number in range(20)]


class Layer(LocalChannelLayer):
    """Keeps what hubs ask for, with the groups that they are in; something may happen meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.demands: list[tuple[envelopes.Demand, set[str]]] = []
        self.while_joining: Callable[[], None] = lambda: None

    async def group_add(self, group: str, channel: str) -> None:
        await super().group_add(group, channel)
        await asyncio.sleep(0)
        self.while_joining()

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        if group == demand_group(Category.LINEAR):
            self.demands.append((message["body"], set(self._groups)))
        await super().group_send(group, message)


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> Layer:
    made = Layer()
    monkeypatch.setattr(runner_module, "get_channel_layer", lambda: made)
    return made


@asynccontextmanager
async def running() -> AsyncIterator[HubRunner]:
    runner = HubRunner(Telemetry.fresh())
    runner.start()
    try:
        yield runner
    finally:
        await runner.stop()


async def test_nothing_is_asked_for_before_its_group_has_been_joined(layer: Layer) -> None:
    async with running() as runner:
        left = list(TOPICS)

        def subscribe() -> None:
            if left:
                runner.subscribe(RecordingReader(), [left.pop()], 7, time.monotonic())

        layer.while_joining = subscribe
        subscribe()
        wanted = {each.text for each in TOPICS}
        await until(
            lambda: set().union(*(demand.want for demand, _ in layer.demands)) == wanted,
            PATIENCE,
            "all have been asked for",
        )
    groups = {each.text: each.group for each in TOPICS}
    for demand, joined in layer.demands:
        assert {groups[text] for text in demand.want} <= joined


async def test_an_overloaded_hub_calls_no_healthy_exchange_down(
    layer: Layer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "SILENCE", 0.3)
    monkeypatch.setattr(runner_module, "ENVELOPES_PER_TURN", 20)
    states: list[UpstreamState] = []
    take, judge = Hub.receive, Hub._set_state

    def slowly(self: Hub, envelope: Any, now: float) -> None:
        time.sleep(0.002)  # as much as a message with many readers may cost
        take(self, envelope, now)

    def judged(self: Hub, category: Category, state: UpstreamState, *rest: Any) -> None:
        states.append(state)
        judge(self, category, state, *rest)

    monkeypatch.setattr(Hub, "receive", slowly)
    monkeypatch.setattr(Hub, "_set_state", judged)
    live = as_message(envelopes.Upstream(Category.LINEAR, 1, UpstreamState.LIVE, 1, "w"))
    other = as_message(envelopes.Publication(TOPICS[0].group, 1, 0, [b"{}"]))
    async with running() as runner:
        await until(lambda: UPSTREAM_GROUP in layer._groups, PATIENCE, "the hub listens")
        for _ in range(2):
            await layer.group_send(UPSTREAM_GROUP, live)
            for _ in range(700):  # longer than the limit of silence and a tick together
                await layer.send(runner._channel, other)
        await layer.group_send(UPSTREAM_GROUP, live)
        await until(lambda: len(states) >= 3, PATIENCE, "all has been read")
        assert states[:3] == [UpstreamState.LIVE] * 3
        await until(lambda: len(states) > 3, PATIENCE, "the worker is silent")
        assert states[3] is UpstreamState.DOWN


async def test_a_hub_that_has_not_read_everything_says_so_with_its_positions(
    layer: Layer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "DEMAND_RENEWAL", 0.05)
    take = Hub.receive
    delay = 0.0

    def slowly(self: Hub, envelope: Any, now: float) -> None:
        time.sleep(delay)
        take(self, envelope, now)

    def renewals(*, behind: bool) -> list[Any]:
        return [d for d, _ in layer.demands if d.whole and d.behind is behind]

    monkeypatch.setattr(Hub, "receive", slowly)
    async with running() as runner:
        runner.subscribe(RecordingReader(), [TOPICS[0]], 7, time.monotonic())
        await until(lambda: bool(renewals(behind=False)), PATIENCE, "it has read everything")
        delay = 0.002
        for _ in range(2_000):
            await layer.send(runner._channel, as_message(envelopes.Joined({})))
        await until(lambda: bool(renewals(behind=True)), PATIENCE, "it lags")
        delay = 0.0
        layer.demands.clear()
        await until(lambda: bool(renewals(behind=False)), PATIENCE, "it has caught up")
