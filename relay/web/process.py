"""What one web process has: its hub, its clients, and the upstream worker where there is no Redis.

Daphne tells an application neither that it starts nor that it stops, so everything begins and
ends by hooks of Twisted's reactor; under any other server, with its first event.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import resource
import time
import weakref
from collections import Counter

from relay import conf
from relay.downstream.close_codes import CloseCode
from relay.downstream.outbound import daphne_connections, trial
from relay.downstream.runner import HubRunner
from relay.downstream.session import ClientSession
from relay.lib import timing
from relay.lib.tasks import cancel_all, run_forever
from relay.ops.service import LiveService
from relay.telemetry.loop_lag import watch_loop
from relay.telemetry.telemetry import Telemetry
from relay.upstream.worker import UpstreamWorker
from relay.web import reactor
from relay.web.addresses import counted_as
from relay.web.siblings import warn_of_siblings

logger = logging.getLogger(__name__)

# The garbage collector. A message is decoded into many small values that die at once: a young
# collection each 700 of them took 9 % of the processor; 10,000 objects take some 5 ms.
# A client is 100 objects that live for hours, and collecting the old generation goes through all
# of them: 0.4 s with 3,000 clients. When it leaves, reference counting frees it. So after each
# 250 new clients what is garbage is collected, in some 30 ms, and all that is left is frozen, which
# means that no later collection visits it.
GC_THRESHOLDS = (10_000, 10, 10)
FREEZE_AFTER = 250  # clients
# A client that left and is still there after a while is in a cycle that this program overlooked.
# If many are, the collector is to see frozen objects again, whatever time it takes.
LEFT_BEHIND = 500  # clients
LEAVING = 10.0  # seconds
LOOK = 1.0  # seconds between looks at idle and at slow clients
GOODBYE_STEP = 0.05  # seconds


class WebProcess:
    """The parts of this process that live as long as it does.

    Attributes:
        telemetry: What this process records.
        clients: Those that were let in.
        live: What is done for operators.
        worker: The upstream worker, if it runs in this process.
        ways: How many clients there are, by endpoint and by the way their messages leave.
        is_stopping: Whether new clients are to be refused.
    """

    def __init__(self) -> None:
        self.telemetry = Telemetry.fresh()
        self.clients: dict[ClientSession, None] = {}  # in the order in which they came
        self.runner = HubRunner(self.telemetry)
        self.worker = None if conf.current().redis_urls else UpstreamWorker(self.telemetry)
        self.is_stopping = False
        self._backlogged: set[ClientSession] = set()
        self.ways: Counter[tuple[str, str]] = Counter()
        self.live = LiveService(self.telemetry, self.runner, self.clients, self._backlogged)
        self._addresses: Counter[str] = Counter()
        self._owns_process = conf.owns_process()
        self._unfrozen = 0  # clients
        self._last_frozen = 0  # the number of the last client that was frozen
        self._gone: weakref.WeakSet[ClientSession] = weakref.WeakSet()
        self._gone_before: weakref.WeakSet[ClientSession] = weakref.WeakSet()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start everything."""
        loop = asyncio.get_running_loop()
        ports = reactor.ports()
        if ports:
            trial.passed()  # logs at start, not with the first client, if it did not
        if self._owns_process:
            gc.freeze()  # what is there now stays for good
            gc.set_threshold(*GC_THRESHOLDS)
            _allow_many_files()
        if self._owns_process and ports:
            daphne_connections.adopt(ports)
            reactor.bound_turns()
            reactor.raise_backlog()
        self.runner.start()
        self.live.start()
        steps = {
            "slow and idle clients": self._look_after_clients,
            "event loop lag": self._watch_loop,
        }
        if self.worker is not None:
            warn_of_siblings(conf.current().upstream_url, conf.current().prefix)
            steps["embedded worker"] = self.worker.run
        self._tasks += [
            loop.create_task(run_forever(step, name), name=name) for name, step in steps.items()
        ]

    def has_place(self, address: str | None) -> bool:
        """Whether one more client of that address may come in."""
        settings = conf.current()
        if self.is_stopping or len(self.clients) >= settings.max_connections:
            return False
        if address is None:
            return True
        return self._addresses[counted_as(address)] < settings.max_connections_per_address

    def backlogged(self) -> list[ClientSession]:
        """Return the clients whose sockets have not accepted everything. Safe from any thread."""
        return list(self._backlogged)

    def add(self, client: ClientSession) -> None:
        """Count a client in."""
        self.clients[client] = None
        client.backlogged_in = self._backlogged
        self.ways[client.endpoint.value, client.outbound.way] += 1
        if client.address is not None:
            self._addresses[counted_as(client.address)] += 1
        self._unfrozen += 1
        if self._owns_process and self._unfrozen >= FREEZE_AFTER:
            self._freeze(client.number)

    def remove(self, client: ClientSession) -> None:
        """Count a client out, once."""
        if client not in self.clients:
            return
        del self.clients[client]
        self._gone.add(client)
        if client.number > self._last_frozen:
            self._unfrozen -= 1
        self.ways[client.endpoint.value, client.outbound.way] -= 1
        if client.address is not None:
            counted = counted_as(client.address)
            self._addresses[counted] -= 1
            if not self._addresses[counted]:
                del self._addresses[counted]

    def _freeze(self, last: int) -> None:
        """Collect the garbage there is, and exempt what lives from all collections."""
        gc.collect()
        gc.freeze()
        self._unfrozen = 0
        self._last_frozen = last

    def look_after_the_gone(self) -> None:
        """Have clients collected that left and were not freed; call every `LEAVING` seconds."""
        if self._owns_process and len(self._gone_before) > LEFT_BEHIND:
            logger.error(
                "%d clients left and are still in memory; collecting them stops this process "
                "for a while",
                len(self._gone_before),
            )
            gc.unfreeze()
            self._freeze(self._last_frozen)
        self._gone_before, self._gone = self._gone, weakref.WeakSet()

    def refuse_newcomers(self) -> None:
        """Begin to stop: from here on no client is let in, and `/readyz` says so.

        This must happen at once: Daphne cancels all consumers in the same breath, and those must
        leave their clients to `stop`.
        """
        self.is_stopping = True

    async def stop(self) -> None:
        """Say goodbye to the clients and end everything, within four seconds."""
        self.refuse_newcomers()
        await self._say_goodbye()
        await cancel_all(self._tasks)
        await self.live.stop()
        await self.runner.stop()

    async def _say_goodbye(self) -> None:
        """Close the clients, a few at a time; until then they are served.

        The sockets that this process listened on are closed by now (see `relay.web.reactor`).
        pybit gives up after ten refused connections, which take 0.1 s: no client is told to come
        back before the next process had time to listen on the port.
        """
        if not self.clients:
            return
        await asyncio.sleep(timing.HANDOVER)
        clients = list(self.clients)
        portion = math.ceil(len(clients) * GOODBYE_STEP / timing.GOODBYE)
        for start in range(0, len(clients), portion):
            for client in clients[start : start + portion]:
                client.close(CloseCode.SHUTTING_DOWN)
            await asyncio.sleep(GOODBYE_STEP)
        await asyncio.sleep(timing.LAST_BYTES)

    async def _watch_loop(self) -> None:
        await watch_loop(self.telemetry.counters.loop_lag)

    async def _look_after_clients(self) -> None:
        """Close clients that want nothing or read nothing for too long."""
        look_after_the_gone_at = time.monotonic() + LEAVING
        while True:
            await asyncio.sleep(LOOK)
            now = time.monotonic()
            self._look(now)  # a call of its own: its variables hold no client on
            if now >= look_after_the_gone_at:
                look_after_the_gone_at = now + LEAVING
                self.look_after_the_gone()

    def _look(self, now: float) -> None:
        for client in list(self._backlogged):
            if not client.look_after_backlog(now):
                self._backlogged.discard(client)
        latest = now - conf.current().idle_timeout
        for client in [c for c in self.clients if (c.idle_since or latest) < latest]:
            client.close(CloseCode.IDLE)


def _allow_many_files() -> None:
    """Use all open files the system grants: the soft limit, often 1,024, is for `select`."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):  # macOS grants less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


_processes: dict[asyncio.AbstractEventLoop, WebProcess] = {}


def current() -> WebProcess:
    """Return the process's parts, started with the first call."""
    loop = asyncio.get_running_loop()
    process = _processes.get(loop)
    if process is None:
        process = _processes[loop] = WebProcess()
        process.start()
        reactor.call_before_shutdown(process.refuse_newcomers, process.stop)
        reactor.warn_of_forged_addresses()
    return process


def existing() -> WebProcess | None:
    """Return the process's parts if they were started, from any thread."""
    return next(iter(_processes.values()), None)


async def stop() -> None:
    """Stop what `current` started on this loop, if it did."""
    process = _processes.get(asyncio.get_running_loop())
    if process is not None:
        await process.stop()
        del _processes[asyncio.get_running_loop()]
