"""relay/layers/local.py: Channels' interface within one process, losing nothing in silence."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from channels.exceptions import ChannelFull

from relay.layers.local import CAPACITY, LocalChannelLayer


def message(number: int) -> dict[str, Any]:
    return {"type": "test", "number": number}


async def received(layer: LocalChannelLayer, channel: str, count: int) -> list[int]:
    return [(await layer.receive(channel))["number"] for _ in range(count)]


async def is_empty(layer: LocalChannelLayer, channel: str) -> bool:
    """Whether a receiver would wait: asked without waiting for any time."""
    waiting = asyncio.ensure_future(layer.receive(channel))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    if waiting.done():
        return False
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    return True


async def test_messages_come_in_the_order_they_were_sent() -> None:
    layer = LocalChannelLayer()
    channel = await layer.new_channel()
    for number in range(500):
        await layer.send(channel, message(number))
    assert await received(layer, channel, 500) == list(range(500))
    assert await is_empty(layer, channel)


async def test_a_receiver_that_waits_is_woken() -> None:
    layer = LocalChannelLayer()
    channel = await layer.new_channel()
    waiting = asyncio.ensure_future(received(layer, channel, 3))
    await asyncio.sleep(0)
    for number in range(3):
        await layer.send(channel, message(number))
    assert await waiting == [0, 1, 2]


async def test_a_cancelled_receiver_loses_nothing() -> None:
    layer = LocalChannelLayer()
    channel = await layer.new_channel()
    assert await is_empty(layer, channel)
    waiting = asyncio.ensure_future(layer.receive(channel))
    await asyncio.sleep(0)
    await layer.send(channel, message(1))  # wakes it, and then it is cancelled
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await received(layer, channel, 1) == [1]


async def test_a_group_reaches_its_members_and_nobody_else() -> None:
    layer = LocalChannelLayer()
    one, two, stranger = [await layer.new_channel() for _ in range(3)]
    await layer.group_add("g", one)
    await layer.group_add("g", one)
    await layer.group_add("g", two)
    await layer.group_add("other", stranger)
    await layer.group_send("g", message(1))
    await layer.group_discard("g", two)
    await layer.group_discard("g", stranger)
    await layer.group_discard("nothing", one)
    await layer.group_send("g", message(2))
    await layer.group_send("nothing", message(3))
    assert await received(layer, one, 2) == [1, 2]
    assert await received(layer, two, 1) == [1]
    for channel in (one, two, stranger):
        assert await is_empty(layer, channel)


async def test_every_member_receives_the_same_object() -> None:
    layer = LocalChannelLayer()
    channels = [await layer.new_channel() for _ in range(3)]
    for channel in channels:
        await layer.group_add("g", channel)
    sent = message(1)
    await layer.group_send("g", sent)
    assert all([await layer.receive(channel) is sent for channel in channels])


async def test_a_full_channel_misses_a_message_and_it_is_counted() -> None:
    layer = LocalChannelLayer(capacity=2)
    full, other = await layer.new_channel(), await layer.new_channel()
    for channel in (full, other):
        await layer.group_add("g", channel)
    await layer.group_send("g", message(1))
    await layer.group_send("g", message(2))
    assert await received(layer, other, 2) == [1, 2]
    await layer.group_send("g", message(3))
    assert layer.dropped == 1
    with pytest.raises(ChannelFull):
        await layer.send(full, message(4))
    assert layer.dropped == 2
    assert await received(layer, full, 2) == [1, 2]
    assert await received(layer, other, 1) == [3]
    await layer.group_send("g", message(5))
    assert await received(layer, full, 1) == [5]


async def test_a_burst_of_the_busiest_second_fits() -> None:
    layer = LocalChannelLayer()
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    for number in range(CAPACITY):
        await layer.group_send("g", message(number))
    assert layer.dropped == 0
    assert await received(layer, channel, CAPACITY) == list(range(CAPACITY))


async def test_channel_names_are_ones_that_channels_takes_and_never_repeat() -> None:
    layer = LocalChannelLayer()
    names = [await layer.new_channel() for _ in range(100)]
    assert len(set(names)) == 100
    assert all(layer.require_valid_channel_name(name) for name in names)


async def test_a_channel_may_receive_before_anybody_knows_it() -> None:
    layer = LocalChannelLayer()
    waiting = asyncio.ensure_future(layer.receive("named"))
    await asyncio.sleep(0)
    await layer.send("named", message(1))
    assert (await waiting)["number"] == 1


async def test_a_flush_forgets_messages_and_groups() -> None:
    layer = LocalChannelLayer()
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    await layer.group_send("g", message(1))
    await layer.flush()
    await layer.group_send("g", message(2))
    assert await is_empty(layer, channel)
