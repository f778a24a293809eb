"""What befalls Redis, and what clients notice of it."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from tests.faults.house import DEMAND_LEASE, LINGER, House, Scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

BACK_WITHIN = 5.0  # seconds from the return of Redis until the web processes are ready


@pytest.mark.parametrize("way", ["stop", "kill", "freeze"])
async def test_while_redis_is_away_clients_are_served_and_all_is_right_when_it_is_back(
    way: str, house: House, scene: Scene
) -> None:
    process, opened = house.redis.process, scene.exchange.opened.copy()
    assert process is not None
    if way == "freeze":
        process.send_signal(signal.SIGSTOP)
    else:
        await asyncio.to_thread(getattr(house.redis, way))
    gone = time.monotonic()
    for web in house.webs:
        await house.until_cut_off(web)
        await scene.refused(web)
    await scene.late(fresh=False)
    native = [one for one in scene.early if not one.is_bybit]
    for one in native:
        await one.until(lambda o=one: o.notices, "told that upstream is out of reach")
    print(f"{way}: known and told after {time.monotonic() - gone:.2f} s")
    if way == "kill":  # and longer than any lease of demand
        await asyncio.sleep(max(0.0, gone + DEMAND_LEASE + LINGER + 1 - time.monotonic()))
    if way == "stop":  # from here on nobody says a word: what was lost must be noticed all the same
        await scene.market.stop()
    if way == "freeze":
        process.send_signal(signal.SIGCONT)
    else:
        await asyncio.to_thread(house.redis.start)
    with house.stopwatch() as watch:
        await house.until_ready()
        for one in native:
            await one.until(lambda o=one: o.notices[-1]["upstream"] == "live", "status live")
        took = watch.seconds
    print(f"{way}: back within {took:.2f} s")
    await scene.late()
    await scene.assert_heals(interrupted=True)
    assert scene.exchange.opened == opened
    assert scene.exchange.asked("unsubscribe", scene.market.trades.topic) == 0
    assert took < BACK_WITHIN


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
async def test_killed_connections_are_made_anew(kind: str, house: House, scene: Scene) -> None:
    leader = await house.leader()
    async with house.ask_redis() as redis:
        for _ in range(3):
            await redis.execute_command("CLIENT", "KILL", "TYPE", kind)
            await asyncio.sleep(0.4)
    await house.until_ready()
    await scene.late()
    await scene.assert_heals(interrupted=False)
    assert await house.leader() is leader


async def test_a_pause_of_three_seconds_is_survived(house: House, scene: Scene) -> None:
    opened = scene.exchange.opened.copy()
    async with house.ask_redis() as redis:
        await redis.execute_command("CLIENT", "PAUSE", "3000")
    await asyncio.sleep(3)
    await scene.late(fresh=False)
    await house.until_ready()
    await scene.late()
    await scene.assert_heals(interrupted=None)
    assert scene.exchange.opened == opened


async def test_a_flush_of_everything_changes_nothing_that_lasts(house: House, scene: Scene) -> None:
    leader = await house.leader()
    async with house.ask_redis() as redis:
        for _ in range(2):
            await redis.flushall()
            await asyncio.sleep(1.5)
            await scene.late()
    await scene.assert_heals(interrupted=False)
    assert await house.leader() is leader
    async with house.ask_redis() as redis:
        assert await redis.exists("marketfeed:leader:linear", "marketfeed:epoch:linear") == 2


async def test_a_redis_that_takes_no_more_data_still_carries_messages(
    house: House, scene: Scene
) -> None:
    leader = await house.leader()
    async with house.ask_redis() as redis:
        await redis.config_set("maxmemory-policy", "noeviction")
        await redis.config_set("maxmemory", 1)
        try:
            with pytest.raises(Exception, match=r"OOM|maxmemory"):
                await redis.set("more", "data")
            await scene.late()
            await asyncio.sleep(3)  # longer than a lease
        finally:
            await redis.config_set("maxmemory", 0)
    await scene.assert_heals(interrupted=False)
    assert await house.leader() is leader


async def test_a_redis_that_evicts_the_leases_still_has_one_leader(
    house: House, scene: Scene
) -> None:
    async with house.ask_redis() as redis:
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        await redis.config_set("maxmemory", 1)
        try:
            await scene.late()
            await asyncio.sleep(3)
        finally:
            await redis.config_set("maxmemory", 0)
        info = await redis.info("stats")
    assert info["evicted_keys"] > 0
    await scene.assert_heals(interrupted=None, trades_may_miss=True)


async def test_a_web_process_whose_output_buffer_overflowed_catches_up(
    house: House, scene: Scene
) -> None:
    web, book = house.webs[0], scene.market.own[0]
    async with house.ask_redis() as redis:
        before = await redis.config_get("client-output-buffer-limit")
        await redis.config_set("client-output-buffer-limit", "pubsub 65536 0 0")
        try:
            web.program.signal(signal.SIGSTOP)
            for _ in range(400):
                await scene.exchange.say("linear", book.topic, padded(book.delta()))
                if "overcoming of output buffer limits" in house.redis.output:
                    break
                await asyncio.sleep(0.005)
            else:
                raise AssertionError("Redis did not disconnect the web process")
            web.program.signal(signal.SIGCONT)
        finally:
            await redis.config_set(*next(iter(before.items())))
    await scene.late(fresh=False)
    await scene.assert_heals(interrupted=False)
    for one, its in scene.clients.items():
        if its is web and one in scene.early:
            assert one.followers[book.topic].types.count("snapshot") > 1


def padded(text: str) -> str:
    """Return a message of the exchange with a field that nobody knows, of 50 kB."""
    return f'{text[:-1]},"x":"{"x" * 50_000}"}}'
