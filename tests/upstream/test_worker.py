"""relay/upstream/worker.py: how a term begins and ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relay import envelopes, steps
from relay.core.topics import Category
from relay.layers.local import LocalChannelLayer
from relay.upstream import worker
from relay.upstream.worker import UpstreamWorker


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
    monkeypatch.setattr(worker, "get_channel_layer", lambda: slow)
    monkeypatch.setattr(steps, "INSISTENCE", 0.01)
    return slow


async def test_a_term_says_nothing_before_it_hears_what_is_answered(layer: SlowLayer) -> None:
    serving = asyncio.create_task(UpstreamWorker([Category.LINEAR]).run())
    await asyncio.sleep(envelopes.BEAT / 4)
    assert not layer.sent.is_set()
    layer.may_join.set()
    async with asyncio.timeout(5):
        await layer.sent.wait()
    layer.may_send.set()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_a_term_ends_though_a_cancel_is_swallowed(layer: SlowLayer) -> None:
    layer.may_join.set()
    serving = asyncio.create_task(UpstreamWorker([Category.LINEAR]).run())
    async with asyncio.timeout(5):
        await layer.sent.wait()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
    assert layer.swallowed == 1
