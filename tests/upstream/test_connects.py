"""relay/upstream/connects.py: all workers together stay below what Bybit allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from relay.upstream.connects import BURST, INTERVAL, Connects
from relay.upstream.leadership import connect
from tests.processes import PATIENCE
from tests.redis_server import RedisServer

URL = "wss://stream.bybit.com/v5/public"
NEVER = 3_600.0  # seconds until a further connect is allowed


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


async def is_allowed(connects: Connects) -> bool:
    """Take one connect if one is allowed at once."""
    turn = asyncio.create_task(connects.turn())
    await asyncio.wait([turn], timeout=0.5)
    if not turn.done():
        turn.cancel()
        return False
    return True


def test_the_allowance_is_four_hundred_in_five_minutes() -> None:
    assert BURST + 300 / INTERVAL == 400


async def test_a_worker_alone_makes_a_burst_and_then_one_each_interval() -> None:
    connects = Connects(URL, burst=3, interval=NEVER)
    assert [await is_allowed(connects) for _ in range(4)] == [True, True, True, False]
    connects = Connects(URL, burst=1, interval=0.05)
    async with asyncio.timeout(PATIENCE):
        for _ in range(5):
            await connects.turn()


async def test_workers_share_what_is_allowed_over_redis(redis: Redis) -> None:
    one, other = (Connects(URL, redis, burst=3, interval=NEVER) for _ in range(2))
    assert [await is_allowed(each) for each in (one, other, one)] == [True] * 3
    assert [await is_allowed(each) for each in (one, other)] == [False] * 2
    [key] = await redis.keys("marketfeed:connects:*")
    assert await redis.pttl(key) > 0  # nothing is left behind in Redis
    elsewhere = Connects("wss://stream.bybit.tr/v5/public", redis, burst=3, interval=NEVER)
    assert await is_allowed(elsewhere)


async def test_what_is_allowed_comes_back(redis: Redis) -> None:
    one, other = (Connects(URL, redis, burst=2, interval=0.05) for _ in range(2))
    async with asyncio.timeout(PATIENCE):
        for _ in range(5):
            await one.turn()
            await other.turn()


async def test_a_worker_that_cannot_reach_redis_counts_for_itself(
    redis_server: RedisServer,
) -> None:
    redis = connect(redis_server.url)
    connects = Connects(URL, redis, burst=2, interval=NEVER)
    await asyncio.to_thread(redis_server.kill)
    async with asyncio.timeout(PATIENCE):
        await connects.turn()
        await connects.turn()
    assert not await is_allowed(connects)
    await redis.aclose()
