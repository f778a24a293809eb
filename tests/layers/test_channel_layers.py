"""What the relay asks of a channel layer, of each that it may run on.

The stock layer of channels_redis takes part, so that the relay stays a user of Channels' interface
and not of its own layers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.layers.makers import MAKERS

MANY = 5_000


@pytest.fixture(params=MAKERS)
async def layer(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    url = "" if request.param == "local" else request.getfixturevalue("redis_url")
    made = MAKERS[request.param](url)
    yield made
    await made.flush()


def message(number: int) -> dict[str, Any]:
    return {"type": "test", "number": number}


async def received(layer: Any, channel: str, count: int) -> list[int]:
    return [(await layer.receive(channel))["number"] for _ in range(count)]


async def is_empty(layer: Any, channel: str) -> bool:
    """Whether the next message is one that is sent now."""
    await layer.send(channel, {"type": "mark"})
    return (await layer.receive(channel))["type"] == "mark"


async def test_messages_come_in_the_order_they_were_sent(layer: Any) -> None:
    channel = await layer.new_channel()
    for number in range(500):
        await layer.send(channel, message(number))
    assert await received(layer, channel, 500) == list(range(500))
    assert await is_empty(layer, channel)


async def test_a_receiver_that_waits_is_woken(layer: Any) -> None:
    channel = await layer.new_channel()
    waiting = asyncio.ensure_future(received(layer, channel, 3))
    await asyncio.sleep(0)
    for number in range(3):
        await layer.send(channel, message(number))
    assert await waiting == [0, 1, 2]


async def test_what_is_sent_comes_as_it_was(layer: Any) -> None:
    channel = await layer.new_channel()
    sent = {"type": "test", "texts": [b"\x00\xff", "ä"], "at": [1, None, 2.5], "is": {"so": True}}
    await layer.send(channel, sent)
    assert await layer.receive(channel) == sent


async def test_a_group_reaches_its_members_and_nobody_else(layer: Any) -> None:
    one, two, stranger = [await layer.new_channel() for _ in range(3)]
    await layer.group_add("g", one)
    await layer.group_add("g", one)
    await layer.group_add("g", two)
    await layer.group_add("other", stranger)
    await layer.group_send("g", message(1))
    assert await received(layer, one, 1) == await received(layer, two, 1) == [1]
    await layer.group_discard("g", two)
    await layer.group_discard("g", stranger)
    await layer.group_discard("nothing", one)
    await layer.group_send("g", message(2))
    await layer.group_send("nothing", message(3))
    assert await received(layer, one, 1) == [2]
    for channel in (one, two, stranger):
        assert await is_empty(layer, channel)


async def test_a_group_that_is_left_and_joined_again_brings_what_comes_after(layer: Any) -> None:
    channel = await layer.new_channel()
    for number in range(20):
        await layer.group_add("g", channel)
        await layer.group_send("g", message(number))
        assert await received(layer, channel, 1) == [number]
        await layer.group_discard("g", channel)
    assert await is_empty(layer, channel)


async def test_a_mark_of_its_own_comes_after_what_was_sent_to_its_groups(layer: Any) -> None:
    channel = await layer.new_channel()
    groups = [f"g{number}" for number in range(50)]
    for group in groups:
        await layer.group_add(group, channel)
    for number, group in enumerate(groups):
        await layer.group_send(group, message(number))
    await layer.send(channel, message(-1))
    numbers = await received(layer, channel, 51)
    if len(getattr(layer, "_kwargs", {}).get("hosts", ())) < 2:  # shards keep no order among them
        assert numbers == [*range(50), -1]
    assert sorted(numbers) == [-1, *range(50)]


async def test_many_messages_at_once_keep_the_order_of_each_group(layer: Any) -> None:
    if not hasattr(layer, "group_send_many"):
        pytest.skip("the stock layer sends one by one")
    channel = await layer.new_channel()
    for number in range(7):
        await layer.group_add(f"g{number}", channel)
    await layer.group_send_many([(f"g{number % 7}", message(number)) for number in range(MANY)])
    await layer.group_send_many([])
    numbers = await received(layer, channel, MANY)
    assert sorted(numbers) == list(range(MANY))
    for group in range(7):
        of_group = [number for number in numbers if number % 7 == group]
        assert of_group == sorted(of_group)


async def test_a_flush_forgets_messages_and_groups(layer: Any) -> None:
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    await layer.group_send("g", message(1))
    await layer.flush()
    await layer.group_send("g", message(2))
    again = await layer.new_channel()
    assert await is_empty(layer, again)
    assert channel != again
