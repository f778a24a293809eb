"""Two workers and two web processes on a Redis, each with a cable of its own, to be broken.

    async def test_...(house: House, scene: Scene) -> None:
        worker = await house.leader()
        worker.program.signal(signal.SIGSTOP)
        ...
        await scene.assert_heals()

A house outlives the faults of a module, as a real one does: `repair` makes good what a test broke.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import re
import signal
import socket
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from redis.asyncio import Redis

from tests.e2e.client import Client, client
from tests.e2e.reference import Book, Follower, Ticker, Trades, follow
from tests.e2e.stand_in import BookFeed, StandIn, TickerFeed, TradesFeed
from tests.e2e.steps import statuses
from tests.faults.cable import Cable
from tests.processes import MANAGE, PATIENCE, Program, Programs, WebServer, run
from tests.redis_server import RedisServer
from tests.stopwatch import Stopwatch

HEALED_WITHIN = 10.0  # seconds from the end of a fault until everything is right
DEMAND_LEASE = 6.0  # seconds until a web process that says nothing is forgotten
LINGER = 1.0
SETTINGS: dict[str, Any] = {"RELAY_LINGER": str(LINGER)}
DOORS = ("/ws?category=linear", "/v5/public/linear")
STEP = 0.05  # seconds between the moves of each book
# A fault that heals by itself may be logged; whatever else raised is a defect.
EXPECTED_FAULTS = re.compile(
    r"(redis\.exceptions\.|ConnectionError|ConnectionRefusedError|ConnectionResetError"
    r"|BrokenPipeError|TimeoutError|asyncio\.exceptions\.CancelledError)"
)
CATEGORIES = ("spot", "linear", "inverse", "option")
STAFF = """
from importlib import import_module
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.core.management import call_command
call_command("migrate", verbosity=0)
user = get_user_model().objects.create_superuser("operator", "", "for-tests-only")
session = import_module(settings.SESSION_ENGINE).SessionStore()
session[SESSION_KEY] = str(user.pk)
session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session.create()
print("session", session.session_key)
"""


@dataclass(slots=True)
class Worker:
    """An upstream worker, the categories it competes for, and its way to Redis."""

    program: Program
    cable: Cable
    categories: tuple[str, ...]


@dataclass(slots=True)
class Web:
    """A web process and its way to Redis."""

    server: WebServer
    cable: Cable

    @property
    def program(self) -> Program:
        return self.server.program


class House:
    """Everything that runs, and whom to ask about it."""

    def __init__(
        self,
        programs: Programs,
        redis: RedisServer,
        exchange_url: str,
        shares: tuple[tuple[str, ...], tuple[str, ...]],
    ) -> None:
        self.shares = shares
        self.programs = programs
        self.redis = redis
        self.exchange_url = exchange_url
        self.workers: list[Worker] = []
        self.webs: list[Web] = []
        self._session = ""
        self._names = itertools.count()

    async def open(self) -> None:
        """Start everything; return when a worker leads each category."""
        await asyncio.to_thread(self._make_staff)
        for categories in self.shares:
            cable = await self._lay()
            self.workers.append(Worker(self._new_worker(cable, categories), cable, categories))
        servers = [self._new_web(cable) for cable in [await self._lay(), await self._lay()]]
        for server, cable in await asyncio.gather(*servers):
            self.webs.append(Web(server, cable))
        await self.until_led()

    @property
    def seats(self) -> list[Worker | Web]:
        """Everything of the relay's that runs, or would if it had not been broken."""
        return [*self.workers, *self.webs]

    async def close(self) -> None:
        """End everything; nobody may have complained of more than of what was broken."""
        for program in self.programs.started:
            program.may_complain = True  # judged here
        self.programs.close()
        for seat in self.seats:
            await seat.cable.close()
        for program in self.programs.started:
            assert not (found := _complaints(program.output)), found[0]

    def _make_staff(self) -> None:
        made = run(*MANAGE, "shell", "-c", STAFF, **self.programs.common)
        found = re.search(r"session (\w+)", made.stdout)
        assert found is not None, made
        self._session = found[1]

    async def _lay(self) -> Cable:
        cable = Cable(self.redis.port)
        await cable.open()
        return cable

    def _new_worker(self, cable: Cable, categories: tuple[str, ...]) -> Program:
        options = [word for name in categories for word in ("--category", name)]
        return self.programs.upstream(self.exchange_url, cable.url, *options, **SETTINGS)

    async def _new_web(self, cable: Cable) -> tuple[WebServer, Cable]:
        server = await self.programs.daphne(self.exchange_url, REDIS_URL=cable.url, **SETTINGS)
        return server, cable

    async def restart(self) -> None:
        """Mend the cables, wake who is frozen and start anew who is dead; wait for nobody."""
        if self.redis.process is None:
            await asyncio.to_thread(self.redis.start)
        assert self.redis.process is not None
        self.redis.process.send_signal(signal.SIGCONT)
        for seat in self.seats:
            seat.cable.mend()
            if seat.program.process.poll() is None:
                seat.program.signal(signal.SIGCONT)
        for worker in self.workers:
            if worker.program.process.poll() is not None:
                worker.program = self._new_worker(worker.cable, worker.categories)
        for web in self.webs:
            if web.program.process.poll() is not None:
                web.server, _ = await self._new_web(web.cable)

    async def repair(self) -> None:
        """Have two workers and two web processes that know each other, as if nothing had been."""
        await self.restart()
        for worker in self.workers:
            await until_sync(
                functools.partial(_takes_part, worker), PATIENCE, "the worker takes part"
            )
        await self.until_led()
        await until(self._all_report, PATIENCE, "both web processes report")
        await self.until_ready()

    async def _all_report(self) -> bool:
        """Whether each web process shows all of them that live and no other, and who leads now."""
        living = {str(web.program.process.pid) for web in self.webs}
        workers = {self.name(worker) for worker in self.workers}
        pictures = [await self.picture(web) for web in self.webs]  # the first asking starts it
        return all(
            {process["name"].rpartition(":")[2] for process in picture["processes"]} == living
            and {known["worker"] for known in picture["upstream"].values()} <= workers
            for picture in pictures
        )

    def name(self, worker: Worker) -> str:
        return f"{socket.gethostname()}:{worker.program.process.pid}"

    def stopwatch(self) -> Stopwatch:
        """A stopwatch for everything that takes part."""
        pids = [seat.program.process.pid for seat in self.seats]
        if self.redis.process is not None:
            pids.append(self.redis.process.pid)
        return Stopwatch(*pids)

    # ---- asking ----

    @asynccontextmanager
    async def ask_redis(self) -> AsyncIterator[Redis]:
        """A client of an operator, past all cables."""
        redis = Redis.from_url(self.redis.url)
        try:
            yield redis
        finally:
            await redis.aclose()

    async def picture(self, web: Web) -> dict[str, Any]:
        """Return `live.json` as one web process answers it."""
        return await asyncio.to_thread(
            _get, web, "/admin/relay/livetopic/live.json", f"sessionid={self._session}"
        )

    async def readiness(self, web: Web) -> dict[str, Any]:
        """Return what `/readyz` of a web process says."""
        return await asyncio.to_thread(_get, web, "/readyz", "")

    async def until_ready(self) -> None:
        """Return when each living web process says that it is ready."""

        async def are_ready() -> bool:
            living = [web for web in self.webs if web.program.process.poll() is None]
            return all([(await self.readiness(web)).get("ready") for web in living])

        await until(are_ready, PATIENCE, "the web processes are ready")

    async def until_cut_off(self, web: Web) -> None:
        """Return when a web process says that Redis is out of its reach."""

        async def is_known() -> bool:
            faults = (await self.readiness(web)).get("faults", [])
            return any(fault["what"] == "redis" for fault in faults)

        await until(is_known, PATIENCE, "/readyz says that Redis is away")

    async def leader(self, category: str = "linear") -> Worker:
        """Return the worker that leads, as a living web process has heard."""
        for web in self.webs:
            if web.program.process.poll() is None:
                name = (await self.picture(web))["upstream"][category]["worker"]
                for worker in self.workers:
                    if self.name(worker) == name:
                        return worker
        raise AssertionError(f"nobody leads {category}")

    async def standby(self, category: str = "linear") -> Worker:
        """Return the worker that does not lead."""
        leader = await self.leader(category)
        return next(worker for worker in self.workers if worker is not leader)

    async def until_led(self) -> None:
        """Return when Redis has a leader for each category."""

        async def is_led() -> bool:
            async with self.ask_redis() as redis:
                keys = [f"marketfeed:leader:{name}" for name in CATEGORIES]
                return bool(await redis.exists(*keys) == len(keys))

        await until(is_led, PATIENCE, "each category has a leader")

    # ---- clients and a market ----

    @asynccontextmanager
    async def scene(self, exchange: StandIn) -> AsyncIterator[Scene]:
        """A market that moves, and clients at both doors of both web processes."""
        async with AsyncExitStack() as stack:
            scene = Scene(self, exchange, stack, f"F{next(self._names)}")
            try:
                await scene.begin()
                yield scene
            finally:
                await scene.market.stop()
                await self.repair()
        await until_sync(
            lambda: not exchange.topics("linear"),
            PATIENCE,
            lambda: f"{exchange.topics('linear')}",
        )


