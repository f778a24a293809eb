"""Who leads, on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from relay.bybit.topics import Category
from relay.lib import timing
from relay.upstream.leadership import LeaseLeadership, State, connect
from tests.processes import PATIENCE, until
from tests.redis_server import RedisServer

NOW = 1_700_000_000_000
LEADER, EPOCH = "marketfeed:leader:linear", "marketfeed:epoch:linear"


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


def candidate(redis: Redis, now: int = NOW) -> LeaseLeadership:
    return LeaseLeadership(redis, Category.LINEAR, lambda: now)


async def soon(task: asyncio.Task[object]) -> object:
    return await asyncio.wait_for(task, PATIENCE)


async def test_one_leads_and_the_other_follows_at_once_when_it_leaves(redis: Redis) -> None:
    one, other = candidate(redis), candidate(redis)
    assert await one.win() == NOW
    waiting = asyncio.create_task(other.win())
    assert await soon(waiting) == NOW + 1  # the lease is renewed by `keep` alone
    assert await soon(asyncio.create_task(one.keep())) == "another worker leads"
    await one.leave()  # takes nothing from the one that leads now
    keeping = asyncio.create_task(other.keep())
    third = asyncio.create_task(candidate(redis).win())
    await asyncio.sleep(timing.LEADER_LEASE + timing.LEADER_RETRY)
    assert not third.done()
    assert not keeping.done()
    keeping.cancel()
    await other.leave()
    assert await soon(third) == NOW + 2


async def test_categories_are_led_apart(redis: Redis) -> None:
    assert await candidate(redis).win() == NOW
    spot = LeaseLeadership(redis, Category.SPOT, lambda: NOW)
    assert await soon(asyncio.create_task(spot.win())) == NOW


@pytest.mark.parametrize("forget", ["FLUSHALL", f"DEL {LEADER}", f"DEL {EPOCH}"])
async def test_a_term_outlives_what_redis_forgets(forget: str, redis: Redis) -> None:
    one = candidate(redis)
    epoch = await one.win()
    keeping = asyncio.create_task(one.keep())
    await redis.execute_command(*forget.split())
    await asyncio.sleep(1.2)
    assert not keeping.done()
    assert await redis.get(EPOCH) == str(epoch).encode()
    assert await redis.exists(LEADER)
    keeping.cancel()


async def test_who_stands_by_lets_a_leader_that_redis_forgot_go_on(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "LEADER_GRACE", 3.0)  # room for a machine that stands still
    one, other = candidate(redis), candidate(redis, NOW + 1)
    await one.win()
    waiting = asyncio.create_task(other.win())
    await until(lambda: other.state is State.STANDING_BY, PATIENCE, "it sees that somebody leads")
    await redis.flushall()
    await until(lambda: other.state is State.GRACE, PATIENCE, "it sees that nobody does")
    keeping = asyncio.create_task(one.keep())
    await until(
        lambda: other.state is not State.GRACE, PATIENCE, "it sees that somebody does again"
    )
    assert other.state is State.STANDING_BY
    assert not waiting.done()
    assert not keeping.done()
    keeping.cancel()
    monkeypatch.setattr(timing, "LEADER_GRACE", 0.5)
    await redis.flushall()  # and nobody is left to take it again
    assert await soon(waiting) == NOW + 1


async def test_a_flushed_redis_and_a_slow_clock_do_not_turn_the_epoch_back(redis: Redis) -> None:
    one = candidate(redis, NOW)
    epoch = await one.win()
    await redis.flushall()
    other = candidate(redis, NOW - 60_000)
    behind = await other.win()
    assert behind < epoch
    other.on_epoch(epoch)  # from the first web process that tells what it wants
    words = await soon(asyncio.create_task(other.keep()))
    assert str(epoch) in str(words)
    await other.leave()
    assert await other.win() == epoch + 1


async def test_whoever_led_between_ends_the_term_even_if_it_is_gone(redis: Redis) -> None:
    one, other = candidate(redis), candidate(redis)
    await one.win()
    await redis.delete(LEADER)
    await other.win()
    await other.leave()
    assert await soon(asyncio.create_task(one.keep())) == "another worker leads"


class Slow:
    """A Redis that does what it is asked and answers too late, as often as it is told."""

    def __init__(self, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
        self.late = 0
        ask = redis.set

        async def set_and_be_late(*args: Any, **options: Any) -> Any:
            answer = await ask(*args, **options)
            if self.late:
                self.late -= 1
                raise TimeoutError
            return answer

        monkeypatch.setattr(redis, "set", set_and_be_late)


async def test_a_lease_granted_too_late_does_not_end_the_term(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker took the lock that it had got itself for another worker's."""
    slow, one = Slow(redis, monkeypatch), candidate(redis)
    epoch = await one.win()
    await redis.delete(LEADER)  # Redis forgot it
    slow.late = 1
    keeping = asyncio.create_task(one.keep())
    await until(lambda: not slow.late and one.is_in_doubt, PATIENCE, "no answer in time")
    await until(lambda: not one.is_in_doubt or keeping.done(), PATIENCE, "an answer")
    assert not keeping.done()
    assert await redis.get(EPOCH) == str(epoch).encode()
    keeping.cancel()
    await one.leave()
    assert not await redis.exists(LEADER)


