"""The relay as its documentation says to run it, over a simulated exchange.

`Mode.ONE` is a single process without Redis; `Mode.SEVERAL` is two web processes and two upstream
workers on a Redis of their own. No setting has another value than its default, unless the caller
of `opened` says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from tests.churn import inside
from tests.churn.inside import Look
from tests.e2e.control import Control, control
from tests.faults.house import STAFF
from tests.processes import MANAGE, PATIENCE, Program, Programs, WebServer, run
from tests.redis_server import RedisServer

CATEGORIES = ("spot", "linear", "inverse", "option")
SHOWN = re.compile(
    r"^marketfeed_((?:clients|clients_backlogged|clients_lagging|unsent_bytes|subscriptions|topics)"
    r"(?:\{[^}]*\})?) (\S+)$",
    re.MULTILINE,
)
LEADER = r'marketfeed_upstream_leader{{category="{}",worker="[^"]*:(\d+)"}} 1'


class Mode(StrEnum):
    """How the relay runs."""

    ONE = "one"
    SEVERAL = "several"


class House:
    """Everything that runs.

    Attributes:
        webs: The web processes.
        workers: The upstream workers; none where the worker is in the web process.
        exchange: The way to tell the simulated exchange what to do.
        cookie: Of an operator who has logged in.
    """

    def __init__(
        self,
        mode: Mode,
        folder: Path,
        programs: Programs,
        redis: RedisServer | None,
        settings: dict[str, str],
    ) -> None:
        self.mode = mode
        self.programs = programs
        self.redis = redis
        self.webs: list[WebServer] = []
        self.workers: list[Program] = []
        self.exchange: Control
        self.cookie = ""
        self._settings = settings
        self._sockets = folder / "inside"
        self._upstream_url = ""

    async def open(self, exchange_port: int, exchange: Control) -> None:
        """Start everything; return when each category is served."""
        self.exchange = exchange
        self.cookie = f"sessionid={await asyncio.to_thread(self._make_staff)}"
        self._upstream_url = f"ws://127.0.0.1:{exchange_port}/v5/public"
        self._sockets.mkdir()
        if self.redis is None:
            self.webs.append(await self.programs.daphne(self._upstream_url, **self._variables()))
            return
        self.workers += [self.new_worker() for _ in range(2)]
        starting = [self.programs.daphne(self._upstream_url, **self._variables()) for _ in range(2)]
        self.webs += await asyncio.gather(*starting)
        await self.until_led()

    def _make_staff(self) -> str:
        """Have an operator logged in; return the key of the session."""
        made = run(*MANAGE, "shell", "-c", STAFF, **self.programs.common)
        found = re.search(r"session (\w+)", made.stdout)
        assert found is not None, made
        return found[1]

    def _variables(self) -> dict[str, Any]:
        found = {"PYTHONPATH": str(inside.HOOK), "CHURN_INSIDE": str(self._sockets)}
        found |= self._settings
        return found | ({"REDIS_URL": self.redis.url} if self.redis else {})

    def new_worker(self) -> Program:
        """Start one more upstream worker."""
        variables = self._variables()
        return self.programs.upstream(self._upstream_url, variables.pop("REDIS_URL"), **variables)

    async def until_led(self) -> None:
        """Return when Redis has a leader for each category."""
        keys = {f"marketfeed:leader:{name}" for name in CATEGORIES}
        async with self.ask_redis() as redis:

            async def is_led() -> bool:
                return keys <= {key.decode() for key in await redis.keys()}

            await until_so(is_led, "each category has a leader")

    async def leader(self, category: str) -> Program:
        """Return the worker that leads a category, as a web process shows it."""
        found: list[Program] = []

        async def is_known() -> bool:
            text = await asyncio.to_thread(_metrics, self.webs[0])
            pids = re.findall(LEADER.format(category), text)
            found[:] = [one for one in self.workers if pids == [str(one.process.pid)]]
            return bool(found)

        await until_so(is_known, f"a worker leads {category}")
        return found[0]

    @contextlib.asynccontextmanager
    async def ask_redis(self) -> AsyncIterator[Any]:
        """A client of an operator; its types leave open whether names are text."""
        assert self.redis is not None
        redis = Redis.from_url(self.redis.url)
        try:
            yield redis
        finally:
            await redis.aclose()

    # ---- looking ----

    def pids(self) -> dict[str, list[int]]:
        """Return the processes by their role."""
        return {
            "web": [web.program.process.pid for web in self.webs],
            "worker": [worker.process.pid for worker in self.workers],
        }

    async def look(self, *, collect: bool) -> Look:
        """Return how much there is of everything, of all processes of a role together.

        Args:
            collect: Whether the processes run their garbage collectors before.
        """
        found: dict[str, float] = defaultdict(float)
        for role, pids in self.pids().items():
            found[f"{role}: processes"] = len(pids)
            for pid in pids:
                question = "collect" if collect else "count"
                answer = await inside.ask(self._sockets, pid, question)
                look = inside.flat(answer, is_collected=collect, is_counted=role == "web")
                files = inside.files(pid, look["pooled connections"])
                for name, number in (look | files).items():
                    found[f"{role}: {name}"] += number
        for web in self.webs:
            for name, number in SHOWN.findall(await asyncio.to_thread(_metrics, web)):
                found[f"web: {name}"] += float(number)
        found.update(await self._look_at_exchange())
        if self.redis is not None:
            found.update(await self._look_at_redis())
        return dict(found)

    async def clients(self) -> int:
        """Return how many clients the web processes have."""
        numbers = [
            float(number)
            for web in self.webs
            for name, number in SHOWN.findall(await asyncio.to_thread(_metrics, web))
            if name.startswith("clients{")
        ]
        return int(sum(numbers))

    async def _look_at_exchange(self) -> Look:
        state = await self.exchange.do("state")
        return {
            f"exchange: upstream {category} {topic}": number
            for category, topics in state["topics"].items()
            for topic, number in topics.items()
        }

    async def _look_at_redis(self) -> Look:
        async with self.ask_redis() as redis:
            channels = [name.decode() for name in await redis.pubsub_channels()]
            keys = [key.decode() for key in await redis.keys()]
            clients = await redis.client_list()
        found = Counter(f"redis: redis channel {_bare(name)}" for name in channels)
        found.update(f"redis: redis key {key}" for key in keys)
        # Those that have not subscribed are of pools, which the processes tell themselves.
        found["redis: redis clients"] = sum("P" in client["flags"] for client in clients)
        return dict(found)

    async def stops(self) -> dict[str, float]:
        """Return the longest stop of a loop since the last look, in seconds, by role."""
        longest: dict[str, float] = {}
        for role, pids in self.pids().items():
            for pid in pids:
                found = (await inside.ask(self._sockets, pid, "stops"))["stops"]
                longest[role] = max(longest.get(role, 0.0), *found, 0.0)
        return longest

    def memory(self) -> dict[str, float]:
        """Return the megabytes of the largest process of each role."""
        return {
            role: max(inside.memory(pid) for pid in pids)
            for role, pids in self.pids().items()
            if pids
        }


async def until_so(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Return when the condition holds; it is asked again and again.

    Raises:
        AssertionError: it does not for very long; `what` was awaited.
    """
    deadline = time.monotonic() + PATIENCE
    while not await condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {what}"
        await asyncio.sleep(0.05)


def _bare(channel: str) -> str:
    """Return the name of a channel without what is made up anew for each one."""
    return re.sub(r"[0-9a-f]{32}", "*", channel)


def _metrics(web: WebServer) -> str:
    with urllib.request.urlopen(f"http://{web.host}/metrics", timeout=PATIENCE) as answer:
        text: str = answer.read().decode()
    return text


@contextlib.asynccontextmanager
async def opened(
    mode: Mode, folder: Path, seed: int, settings: dict[str, str] | None = None
) -> AsyncIterator[House]:
    """A relay that runs, of which nothing is left afterwards.

    Args:
        settings: Environment variables of its processes, for values other than the defaults.
    """
    programs = Programs(folder)
    programs.common["PYTHONUNBUFFERED"] = "1"
    with contextlib.ExitStack() as stack:
        stack.callback(programs.close)
        redis = stack.enter_context(RedisServer(folder)) if mode is Mode.SEVERAL else None
        house = House(mode, folder, programs, redis, settings or {})
        port = await programs.simulator("--seed", str(seed))
        async with control(port) as exchange:
            await house.open(port, exchange)
            try:
                yield house
            finally:
                # Processes go first: none is to complain that what it needs is gone.
                for program in reversed(programs.started):
                    program.kill()