class Market:
    """A few topics of the stand-in that move all the time."""

    def __init__(self, exchange: StandIn, name: str) -> None:
        self.exchange = exchange
        self.shared = BookFeed(f"{name}SHARED")
        self.own = [BookFeed(f"{name}OWN{number}") for number in range(2)]
        self.fresh = [BookFeed(f"{name}NEW{number}") for number in range(2)]
        self.ticker = TickerFeed(f"{name}SHARED")
        self.trades = TradesFeed(f"{name}SHARED")
        self.traded_at: list[float] = []
        self._task: asyncio.Task[None] | None = None
        feeds: list[BookFeed | TickerFeed] = [*self.books, self.ticker]
        for feed in feeds:
            exchange.feeds["linear", feed.topic] = feed.greeting

    @property
    def books(self) -> list[BookFeed]:
        return [self.shared, *self.own, *self.fresh]

    def start(self) -> None:
        self._task = asyncio.create_task(self._move())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def trade(self, rows: int = 1) -> None:
        self.traded_at += [time.monotonic()] * rows
        await self.exchange.say("linear", self.trades.topic, self.trades.trade(rows))

    async def _move(self) -> None:
        for number in itertools.count():
            for book in self.books:
                await self.exchange.say("linear", book.topic, book.delta())
            await self.exchange.say("linear", self.ticker.topic, self.ticker.delta())
            if number % 8 == 0:
                await self.trade()
            await asyncio.sleep(STEP)