async def test_a_lease_granted_too_late_is_used_and_not_waited_for(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "LEADER_LEASE", 60.0)  # seconds that nobody would lead
    slow, one = Slow(redis, monkeypatch), candidate(redis)
    slow.late = 1
    assert await asyncio.wait_for(one.win(), 30) == NOW


async def test_a_worker_that_froze_on_its_way_to_the_lead_gets_no_number(redis: Redis) -> None:
    frozen, other = candidate(redis), candidate(redis)
    take_number = frozen._take_number

    async def freeze() -> int | None:
        frozen._take_number = take_number  # type: ignore[method-assign]
        await redis.delete(LEADER)  # its lease runs out while it is frozen
        assert await other.win() == NOW
        return await take_number()

    frozen._take_number = freeze  # type: ignore[method-assign]
    waking = asyncio.create_task(frozen.win())
    await asyncio.sleep(0.6)
    assert not waking.done()
    assert await redis.get(EPOCH) == str(NOW).encode()
    await other.leave()
    assert await soon(waking) == NOW + 1


async def test_a_term_outlives_a_redis_that_is_away(redis_server: RedisServer) -> None:
    redis = connect(redis_server.url)
    one = candidate(redis)
    epoch = await one.win()
    keeping = asyncio.create_task(one.keep())
    await asyncio.to_thread(redis_server.kill)
    await until(lambda: one.is_in_doubt, PATIENCE, "it sees that Redis is away")
    await asyncio.sleep(timing.LEADER_LEASE)
    assert not keeping.done()
    await asyncio.to_thread(redis_server.start)
    other = asyncio.create_task(candidate(redis, NOW + 1).win())  # it has not seen the leader
    await until(
        lambda: keeping.done() or other.done() or not one.is_in_doubt,
        PATIENCE,
        "one of them finds that Redis is back",
    )
    if keeping.done() or other.done():  # the other was faster: then the first must stand by
        assert await soon(other) == NOW + 1
        assert await soon(keeping) == "another worker leads"
    else:
        assert await redis.get(EPOCH) == str(epoch).encode()
    for task in (keeping, other):
        task.cancel()
    await redis.aclose()


async def test_a_cancel_ends_a_command_at_whatever_moment_it_comes(redis: Redis) -> None:
    async def work() -> None:
        await redis.get("x")
        await asyncio.Event().wait()

    await redis.get("x")  # connected from here on
    for turns in range(40):  # of the event loop, more than a command takes to be sent
        task = asyncio.create_task(work())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=1)
        assert done, f"the cancel after {turns} turns was lost"
