"""One measurement: a server, its load, a window of time, and what came of it."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks import machine
from benchmarks.programs import (
    SERVERS,
    TOPIC,
    BenchFault,
    Program,
    Server,
    start_exchange,
    start_load,
    start_strangers,
)

READY_LIMIT = 90.0  # seconds until every client must be ready
DRAIN_LIMIT = 3.0  # seconds in which what was sent must arrive
SAMPLE = 0.25  # seconds between looks at the memory
FULL_DELIVERY = 0.98  # of what was offered; the rest is what the window's edges cut off


@dataclass(frozen=True, slots=True)
class Cell:
    """What is to be measured.

    Attributes:
        name: By which the report finds it.
        server: One of `SERVERS`.
        rate: Messages a second of the exchange, over all topics.
        topics: What each client subscribes; `%` becomes the client's number among those of its
            web process.
        shared: Messages in one write of the floor.
        deflate: Clients that offer permessage-deflate.
        stalled: Clients, among all, that never read after their subscription.
        probes: Clients that subscribe `probe_topic` one after the other within the window.
        requests: Anonymous HTTP requests a second, from 100 addresses.
        asked: The path that they ask for.
        is_storm: All clients connect at once, and the time until they are ready is the figure.
        measures_memory_from: Clients that are there before the memory is looked at, so that what
            `clients` further ones cost is the figure; 0: the cell is about something else.
        warm_up: Seconds under load before the window.
        seconds: Length of the window.
    """

    name: str
    server: str
    clients: int
    rate: int
    topics: tuple[str, ...] = (TOPIC,)
    shared: int = 1
    deflate: int = 0
    stalled: int = 0
    probes: int = 0
    probe_topic: str = ""
    requests: int = 0
    asked: str = "/"
    is_storm: bool = False
    measures_memory_from: int = 0
    warm_up: float = 2.0
    seconds: float = 8.0
    environment: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def readers(self) -> int:
        """Clients that are to get everything."""
        return self.clients - self.stalled

    @property
    def has_one_topic(self) -> bool:
        """Whether all clients read the same; else each has a topic of its own."""
        return not any("%" in topic for topic in self.topics)


@dataclass(slots=True)
class Result:
    """What was measured; CPU in percent of one core, times in ms, memory in bytes."""

    cell: Cell
    fault: str = ""
    seconds: float = 0.0
    offered: float = 0.0  # deliveries a second: what the exchange made, times the readers
    delivered: float = 0.0  # deliveries a second
    cpu: float = 0.0
    load_cpu: float = 0.0
    exchange_cpu: float = 0.0
    companions_cpu: float = 0.0
    by_program: dict[str, float] = field(default_factory=dict)  # CPU of each companion
    made: float = 0.0  # messages a second that the exchange made
    driver_cpu: float = 0.0
    foreign_cpu: float = 0.0  # of processes that are none of the bench's
    p50: float | None = None
    p99: float | None = None
    p999: float | None = None
    highest: float | None = None
    lost: int = 0
    repeated: int = 0
    conflated: int = 0
    held: int = 0  # messages the exchange could not hand over
    behind: int = 0  # messages that had not come when everything should have
    closed: int = 0
    has_full_rate: bool = True  # whether the exchange made as many messages as it was told
    deflated: int = 0  # clients whose offer to compress was accepted
    bytes_per_message: float | None = None  # of compressed messages
    reads: float = 0.0  # a second
    resident_before: int = 0
    resident_ready: int = 0
    resident_highest: int = 0
    all_ready: float = 0.0
    ready_p99: float | None = None
    probe: dict[str, float] | None = None
    probe_after_ack: dict[str, float] | None = None
    answers: dict[str, int] | None = None  # to HTTP requests, by status; the slowest in ms

    @property
    def micros(self) -> float | None:
        """CPU of the server per delivery, us."""
        return self.cpu * 1e4 / self.delivered if self.delivered else None

    @property
    def machine_cpu(self) -> float:
        """CPU of everything, %: of two cores 200 are the end."""
        ours = self.cpu + self.load_cpu + self.exchange_cpu + self.companions_cpu
        return ours + self.driver_cpu + self.foreign_cpu

    @property
    def keeps_up(self) -> bool:
        """Whether everything offered was delivered."""
        return (
            not self.fault
            and self.delivered >= FULL_DELIVERY * self.offered > 0
            and not (self.lost or self.repeated or self.conflated or self.behind or self.held)
        )

    @property
    def memory_per_client(self) -> float:
        """Bytes of the server for each client."""
        return (self.resident_ready - self.resident_before) / self.cell.clients

    def as_json(self) -> dict[str, Any]:
        """Return everything, for a file."""
        return asdict(self) | {"micros": self.micros, "keeps_up": self.keeps_up}


class _Usage:
    """CPU of the processes of a cell since it was made."""

    def __init__(self, groups: dict[str, list[Program]]) -> None:
        self._groups = groups
        self._at = time.monotonic()
        self._before = self._read()

    def _read(self) -> dict[str, float]:
        found = {
            name: sum(program.cpu_seconds() for program in programs)
            for name, programs in self._groups.items()
        }
        return found | {"driver": time.process_time(), "machine": machine.busy_seconds()}

    def percent(self) -> dict[str, float]:
        """Return the use of each group since the beginning, in percent of one core."""
        seconds = time.monotonic() - self._at
        after = self._read()
        used = {key: 100 * (after[key] - self._before[key]) / seconds for key in after}
        total = used.pop("machine")
        return used | {"foreign": max(0.0, total - sum(used.values()))}


def measure(cell: Cell) -> Result:
    """Run one cell. A program that does not do its part is told in `fault`."""
    result = Result(cell)
    try:
        with ExitStack() as stack:
            stage = _Stage(cell, stack)
            if cell.measures_memory_from:
                stage.measure_memory(result)
            elif cell.is_storm:
                stage.measure_storm(result)
            else:
                stage.measure_flow(result)
    except BenchFault as fault:
        result.fault = str(fault)
    return result


class _Stage:
    """The processes of one cell. They end with `stack`, the load before the server."""

    def __init__(self, cell: Cell, stack: ExitStack) -> None:
        self._cell = cell
        self._stack = stack
        kind = SERVERS[cell.server]
        upstream = ""
        if not kind.makes_messages:
            exchange, port = start_exchange()
            stack.callback(exchange.end)
            upstream = f"ws://127.0.0.1:{port}/v5/public"
        self._server: Server = kind(upstream, dict(cell.environment))
        stack.callback(self._server.end)
        self._program = self._server.program
        self._exchange = self._program if kind.makes_messages else exchange

    def _load(self, name: str, clients: int, *topics: str, **options: Any) -> Program:
        """Start clients that subscribe `topics`, in this order, by one request."""
        server = self._server
        if topics and server.takes_requests:
            options |= {"subscribe": _request(*topics), "greeting": server.greets}
        options |= {"clients": clients, "mixed": len(topics) > 1}
        load = start_load(name, server.ports, server.path, options)
        self._stack.callback(load.end)
        return load

    def _resident_bytes(self) -> int:
        return sum(program.resident_bytes() for program in self._server.programs)

    def measure_memory(self, result: Result) -> None:
        """Take the memory of the server twice, each time after some traffic."""
        cell = self._cell
        for name, clients in (("first", cell.measures_memory_from), ("load", cell.clients)):
            result.resident_before = self._resident_bytes() if name == "load" else 0
            self._load(name, clients, *cell.topics).read(READY_LIMIT)
            self._exchange.ask(f"rate {cell.rate}")
            time.sleep(cell.warm_up)
            self._exchange.ask("rate 0")
        result.resident_ready = self._resident_bytes()

    def measure_storm(self, result: Result) -> None:
        """Take the time until all clients of a storm have their snapshots.

        One client is there before, so the topic is known and flows.
        """
        cell = self._cell
        self._load("first", 1, *cell.topics).read(READY_LIMIT)
        self._exchange.ask(f"rate {cell.rate}")
        result.resident_before = self._resident_bytes()
        usage = _Usage({"server": [self._program]})
        load = self._load("load", cell.clients, *cell.topics, storm=True)
        self._take_ready(result, load.read(READY_LIMIT))
        result.cpu = usage.percent()["server"]

    def measure_flow(self, result: Result) -> None:
        """Connect, warm up, measure, drain."""
        cell, exchange, server = self._cell, self._exchange, self._server
        result.resident_before = self._resident_bytes()
        load = self._load(
            "load", cell.clients, *cell.topics, stalled=cell.stalled, deflate=cell.deflate
        )
        self._take_ready(result, load.read(READY_LIMIT))
        loads = [load, *self._start_probes()]
        strangers = self._start_strangers()
        self._wait_for_topics()
        exchange.ask(f"rate {cell.rate} {cell.shared}")
        time.sleep(cell.warm_up)

        groups = {"server": server.programs, "load": loads}
        groups |= {f"beside {program.name}": [program] for program in server.companions}
        if exchange is not self._program:
            groups["exchange"] = [exchange]
        if strangers is not None:
            groups["beside strangers"] = [strangers]
            strangers.ask("start")
        before = exchange.ask("report")
        usage = _Usage(groups)
        for each in loads:
            each.ask("start")
        until = time.monotonic() + cell.seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, SAMPLE))
            memory = self._resident_bytes()
            result.resident_highest = max(result.resident_highest, memory)
        window = load.ask("stop")
        used = usage.percent()
        result.answers = strangers.ask("stop") if strangers is not None else None
        after = exchange.ask("rate 0")
        for probed in [each.ask("stop") for each in loads[1:]]:
            result.probe, result.probe_after_ack = probed["probe"], probed["probe_after_ack"]
        _fill(result, window, used)
        # A reader a process for each topic (the probed one's has a load of its own), or all on one.
        times = cell.readers if cell.has_one_topic else cell.readers / after["topics"]
        result.held = after["held"] - before["held"]
        made = after["sent"] - before["sent"] + result.held
        result.offered = made * times / result.seconds
        result.made = made / result.seconds
        result.has_full_rate = made >= FULL_DELIVERY * cell.rate * result.seconds
        self._drain(result, loads, after)

    def _take_ready(self, result: Result, ready: dict[str, Any]) -> None:
        if ready["failed"]:
            raise BenchFault(f"{ready['failed']} clients could not connect")
        result.all_ready = ready["all_ready_ms"]
        result.ready_p99 = (ready["ready_times"] or {}).get("p99")
        result.resident_ready = result.resident_highest = self._resident_bytes()

    def _start_probes(self) -> list[Program]:
        """Connect those who will subscribe within the window, and one reader of their topic."""
        cell = self._cell
        if not cell.probes:
            return []
        load = self._load(
            "prober",
            1,
            cell.probe_topic,
            probes=cell.probes,
            probe_every=max(1, round(cell.seconds * 1000 / (cell.probes + 1))),
            probe_subscribe=_request(cell.probe_topic),
        )
        load.read(READY_LIMIT)
        return [load]

    def _start_strangers(self) -> Program | None:
        cell = self._cell
        if not cell.requests:
            return None
        strangers = start_strangers(self._server.ports[0], cell.asked, cell.requests)
        self._stack.callback(strangers.end)
        strangers.read()
        return strangers

    def _wait_for_topics(self) -> None:
        until = time.monotonic() + DRAIN_LIMIT
        while not self._exchange.ask("report")["topics"]:
            if time.monotonic() > until:
                raise BenchFault("the server has subscribed nothing")
            time.sleep(0.05)

    def _drain(self, result: Result, loads: list[Program], sent: dict[str, Any]) -> None:
        """Wait for what is on its way; then every reader must stand where the exchange does."""
        until = time.monotonic() + DRAIN_LIMIT
        while True:
            final = [load.ask("report") for load in loads]
            have = sum(each["sum_of_u"] for each in final)
            processes = self._server.processes
            times = final[0]["checked"] if self._cell.has_one_topic else processes
            want = sent["sum_of_u"] * times
            # Compressed messages are not read, but every client must have got as many.
            result.behind = max(0, want - have) + final[0]["deflate_spread"]
            if not result.behind or time.monotonic() > until:
                break
            time.sleep(0.1)
        for name in ("lost", "repeated", "conflated", "closed"):
            setattr(result, name, sum(each[name] for each in final))


def _request(*topics: str) -> str:
    names = ",".join(f'"{topic}"' for topic in topics)
    return f'{{"op":"subscribe","args":[{names}]}}'


def _fill(result: Result, window: dict[str, Any], used: dict[str, float]) -> None:
    """Take over what the load and the kernel have counted."""
    result.seconds = seconds = window["seconds"]
    result.delivered = (window["delivered"] + window["deflate_frames"]) / seconds
    result.reads = window["reads"] / seconds
    result.cpu, result.load_cpu = used["server"], used["load"]
    result.exchange_cpu = used.get("exchange", 0.0)
    beside = [name for name in used if name.startswith("beside ")]
    result.by_program = {name.removeprefix("beside "): used[name] for name in beside}
    result.companions_cpu = sum(result.by_program.values())
    result.driver_cpu = used["driver"]
    result.foreign_cpu = used["foreign"]
    latency = window["latency"] or {}
    result.p50, result.p99 = latency.get("p50"), latency.get("p99")
    result.p999, result.highest = latency.get("p999"), latency.get("max")
    result.deflated = window["deflated"]
    if window["deflate_frames"]:
        result.bytes_per_message = window["deflate_bytes"] / window["deflate_frames"]
