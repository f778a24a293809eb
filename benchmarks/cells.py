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
    Marketfeed,
    Program,
    Server,
    start_exchange,
    start_floor,
    start_load,
)

READY_LIMIT = 90.0  # seconds until every client must be ready
DRAIN_LIMIT = 3.0  # seconds in which what was sent must arrive
MESSAGE_BYTES = 560
SAMPLE = 0.25  # seconds between looks at the memory
FULL_DELIVERY = 0.995  # of what was offered; the rest is what the window's edges cut off


def subscribe_text(*topics: str) -> str:
    """Return Bybit's request for topics; `%` in a name becomes the client's number."""
    names = ",".join(f'"{topic}"' for topic in topics)
    return f'{{"op":"subscribe","args":[{names}]}}'


@dataclass(frozen=True, slots=True)
class Cell:
    """What is to be measured.

    Attributes:
        name: By which the report finds it.
        server: One of `SERVERS`, or `floor`.
        rate: Messages a second of the exchange, over all topics.
        topics: What each client subscribes; `%` becomes the client's number.
        shared: Messages in one write of the floor.
        deflate: Clients that offer permessage-deflate.
        stalled: Clients, among all, that never read after their subscription.
        probes: Clients that subscribe `probe_topic` one after the other within the window.
        warm_up: Seconds under load before the window.
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
    is_storm: bool = False
    warm_up: float = 2.0
    seconds: float = 8.0
    environment: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def readers(self) -> int:
        """Clients that are to get everything."""
        return self.clients - self.stalled


@dataclass(slots=True)
class Result:
    """What was measured; CPU in percent of one core, times in ms, memory in bytes."""

    cell: Cell
    fault: str = ""
    seconds: float = 0.0
    offered: float = 0.0  # deliveries a second: what the exchange sent, times the readers
    delivered: float = 0.0  # deliveries a second
    cpu: float = 0.0
    load_cpu: float = 0.0
    exchange_cpu: float = 0.0
    companions_cpu: float = 0.0
    foreign_cpu: float = 0.0
    p50: float | None = None
    p99: float | None = None
    p999: float | None = None
    highest: float | None = None
    lost: int = 0
    repeated: int = 0
    conflated: int = 0
    held: int = 0
    behind: int = 0
    closed: int = 0
    deflated: int = 0
    bytes_per_message: float | None = None  # of compressed messages
    reads: float = 0.0  # a second
    resident_before: int = 0
    resident_ready: int = 0
    resident_highest: int = 0
    all_ready: float = 0.0
    ready_p99: float | None = None
    probe: dict[str, float] | None = None
    probe_after_ack: dict[str, float] | None = None

    @property
    def micros(self) -> float | None:
        """CPU of the server per delivery, us."""
        return self.cpu * 1e4 / self.delivered if self.delivered else None

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
    """CPU of the processes of a cell between two moments."""

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
            if cell.server == "floor":
                floor, port = start_floor()
                stack.callback(floor.end)
                _run(cell, result, floor, None, floor, port, "/", stack)
            else:
                exchange, exchange_port = start_exchange()
                stack.callback(exchange.end)
                upstream = f"ws://127.0.0.1:{exchange_port}/v5/public"
                server = SERVERS[cell.server](upstream, dict(cell.environment))
                stack.callback(server.end)
                _run(
                    cell, result, exchange, server, server.program, server.port, server.path, stack
                )
    except BenchFault as fault:
        result.fault = str(fault)
    return result


def _run(
    cell: Cell,
    result: Result,
    exchange: Program,
    server: Server | None,
    program: Program,
    port: int,
    path: str,
    stack: ExitStack,
) -> None:
    """Connect, warm up, measure, drain. The stack ends the load before the server."""
    greets = server is not None and server.greets
    result.resident_before = program.resident_bytes()
    if cell.is_storm:
        exchange.ask(f"rate {cell.rate}")
        # The topic is known before the storm: what is measured is the fan-in of clients.
        _load("first", cell, port, path, stack, clients=1, greeting=greets).read(READY_LIMIT)
    load = _load(
        "load",
        cell,
        port,
        path,
        stack,
        clients=cell.clients,
        greeting=greets,
        storm=cell.is_storm,
        stalled=cell.stalled,
        deflate=cell.deflate,
    )
    usage = _Usage({"server": [program]})
    ready = load.read(READY_LIMIT)
    loads = [load]
    if cell.probes:
        prober = _load(
            "prober",
            cell,
            port,
            path,
            stack,
            clients=1,
            greeting=greets,
            subscribe=[subscribe_text(cell.probe_topic)],
            probes=cell.probes,
            probe_every=max(1, round(cell.seconds * 1000 / (cell.probes + 1))),
            probe_subscribe=subscribe_text(cell.probe_topic),
        )
        prober.read(READY_LIMIT)
        loads.append(prober)
    result.all_ready = ready["all_ready_ms"]
    result.ready_p99 = (ready["ready_times"] or {}).get("p99")
    result.resident_ready = result.resident_highest = program.resident_bytes()
    if ready["failed"]:
        raise BenchFault(f"{ready['failed']} of {cell.clients} clients could not connect")
    if cell.is_storm:
        result.cpu = usage.percent()["server"]
        return
    _wait_for_topics(exchange)
    exchange.ask(f"rate {cell.rate} {cell.shared}")
    time.sleep(cell.warm_up)

    groups = {"server": [program], "load": loads}
    if server is not None:
        groups |= {"exchange": [exchange], "companions": server.companions}
    sent_before = exchange.ask("report")
    usage = _Usage(groups)
    for each in loads:
        each.ask("start")
    until = time.monotonic() + cell.seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, SAMPLE))
        result.resident_highest = max(result.resident_highest, program.resident_bytes())
    window = load.ask("stop")
    used = usage.percent()
    sent = exchange.ask("rate 0")
    _fill(result, window, used, sent_before, sent)
    if cell.probes:
        probed = loads[1].ask("stop")
        result.probe, result.probe_after_ack = probed["probe"], probed["probe_after_ack"]
    _drain(result, load, sent)


def _load(name: str, cell: Cell, port: int, path: str, stack: ExitStack, **options: Any) -> Program:
    usual: dict[str, Any] = {"mixed": len(cell.topics) > 1}
    if cell.topics:
        usual["subscribe"] = [subscribe_text(*cell.topics)]
    load = start_load(name, port, path, **(usual | options))
    stack.callback(load.end)
    return load


def _wait_for_topics(exchange: Program) -> None:
    """Return when the server under test has subscribed something."""
    until = time.monotonic() + DRAIN_LIMIT
    while time.monotonic() < until:
        if exchange.ask("report")["topics"]:
            return
        time.sleep(0.05)
    raise BenchFault("the server has subscribed nothing")


def _fill(
    result: Result,
    window: dict[str, Any],
    used: dict[str, float],
    before: dict[str, Any],
    after: dict[str, Any],
) -> None:
    cell = result.cell
    seconds = window["seconds"]
    # One reader for each topic, or all readers on one.
    per_message = 1 if "%" in "".join(cell.topics) else cell.readers
    if cell.probes:  # the probed topic has its one reader in another load
        per_message = cell.readers / (cell.readers + 1)
    result.seconds = seconds
    result.offered = (after["sent"] - before["sent"]) * per_message / seconds
    result.held = after["held"] - before["held"]
    result.delivered = (window["delivered"] + window["deflate_frames"]) / seconds
    result.reads = window["reads"] / seconds
    result.cpu, result.load_cpu = used["server"], used["load"]
    result.exchange_cpu = used.get("exchange", 0.0)
    result.companions_cpu = used.get("companions", 0.0)
    result.foreign_cpu = used["foreign"]
    latency = window["latency"] or {}
    result.p50, result.p99 = latency.get("p50"), latency.get("p99")
    result.p999, result.highest = latency.get("p999"), latency.get("max")
    result.deflated = window["deflated"]
    if window["deflate_frames"]:
        result.bytes_per_message = window["deflate_bytes"] / window["deflate_frames"]


def _drain(result: Result, load: Program, sent: dict[str, Any]) -> None:
    """Wait for what is on its way; then everybody must stand where the exchange does."""
    until = time.monotonic() + DRAIN_LIMIT
    while True:
        final = load.ask("report")
        is_single = "%" not in "".join(result.cell.topics) and len(result.cell.topics) == 1
        if is_single:
            result.behind = max(0, sent["last_u"][1] - final["last_u"][0])
        else:
            result.behind = max(0, sent["last_u"][0] - final["last_u"][0])
        if not result.behind or time.monotonic() > until:
            break
        time.sleep(0.1)
    result.lost, result.repeated = final["lost"], final["repeated"]
    result.conflated, result.closed = final["conflated"], final["closed"]


def measure_memory(cell: Cell, first: int) -> Result:
    """Measure what a further client costs: from `first` clients to `cell.clients` more."""
    result = Result(cell)
    try:
        with ExitStack() as stack:
            exchange, exchange_port = start_exchange()
            stack.callback(exchange.end)
            upstream = f"ws://127.0.0.1:{exchange_port}/v5/public"
            server = Marketfeed(upstream, dict(cell.environment))
            stack.callback(server.end)
            greets = bool(cell.topics)
            for name, clients in (("first", first), ("load", cell.clients)):
                load = _load(
                    name, cell, server.port, server.path, stack, clients=clients, greeting=greets
                )
                load.read(READY_LIMIT)
                exchange.ask(f"rate {cell.rate}")
                time.sleep(cell.warm_up)
                exchange.ask("rate 0")
                if name == "first":
                    result.resident_before = server.program.resident_bytes()
            result.resident_ready = server.program.resident_bytes()
    except BenchFault as fault:
        result.fault = str(fault)
    return result
