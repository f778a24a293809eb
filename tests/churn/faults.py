"""What befalls the relay while clients come and go, one fault at a time."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from random import Random

from tests.churn.house import CATEGORIES, House, Mode, until_so
from tests.churn.readers import topics

OUTAGE = 12.0  # seconds without the exchange
STALL = 3.0  # seconds in which a process or Redis does not run

Fault = Callable[[House, Random], Awaitable[None]]
"""Commits a fault and returns when it has ended: from here on the relay has to make it good."""


async def _opened(house: House, category: str) -> int:
    opened: int = (await house.exchange.do("state"))["opened"][category]
    return opened


async def _until_reconnected(house: House, category: str, opened: int) -> None:
    async def is_new() -> bool:
        return await _opened(house, category) > opened

    await until_so(is_new, f"another connection of {category}")


def _book(random: Random) -> dict[str, str]:
    category = random.choice(CATEGORIES)
    return {"category": category, "topic": random.choice(topics(category))}


async def _drop(house: House, category: str) -> None:
    """Have the exchange cut the connections of a category, as soon as there is one."""

    async def is_dropped() -> bool:
        return (await house.exchange.do("drop", category=category))["dropped"] > 0

    await until_so(is_dropped, f"a connection of {category} is cut")


async def _commit(house: House, random: Random, name: str, **rest: object) -> None:
    """Have a book's fault committed, as soon as the book is followed: it may be asked for anew."""
    book = _book(random)

    async def is_followed() -> bool:
        state = await house.exchange.do("state")
        return book["topic"] in state["topics"][book["category"]]

    await until_so(is_followed, f"{book} is followed")
    await house.exchange.do(name, **book, **rest)


# ---- of the exchange ----


async def cut(house: House, random: Random) -> None:
    """The exchange cuts every connection."""
    for category in CATEGORIES:
        await _drop(house, category)


async def outage(house: House, random: Random) -> None:
    """The exchange is away for a while."""
    await house.exchange.do("refuse_connections", seconds=OUTAGE)
    await cut(house, random)
    await asyncio.sleep(OUTAGE)


async def gap(house: House, random: Random) -> None:
    """Messages of a book are lost before they reach the relay."""
    await _commit(house, random, "gap", count=3)


async def repeat(house: House, random: Random) -> None:
    """A message of a book comes twice."""
    await _commit(house, random, "repeat")


async def reorder(house: House, random: Random) -> None:
    """Two messages of a book come in the wrong order."""
    await _commit(house, random, "reorder")


async def crossed(house: House, random: Random) -> None:
    """A message of a book puts a bid above the best ask."""
    await _commit(house, random, "cross")


async def restarted(house: House, random: Random) -> None:
    """The exchange begins a book again at `u` 1."""
    kind = random.choice(("snapshot", "delta"))
    await _commit(house, random, "restart", **{"as": kind})


async def garbage(house: House, random: Random) -> None:
    """The exchange sends what is no message, of each sort."""
    for kind in ("utf8", "binary", "json", "array", "unknown_topic", "missing_field", "huge"):
        category = random.choice(CATEGORIES)
        assert (await house.exchange.do("garbage", category=category, kind=kind))["sent"]


async def lost_ack(house: House, random: Random) -> None:
    """The exchange cuts a connection, and its answer to the next request is lost."""
    category = random.choice(CATEGORIES)
    await house.exchange.do("lose_acks", category=category, count=1)
    await _drop(house, category)


async def refused_once(house: House, random: Random) -> None:
    """The exchange cuts a connection and refuses what is asked for first on the next one."""
    category = random.choice(CATEGORIES)
    await house.exchange.do("refuse_subscribes", category=category, count=1)
    await _drop(house, category)


async def silence(house: House, random: Random) -> None:
    """A connection is half open: nothing comes any more, until the relay makes another."""
    category = random.choice(CATEGORIES)
    opened = await _opened(house, category)
    await house.exchange.do("silence", category=category, seconds=STALL * 6)
    await asyncio.sleep(STALL * 6)
    await _until_reconnected(house, category, opened)


# ---- of Redis ----


async def redis_restart(house: House, random: Random) -> None:
    """An operator restarts Redis, which forgets everything."""
    assert house.redis is not None
    await asyncio.to_thread(house.redis.stop)
    await asyncio.to_thread(house.redis.start)


async def redis_crash(house: House, random: Random) -> None:
    """Redis dies and is away for a while."""
    assert house.redis is not None
    await asyncio.to_thread(house.redis.kill)
    await asyncio.sleep(STALL)
    await asyncio.to_thread(house.redis.start)


async def redis_stall(house: House, random: Random) -> None:
    """Redis stands still for a while."""
    assert house.redis is not None
    assert house.redis.process is not None
    house.redis.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(STALL)
    house.redis.process.send_signal(signal.SIGCONT)


async def redis_flushed(house: House, random: Random) -> None:
    """Somebody has Redis forget everything while it runs."""
    assert house.redis is not None
    await asyncio.to_thread(house.redis.flush)


async def redis_disconnects(house: House, random: Random) -> None:
    """Redis ends the connections of all its clients."""
    async with house.ask_redis() as redis:
        for kind in ("pubsub", "normal"):
            await redis.client_kill_filter(_type=kind, skipme=True)


# ---- of processes ----


async def worker_killed(house: House, random: Random) -> None:
    """The worker that leads a category is killed, and another one is started in its place."""
    leader = await house.leader(random.choice(CATEGORIES))
    leader.kill()
    house.workers.remove(leader)
    house.workers.append(house.new_worker())


async def worker_stopped(house: House, random: Random) -> None:
    """An operator stops the worker that leads a category, and starts another one."""
    leader = await house.leader(random.choice(CATEGORIES))
    leader.signal(signal.SIGTERM)
    assert await leader.end() == 0
    house.workers.remove(leader)
    house.workers.append(house.new_worker())


async def worker_frozen(house: House, random: Random) -> None:
    """The worker that leads a category stands still for a while."""
    await _freeze(house, (await house.leader(random.choice(CATEGORIES))).process.pid)


async def web_frozen(house: House, random: Random) -> None:
    """A web process stands still for a while."""
    await _freeze(house, random.choice(house.webs).program.process.pid)


async def _freeze(house: House, pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(STALL)
    os.kill(pid, signal.SIGCONT)
    await house.stops()  # this one is not the relay's own


OF_THE_EXCHANGE = (
    cut,
    outage,
    gap,
    repeat,
    reorder,
    crossed,
    restarted,
    garbage,
    lost_ack,
    refused_once,
    silence,
)
OF_SEVERAL = (
    redis_restart,
    redis_crash,
    redis_stall,
    redis_flushed,
    redis_disconnects,
    worker_killed,
    worker_stopped,
    worker_frozen,
)
OF_A_WEB_PROCESS = (web_frozen,)


def faults_of(mode: Mode) -> dict[str, Fault]:
    """Return what can befall a relay that runs in this way, by name."""
    found = [*OF_THE_EXCHANGE, *OF_A_WEB_PROCESS]
    if mode is Mode.SEVERAL:
        found += OF_SEVERAL
    return {fault.__name__: fault for fault in found}