class Scene:
    """A market, its readers, and what must be true of both when a fault is over.

    Attributes:
        clients: Those that are to stay, with the web process each is connected to.
        early: Those of them that were there before the fault.
    """

    def __init__(self, house: House, exchange: StandIn, stack: AsyncExitStack, name: str) -> None:
        self.house = house
        self.exchange = exchange
        self.market = Market(exchange, name)
        self.clients: dict[Client, Web] = {}
        self.early: list[Client] = []
        self._stack = stack
        self._wanted: dict[Client, list[str]] = {}
        self._fault_at = 0.0

    async def begin(self) -> None:
        """Connect a client at each door of each web process, and wait until all is live."""
        market = self.market
        market.start()
        for number, web in enumerate(self.house.webs):
            for door in DOORS:
                own = market.own[number].topic
                topics = [market.shared.topic, own, market.ticker.topic, market.trades.topic]
                self.early.append(await self.join(web, door, *topics))
        for one in self.early:
            for topic in self._wanted[one]:
                follower = one.followers[topic]
                await one.until(functools.partial(_moves, follower), f"{topic} moves")
        self._fault_at = time.monotonic()

    async def join(self, web: Web, door: str, *topics: str) -> Client:
        """Connect and subscribe a further client, which must be acknowledged."""
        one = await self._stack.enter_async_context(client(web.server.url(door)))
        await one.subscribe(*topics)
        self.clients[one] = web
        self._wanted[one] = list(topics)
        return one

    async def late(self, *, fresh: bool = True) -> list[Client]:
        """Connect a client to each web process that lives, while the fault lasts.

        Args:
            fresh: It also wants a topic that nobody had.
        """
        market, made = self.market, []
        for number, web in enumerate(self.house.webs):
            if web.program.process.poll() is None:
                topics = [market.trades.topic, market.shared.topic]
                if fresh:
                    topics.append(market.fresh[number].topic)
                made.append(await self.join(web, DOORS[number], *topics))
        return made

    async def refused(self, web: Web) -> None:
        """A new topic is refused at once at a web process that can tell no worker."""
        async with client(web.server.url(DOORS[0])) as one:
            for number in range(20):  # until the outage is known there
                request = {"method": "subscribe", "topic": "tickers", "symbol": f"NONE{number}"}
                reply = await one.ask(request)
                if not reply["success"]:
                    assert reply["error"]["code"] == "upstream_unavailable"
                    return
        raise AssertionError("a topic was accepted that nobody can be told of")

    def lost(self, web: Web) -> list[Client]:
        """Return the clients of a web process that died; they are not expected to be served."""
        gone = [one for one, its in self.clients.items() if its is web]
        for one in gone:
            del self.clients[one]
            del self._wanted[one]
        self.early = [one for one in self.early if one not in gone]
        return gone

    def topics(self) -> list[str]:
        """Return what the clients want, each topic once."""
        return sorted({topic for topics in self._wanted.values() for topic in topics})

    # ---- the fault is over ----

    async def until_served_anew(self, old: object) -> None:
        """Return when every client has data of another connection than `old`."""
        topic = self.market.shared.topic

        def lines() -> list[object]:
            return [line for line in self.exchange.followers("linear", topic) if line is not old]

        await until_sync(lines, PATIENCE, "another connection follows the topic")
        u = self.market.shared.u
        for one in self.early:
            await one.until_at(topic, u)

    async def assert_heals(
        self, *, interrupted: bool | None, trades_may_miss: bool = False, counted: bool = True
    ) -> float:
        """Everything is right within `HEALED_WITHIN` of now; return the seconds it took.

        Args:
            interrupted: Whether clients of `/ws` are told that upstream was down; None: may be.
            trades_may_miss: Whether trades were made while no worker listened to the exchange.
            counted: Whether the counts over all processes are looked at.
        """
        with self.house.stopwatch() as watch:
            await asyncio.sleep(0.5)  # it also has to be right while the market moves
            await self.market.stop()
            exchange, wanted = self.exchange, self.topics()
            await until_sync(
                lambda: sorted(exchange.topics("linear")) == wanted,
                PATIENCE,
                lambda: f"each topic is subscribed once: {Counter(exchange.topics('linear'))}",
            )
            for one, topics in self._wanted.items():
                for topic in topics:
                    await self._assert_right(one, topic)
            await self.market.trade()
            for one, topics in self._wanted.items():
                if self.market.trades.topic in topics:
                    await self._assert_traded(one, trades_may_miss)
            await self._assert_told(interrupted)
            took = watch.seconds
            if counted:
                await until(self._is_counted, PATIENCE, "counts are right")
        assert watch.seconds < HEALED_WITHIN
        for one in self.clients:
            one.check()
            assert one.code is None
        self.market.start()
        return took

    async def _assert_right(self, one: Client, topic: str) -> None:
        market = self.market
        if topic == market.trades.topic:
            return
        follower = one.followers[topic]
        if topic == market.ticker.topic:
            truth = follow(topic, market.ticker.greeting()).state
        else:
            book = next(book for book in market.books if book.topic == topic)
            truth = follow(topic, [book.snapshot()]).state
        at = truth.position
        await one.until(lambda: follower.position == at, f"{topic} at {at}")
        if isinstance(truth, Ticker):
            assert isinstance(follower.state, Ticker)
            assert follower.state.fields == truth.fields
        else:
            assert isinstance(truth, Book)
            assert isinstance(follower.state, Book)
            assert follower.state.sides == truth.sides

    async def _assert_traded(self, one: Client, may_miss: bool) -> None:
        """Every trade since its first has come or was counted, the last one came."""
        topic = self.market.trades.topic
        follower = one.followers[topic]
        state = follower.state
        assert isinstance(state, Trades)
        last = len(self.market.traded_at)

        def got() -> list[int]:
            return sorted(int(name.split("-")[0]) for name in state.ids)

        def told() -> int:
            gaps = [n["dropped"] for n in one.notices if n["type"] == "gap" and n["topic"] == topic]
            return sum(gaps)

        def missing() -> list[int]:
            return sorted(set(range(got()[0], last + 1)) - set(got()))

        def is_whole() -> bool:
            if not got() or got()[-1] != last:
                return False
            if may_miss:
                return all(self.market.traded_at[n - 1] >= self._fault_at for n in missing())
            return len(missing()) == told()

        what = "every trade came or was counted"
        try:
            await one.until(is_whole, what)
        except AssertionError as fault:
            lacks = missing() if got() else None
            raise AssertionError(f"{fault}; missing {lacks}, told {told()}") from None

    async def _assert_told(self, interrupted: bool | None) -> None:
        for one in self.clients:
            if one.is_bybit:
                assert one.notices == []
                continue
            told = statuses(one)
            if interrupted and one in self.early:
                await one.until(functools.partial(_is_live, one), "status live")
                told = statuses(one)
                assert told[::2] == ["down"] * (len(told) // 2)
                assert told[1::2] == ["live"] * (len(told) // 2)
            elif interrupted is False:
                assert told == [], one.notices

    async def _is_counted(self) -> bool:
        """Whether every living web process shows the sums over all of them."""
        living = [web for web in self.house.webs if web.program.process.poll() is None]
        subscribers = Counter(topic for topics in self._wanted.values() for topic in topics)
        for web in living:
            picture = await self.house.picture(web)
            clients = sum(process["clients"] for process in picture["processes"])
            topics = {row["topic"]: row["subscribers"] for row in picture["topics"]}
            if len(picture["processes"]) != len(living) or clients != len(self.clients):
                return False
            if topics != subscribers or {row["state"] for row in picture["topics"]} != {"live"}:
                return False
        return True


@asynccontextmanager
async def opened(
    folder: Path,
    exchange_url: str,
    *,
    shares: tuple[tuple[str, ...], tuple[str, ...]] = (CATEGORIES, CATEGORIES),
) -> AsyncIterator[House]:
    """A house that is closed at the end, whatever happened in it.

    Args:
        shares: The categories of each worker; by default each competes for all.
    """
    with RedisServer(folder) as redis:
        house = House(Programs(folder), redis, exchange_url, shares)
        try:
            await house.open()
            yield house
        finally:
            await house.close()


async def until(
    condition: Callable[[], Awaitable[bool]], seconds: float, what: str | Callable[[], str]
) -> None:
    """Return when the condition holds; it is asked again and again."""
    deadline = time.monotonic() + seconds
    while not await condition():
        words = what if isinstance(what, str) else what()
        assert time.monotonic() < deadline, f"not within {seconds:.1f} s: {words}"
        await asyncio.sleep(0.05)


async def until_sync(
    condition: Callable[[], object], seconds: float, what: str | Callable[[], str]
) -> None:
    """Return when the condition holds."""

    async def holds() -> bool:
        return bool(condition())

    await until(holds, seconds, what)


def _moves(follower: Follower) -> bool:
    return len(follower.texts) > 2


def _is_live(one: Client) -> bool:
    return statuses(one)[-1:] == ["live"]


def _takes_part(worker: Worker) -> bool:
    """Whether a worker leads each of its categories or waits to."""
    output = worker.program.output
    return all(
        re.search(rf"{name}: (acquired leadership|standing by)", output)
        for name in worker.categories
    )


def _get(web: Web, path: str, cookie: str) -> dict[str, Any]:
    request = urllib.request.Request(f"http://{web.server.host}{path}", headers={"Cookie": cookie})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            body = answer.read()
    except HTTPError as refused:  # such as 503 of /readyz
        with contextlib.closing(refused):
            body = refused.read()
    found = json.loads(body)
    assert isinstance(found, dict)
    return found


def _complaints(output: str) -> list[str]:
    """Return the tracebacks that no broken network explains, and what asyncio found unawaited."""
    found = []
    for part in output.split("Traceback (most recent call last):\n")[1:]:
        ends = [
            line for line in part.splitlines() if line and not line.startswith((" ", "\t", "|"))
        ]
        if not ends or not EXPECTED_FAULTS.match(ends[0]):
            found.append(part[:4000])
    if "was never retrieved" in output or "was never awaited" in output:
        found.append(output[-4000:])
    return found
