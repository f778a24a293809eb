"""A few hundred topics under load, and faults at random moments.

`FAULT_SECONDS` (default 20) says for how long, `FAULT_SEED` (default 1) which.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from relay.simulator.instruments import catalogue
from relay.simulator.topics import Category
from tests.e2e.client import Client, client
from tests.e2e.control import Control, control
from tests.e2e.reference import Book, Ticker
from tests.e2e.steps import assert_same_as_exchange, statuses
from tests.faults.house import (
    CATEGORIES,
    House,
    Web,
    Worker,
    opened,
    until,
)
from tests.processes import PATIENCE, Programs

SECONDS = float(os.environ.get("FAULT_SECONDS", "20"))
SEED = int(os.environ.get("FAULT_SEED", "1"))
SYMBOLS = {"linear": 60, "spot": 20, "inverse": 5, "option": 5}
TOPICS_PER_CLIENT = 40
CLIENTS_PER_WEB = 5
HEALED_WITHIN = 15.0  # seconds for hundreds of topics, beside all processes on one small machine
FEEDS = ("orderbook.50", "tickers", "publicTrade")
OPTION_FEEDS = ("orderbook.25", "tickers")


def topics_of(category: str) -> list[str]:
    symbols = list(catalogue(Category(category), SYMBOLS[category]))[: SYMBOLS[category]]
    feeds = OPTION_FEEDS if category == "option" else FEEDS
    return [f"{feed}.{symbol}" for symbol in symbols for feed in feeds]


class Venue:
    """Clients of both web processes, and whatever may befall them all."""

    def __init__(self, house: House, exchange: Control, stack: AsyncExitStack, seed: int) -> None:
        self.house = house
        self.exchange = exchange
        self.clients: dict[Client, tuple[Web, str]] = {}
        self.random = random.Random(seed)
        self.history: list[str] = []
        self._stack = stack

    async def fill(self, web: Web) -> None:
        """Connect the clients of a web process."""
        for number in range(CLIENTS_PER_WEB):
            category = self.random.choices(CATEGORIES, [3, 1, 1, 1])[0] if number else "linear"
            door = f"/ws?category={category}" if number % 2 else f"/v5/public/{category}"
            topics = topics_of(category)
            if not number % 2:  # trades that nobody can bring back would end it, as they must
                topics = [topic for topic in topics if not topic.startswith("publicTrade")]
            one = await self._stack.enter_async_context(client(web.server.url(door)))
            self.clients[one] = (web, category)
            chosen = self.random.sample(topics, min(TOPICS_PER_CLIENT, len(topics)))
            for start in range(0, len(chosen), 10):  # spot takes no more in one request
                await one.subscribe(*chosen[start : start + 10])

    def wanted(self) -> dict[tuple[str, str], int]:
        """Return how many clients follow each topic."""
        return Counter(
            (category, topic)
            for one, (_, category) in self.clients.items()
            for topic in one.followers
        )

    def check(self) -> None:
        """Nobody was closed, and no promise was broken; what was looked at is forgotten."""
        for one in self.clients:
            one.check()
            assert one.code is None, f"closed with {one.code} after {self.history[-3:]}"
            for follower in one.followers.values():
                del follower.texts[:-2], follower.types[:-2]
                if hasattr(follower.state, "history"):
                    follower.state.history.clear()

    # ---- faults ----

    async def fault(self) -> None:
        """Have one thing happen, and end."""
        choices: list[Callable[[], Awaitable[str]]] = [
            *(self.worker_fault,) * 4,
            *(self.web_fault,) * 3,
            *(self.redis_fault,) * 4,
            *(self.exchange_fault,) * 2,
        ]
        what = await self.random.choice(choices)()
        self.history.append(what)
        print(f"{time.strftime('%X')} {what}", flush=True)
        await self.house.restart()

    async def hold(self) -> float:
        seconds = self.random.uniform(0.2, 4)
        await asyncio.sleep(seconds)
        self.check()
        return round(seconds, 1)

    async def worker_fault(self) -> str:
        worker = self.random.choice(self.house.workers)
        how = await self.seat_fault(worker)
        return f"worker {worker.program.log.name}: {how}"

    async def seat_fault(self, seat: Worker | Web) -> str:
        how = self.random.choice(["kill", "stop", "freeze", "black hole", "cut"])
        match how:
            case "kill":
                seat.program.signal(signal.SIGKILL)
            case "stop":
                seat.program.signal(signal.SIGTERM)
                assert await seat.program.end() == 0
            case "freeze":
                seat.program.signal(signal.SIGSTOP)
            case "black hole":
                seat.cable.black_hole()
            case "cut":
                seat.cable.cut()
        return f"{how} {await self.hold()} s"

    async def web_fault(self) -> str:
        web = self.random.choice(self.house.webs)
        before = web.program
        if self.random.random() < 0.4:
            gone = [one for one, (its, _) in self.clients.items() if its is web]
            for one in gone:
                del self.clients[one]
            number = self.random.choice([signal.SIGKILL, signal.SIGTERM])
            before.signal(number)
            for one in gone:
                assert await one.until_closed() == (1006 if number is signal.SIGKILL else 4200)
            await before.end()
            seconds = await self.hold()
            await self.house.restart()
            await self.house.until_ready()
            await self.fill(web)
            return f"web {before.log.name}: {number.name} {seconds} s"
        how = self.random.choice(["freeze", "black hole", "cut"])
        if how == "freeze":
            before.signal(signal.SIGSTOP)
        elif how == "cut":
            web.cable.cut()
        else:
            web.cable.black_hole()
        return f"web {before.log.name}: {how} {await self.hold()} s"

    async def redis_fault(self) -> str:
        how = self.random.choice(
            ["stop", "kill", "freeze", "KILL pubsub", "KILL normal", "PAUSE", "FLUSHALL"]
        )
        redis = self.house.redis
        match how:
            case "stop" | "kill":
                await asyncio.to_thread(getattr(redis, how))
            case "freeze":
                assert redis.process is not None
                redis.process.send_signal(signal.SIGSTOP)
            case _:
                command = {
                    "KILL pubsub": ("CLIENT", "KILL", "TYPE", "pubsub"),
                    "KILL normal": ("CLIENT", "KILL", "TYPE", "normal"),
                    "PAUSE": ("CLIENT", "PAUSE", "3000"),
                }.get(how, ("FLUSHALL",))
                async with self.house.ask_redis() as asked:
                    await asked.execute_command(*command)
        return f"redis: {how} {await self.hold()} s"

    async def exchange_fault(self) -> str:
        category = self.random.choice(CATEGORIES)
        how = self.random.choice(["drop", "refuse_connections", "silence"])
        await self.exchange.do(how, category=category, seconds=1.0)
        if how == "refuse_connections":
            await self.exchange.do("drop", category=category)
        return f"exchange: {how} {category} {await self.hold()} s"

    # ---- the end ----

    async def assert_right(self) -> None:
        """Every book and ticker is the exchange's, demand and counts are what the clients want."""
        await self.exchange.do("pause")
        wanted = self.wanted()

        async def is_counted() -> bool:
            pictures = [await self.house.picture(web) for web in self.house.webs]
            return all(
                sum(process["clients"] for process in picture["processes"]) == len(self.clients)
                and {
                    (row["category"], row["topic"]): row["subscribers"] for row in picture["topics"]
                }
                == wanted
                for picture in pictures
            )

        with self.house.stopwatch() as watch:
            await until(self.is_subscribed_once, PATIENCE, "each topic is subscribed once")
            for one, (_, category) in self.clients.items():
                for topic in one.followers:
                    await assert_same_as_exchange(one, self.exchange, category, topic)
                if not one.is_bybit:
                    await one.until(lambda o=one: statuses(o)[-1:] in ([], ["live"]), "live")
                    assert statuses(one)[::2] == ["down"] * (len(statuses(one)) // 2)
                    assert statuses(one)[1::2] == ["live"] * (len(statuses(one)) // 2)
            self.check()
            await until(is_counted, PATIENCE, "counts are right")
        assert watch.seconds < HEALED_WITHIN
        await self.exchange.do("resume")

    async def subscribed(self) -> dict[tuple[str, str], int]:
        """Return how often each topic is subscribed at the exchange."""
        state = await self.exchange.do("state")
        return {
            (category, topic): count
            for category, counts in state["topics"].items()
            for topic, count in counts.items()
        }

    async def is_subscribed_once(self) -> bool:
        return await self.subscribed() == dict.fromkeys(self.wanted(), 1)


async def test_a_venue_survives_faults_at_random_moments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (Book, Ticker):
        monkeypatch.setattr(kind, "setback", 1)  # as the simulator greets
    simulator = Programs(tmp_path / "exchange")
    (tmp_path / "exchange").mkdir()
    (tmp_path / "house").mkdir()
    try:
        port = await simulator.simulator(
            *("--symbols", "60", "--rate", "2", "--seed", str(SEED)),
        )
        url = f"ws://127.0.0.1:{port}/v5/public"
        async with (
            opened(tmp_path / "house", url) as house,
            control(port) as exchange,
            AsyncExitStack() as stack,
        ):
            await house.repair()
            venue = Venue(house, exchange, stack, SEED)
            for web in house.webs:
                await venue.fill(web)
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                await venue.fault()
                await asyncio.sleep(venue.random.uniform(0, 3))
            await house.repair()
            await venue.assert_right()
            for one in venue.clients:
                await one.socket.close()

            async def is_idle() -> bool:
                return not await venue.subscribed()

            await until(is_idle, PATIENCE, "nothing is subscribed")
    finally:
        simulator.close()
