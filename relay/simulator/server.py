"""The simulated exchange on a socket: four categories, a clock, faults, a control endpoint.

    async with Simulator(seed=1) as simulator:
        simulator.url  # ws://127.0.0.1:PORT/v5/public

Frames are written to the transports directly, several at once: the market of 2,000 topics
must leave most of a core to the relay under test.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from heapq import heappop, heappush
from http import HTTPStatus
from itertools import count
from random import Random
from types import TracebackType
from typing import Any, Self, cast
from zlib import crc32

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from relay.lib.clock import wall_ms
from relay.simulator.control import Controls, random_command
from relay.simulator.exchange import Listing
from relay.simulator.replay import Recording
from relay.simulator.topics import Category
from relay.simulator.venue import Connection, Socket, Venue

logger = logging.getLogger(__name__)

PATH = "/v5/public"
CONTROL_PATH = "/control"
DEFAULT_RATE = 10.0  # steps in a second for each symbol
UNSENT_LIMIT = 32 * 2**20  # bytes waiting for one socket: a slower reader is cut off
TICK = 0.01  # seconds between two looks at which market is due: several share one write
STEPS_PER_TURN = 100  # between two turns of the event loop, about 5 ms
LATE_LIMIT = 1.0  # seconds: a market that is later gives up the steps it missed
REPUSH_CHECK = 0.25  # seconds between two searches for quiet level 1 topics
REPLAY_BURST = 256  # frames between two looks at what the socket has not taken yet
REPLAY_UNSENT = 2**20  # bytes: a replay waits for the reader beyond this
REPLAY_POLL = 0.002  # seconds between two looks at a full socket


class Simulator(Venue):
    """The exchange while it runs.

    Attributes:
        port: The one it listens on, once entered.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        seed: int = 1,
        symbols: int | None = None,
        rate: float = DEFAULT_RATE,
        replay: Recording | None = None,
        speed: float = 1.0,
        refuse: Iterable[tuple[Category, str]] = (),
        faults: Mapping[str, float] | None = None,
        clock: Callable[[], int] = wall_ms,
        unsent_limit: int = UNSENT_LIMIT,
    ) -> None:
        """Prepare, listening to nothing yet.

        Args:
            port: 0 for any free one.
            symbols: How many in each category; None for a handful of well-known ones.
            rate: Steps of each market in a second.
            speed: Of a replay, times the recorded one; 0 is as fast as possible.
            faults: Seconds between two faults of that name, on a random target.
            clock: Unix ms, for what messages say; with the same readings the same seed
                gives the same bytes.
        """
        super().__init__(
            seed=seed,
            symbols=symbols,
            rate=rate,
            replay=replay,
            speed=speed,
            refuse=refuse,
            clock=clock,
            unsent_limit=unsent_limit,
        )
        self.port = port
        self.controls = Controls(self)
        self._interval = 1 / rate
        self._scheduled_faults = dict(faults or {})
        self._turns: list[tuple[float, int, Listing]] = []
        self._order = count()
        self._tasks: list[asyncio.Task[None]] = []
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """The base address, to which `/{category}` is appended."""
        return f"ws://127.0.0.1:{self.port}{PATH}"

    @property
    def control_url(self) -> str:
        """Where commands for tests are taken."""
        return f"ws://127.0.0.1:{self.port}{CONTROL_PATH}"

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._server = await serve(
            self._handle,
            "127.0.0.1",
            self.port,
            process_request=self._admit,
            create_connection=Connection,
            compression=None,
            ping_interval=None,  # Bybit sends no protocol pings
            close_timeout=1,
            backlog=4096,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]
        self._start(self._run_markets())
        for name, seconds in self._scheduled_faults.items():
            self._start(self._misbehave(name, seconds))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        assert self._server is not None
        for connection in list(self._server.all_connections):
            if hasattr(connection, "transport"):
                connection.transport.abort()
        self._server.close()
        await self._server.wait_closed()

    def _start(self, work: Any) -> None:
        task: asyncio.Task[None] = self._loop.create_task(work)
        task.add_done_callback(_report)
        self._tasks.append(task)

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        path = request.path.partition("?")[0]
        if path == CONTROL_PATH:
            return None
        category = _category_of(path)
        if category is None:
            return connection.respond(HTTPStatus.NOT_FOUND, "no such path\n")
        if self._loop.time() < self.faults[category].refusing_until:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "refused by order\n")
        return None

    async def _handle(self, connection: ServerConnection) -> None:
        request = connection.request
        category = _category_of(request.path.partition("?")[0]) if request else None
        try:
            if category is None:
                await self.controls.serve(connection)
            else:
                await self._serve(cast(Connection, connection), category)
        except ConnectionClosed:
            pass

    async def _serve(self, connection: Connection, category: Category) -> None:
        socket = Socket(connection, category, self)
        connection.is_silent = lambda: self.is_silent(category)
        tally = self.tallies[category]
        tally.opened += 1
        self.sockets[socket] = None
        logger.info("%s socket %s opened", category, socket.conn_id)
        player = self._loop.create_task(self._play(socket)) if self.replay else None
        try:
            async for message in connection:
                text = message if isinstance(message, str) else message.decode(errors="replace")
                now_ms = self.clock()
                tally.requests.append({"time": now_ms, "conn_id": socket.conn_id, "text": text})
                if not self.is_silent(category):
                    socket.session.receive(text, now_ms)
                    self._wake()
                    socket.played.set()
        finally:
            del self.sockets[socket]
            if player is not None and self.replay is not None:
                player.cancel()
                await asyncio.gather(player, return_exceptions=True)
                self.replay.forget(socket)
            socket.close()
            logger.info("%s socket %s closed", category, socket.conn_id)

    async def _play(self, socket: Socket) -> None:
        """Send a recording to one socket, no faster than it reads."""
        assert self.replay is not None
        while True:
            socket.played.clear()
            if socket.waiting > REPLAY_UNSENT:
                await asyncio.sleep(REPLAY_POLL)
                continue
            wait = self.replay.play(socket, self.clock(), REPLAY_BURST)
            if wait is None and self.replay.tell_end(socket, self.clock()):
                words = "%s socket %s: the replay has ended; subscribing again plays it again"
                logger.info(words, socket.category, socket.conn_id)
            if wait == 0:
                await asyncio.sleep(0)
                continue
            try:
                async with asyncio.timeout(wait):
                    await socket.played.wait()
            except TimeoutError:
                pass

    def _wake(self) -> None:
        """Give a time to every market that a reader began to follow.

        The moments of different markets are spread over the interval, always the same way.
        """
        now = self._loop.time()
        for listing in self.exchange.woken:
            if not listing.is_scheduled:
                listing.is_scheduled = True
                share = crc32(listing.instrument.symbol.encode()) % 997 / 997
                listing.due = now + share * self._interval
                heappush(self._turns, (listing.due, next(self._order), listing))
        self.exchange.woken.clear()

    async def _run_markets(self) -> None:
        repush_at = 0.0
        while True:
            now = self._loop.time()
            steps = self._step_due(now)
            if now >= repush_at:
                self.exchange.repush(self.clock())
                repush_at = now + REPUSH_CHECK
            await asyncio.sleep(0 if steps == STEPS_PER_TURN else TICK)

    def _step_due(self, now: float) -> int:
        steps = 0
        while self._turns and self._turns[0][0] <= now and steps < STEPS_PER_TURN:
            _, _, listing = heappop(self._turns)
            if not listing.lines:
                listing.is_scheduled = False
                continue
            if not self.is_paused:
                self.exchange.step(listing, self.clock())
            steps += 1
            listing.due += self._interval
            if now - listing.due > LATE_LIMIT:
                listing.due = now
            heappush(self._turns, (listing.due, next(self._order), listing))
        return steps

    async def _misbehave(self, name: str, seconds: float) -> None:
        """Commit one fault again and again, on targets that the seed chooses."""
        random = Random(f"{self.seed}:fault:{name}")
        while True:
            await asyncio.sleep(seconds)
            command = random_command(name, self, random)
            if command is not None:
                logger.info("fault: %s -> %s", command, self.controls.do(command))


def _category_of(path: str) -> Category | None:
    base, _, name = path.rpartition("/")
    return Category(name) if base == PATH and name in set(Category) else None


def _report(task: asyncio.Task[None]) -> None:
    """Be loud about a task that died of a fault of ours."""
    if not task.cancelled() and (fault := task.exception()) is not None:
        logger.error("the simulator broke", exc_info=fault)
