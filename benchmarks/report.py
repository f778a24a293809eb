"""What came of a run: the promises with what was reached, and every cell."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from benchmarks.cells import Result
from benchmarks.programs import SERVERS, MarketfeedOverRedis
from benchmarks.scenarios import (
    ASKED,
    CLIENTS,
    REDIS_RATE,
    SHARED,
    SLOW_READERS,
    SPREAD_RATE,
    STALLED,
    STRANGERS_RATE,
    UPSTREAM_TOPICS,
    VENUE_RATES,
    each_topic_name,
    fan_out_name,
    strangers_name,
)

MESSAGE_BYTES = 560
CLIENT_BUFFER = 262_144  # bytes: the default of RELAY_CLIENT_BUFFER
BUSY = 90.0  # % of a core from which a helper may be what limits
FOREIGN = 10.0  # % of a core used by others from which a cell is not quite to be trusted
NOT_MEASURED = "not measured"


class Results:
    """All results of a run, by the name of their cell; of repeated ones, the median."""

    def __init__(self, results: Iterable[Result]) -> None:
        self.all = list(results)
        by_name: dict[str, list[Result]] = {}
        for result in self.all:
            by_name.setdefault(result.cell.name, []).append(result)
        self._median = {name: _median(found) for name, found in by_name.items()}

    def get(self, name: str) -> Result | None:
        """Return the result of a cell that has figures."""
        found = self._median.get(name)
        return None if found is None or found.fault else found

    def fan_out(self, server: str, rate: int, clients: int = CLIENTS) -> Result | None:
        """Return the result of a cell in which every client reads one topic."""
        return self.get(fan_out_name(server, rate, clients))

    def each(self) -> list[Result]:
        """Return one result for each cell, faults included, in the order of the run."""
        return list(self._median.values())


def _median(results: list[Result]) -> Result:
    good = [result for result in results if not result.fault and result.micros is not None]
    if not good:
        return results[0]
    return sorted(good, key=lambda result: result.micros or 0)[len(good) // 2]


@dataclass(frozen=True, slots=True)
class Promise:
    """One line of what was promised, with what was reached; None: not measured."""

    work: str
    must: str
    aim: str
    reached: str = NOT_MEASURED
    meets_must: bool | None = None
    meets_aim: bool | None = None

    @property
    def verdict(self) -> str:
        if self.meets_must is None:
            return NOT_MEASURED
        if not self.meets_must:
            return "**missed**"
        return "aim" if self.meets_aim else "must"


def promises(results: Results) -> list[Promise]:
    """Hold the results against what was promised."""
    return [judge(results) for judge in _JUDGES]


def _ratio(one: float | None, other: float | None) -> float:
    return one / other if one and other else float("inf")


def _percent(part: float, whole: float) -> str:
    share = 100 * part / whole if whole else 0.0
    return f"{share:.1f} %" if share < 99.95 else "100 %"


def _us(result: Result) -> str:
    return f"{result.micros:.2f} us" if result.micros else "-"


def _floor_20(results: Results) -> Promise:
    work, must, aim = "CPU per delivery, 20 messages/s", "1.9 x floor", "1.5 x floor"
    ours, floor = results.fan_out("marketfeed", 20), results.fan_out("floor", 20)
    if ours is None or floor is None:
        return Promise(work, must, aim)
    ratio = _ratio(ours.micros, floor.micros)
    reached = f"{ratio:.2f} x ({_us(ours)}, floor {_us(floor)})"
    return Promise(work, must, aim, reached, ratio <= 1.9 and ours.keeps_up, ratio <= 1.5)


def _floor_100(results: Results) -> Promise:
    work = "CPU per delivery, 100 messages/s"
    must, aim = "2.2 x floor, 1.25 x picows", "below picows and nchan"
    ours, floor = results.fan_out("marketfeed", 100), results.fan_out("floor", 100)
    picows, nchan = results.fan_out("picows", 100), results.fan_out("nginx + nchan", 100)
    if ours is None or floor is None or picows is None:
        return Promise(work, must, aim)
    to_floor, to_picows = _ratio(ours.micros, floor.micros), _ratio(ours.micros, picows.micros)
    reached = f"{to_floor:.2f} x floor, {to_picows:.2f} x picows"
    below = to_picows < 1
    if nchan is not None:
        to_nchan = _ratio(ours.micros, nchan.micros)
        reached += f", {to_nchan:.2f} x nchan"
        below = below and to_nchan < 1
    reached += f" ({_us(ours)}, floor {_us(floor)})"
    meets = to_floor <= 2.2 and to_picows <= 1.25 and ours.keeps_up
    return Promise(work, must, aim, reached, meets, below)


def _flow(result: Result) -> str:
    share = _percent(result.delivered, result.offered)
    complete = "all" if result.keeps_up else share
    return f"{complete} delivered, {result.cpu:.0f} % of a core, p99 {result.p99 or 0:.1f} ms"


def _rate_500(results: Results) -> Promise:
    work = "500 messages/s (500 k deliveries/s)"
    must, aim = "all, under 70 %, p99 under 30 ms", "45 %, 15 ms"
    ours = results.fan_out("marketfeed", 500)
    if ours is None or ours.p99 is None:
        return Promise(work, must, aim)
    meets = ours.keeps_up and ours.cpu < 70 and ours.p99 < 30
    return Promise(work, must, aim, _flow(ours), meets, ours.cpu <= 45 and ours.p99 <= 15)


def _rate_1000(results: Results) -> Promise:
    work = "1,000 messages/s (1 M deliveries/s)"
    must, aim = "all, under 80 %, p99 under 40 ms", "2,000 messages/s on one core"
    ours, double = results.fan_out("marketfeed", 1_000), results.fan_out("marketfeed", 2_000)
    if ours is None or ours.p99 is None:
        return Promise(work, must, aim)
    reached = _flow(ours)
    if double is not None:
        reached += f"; at 2,000: {_flow(double)}"
    meets = ours.keeps_up and ours.cpu < 80 and ours.p99 < 40
    return Promise(work, must, aim, reached, meets, double is not None and double.keeps_up)


def _latency_1000(results: Results) -> Promise:
    work, must, aim = "p99, 1,000 clients, 100 messages/s", "1.2 x Node ws", "below picows"
    ours, node = results.fan_out("marketfeed", 100), results.fan_out("Node ws", 100)
    picows = results.fan_out("picows", 100)
    if ours is None or node is None or picows is None:
        return Promise(work, must, aim)
    ratio = _ratio(ours.p99, node.p99)
    reached = f"{ours.p99:.2f} ms; Node ws {node.p99:.2f} ms ({ratio:.2f} x)"
    reached += f", picows {picows.p99:.2f} ms"
    meets = ratio <= 1.2 and ours.keeps_up
    return Promise(work, must, aim, reached, meets, _ratio(ours.p99, picows.p99) < 1)


def _latency_100(results: Results) -> Promise:
    work, must, aim = "p99, 100 clients, 100 messages/s", "1.2 ms", "0.6 ms"
    ours = results.fan_out("marketfeed", 100, 100)
    if ours is None or ours.p99 is None:
        return Promise(work, must, aim)
    meets = ours.p99 <= 1.2 and ours.keeps_up
    return Promise(work, must, aim, f"{ours.p99:.2f} ms", meets, ours.p99 <= 0.6)


def _textbook(results: Results) -> Promise:
    work, must, aim = "textbook Channels, 20 messages/s", "30 x our cost", "50 x"
    ours = results.fan_out("marketfeed", 20)
    kinds = ("in memory", "Redis")
    found = {kind: results.fan_out(f"textbook Channels, {kind}", 20) for kind in kinds}
    ratios = {
        kind: _ratio(result.micros, ours.micros)
        for kind, result in found.items()
        if ours is not None and result is not None and result.micros
    }
    if not ratios:
        return Promise(work, must, aim)
    reached = ", ".join(f"{ratio:.0f} x ({kind})" for kind, ratio in ratios.items())
    least = min(ratios.values())
    return Promise(work, must, aim, reached, least >= 30, least >= 50)


def _compressed(results: Results) -> Promise:
    work = "compressed, 1,000 clients, 100 messages/s"
    must, aim = "CPU 2 x plain, bytes 60 %", "1.3 x, 45 %"
    ours, plain = results.get("marketfeed: deflate"), results.fan_out("marketfeed", 100)
    if ours is None or plain is None:
        return Promise(work, must, aim)
    if not ours.deflated or ours.bytes_per_message is None:
        return Promise(work, must, aim, "not negotiated", meets_must=False)
    ratio = _ratio(ours.micros, plain.micros)
    share = 100 * ours.bytes_per_message / MESSAGE_BYTES
    reached = f"{ratio:.2f} x, {share:.0f} %"
    each = results.get("websockets: deflate")
    if each is not None and each.bytes_per_message is not None:
        reached += f" (per client, websockets: {_ratio(each.micros, plain.micros):.0f} x,"
        reached += f" {100 * each.bytes_per_message / MESSAGE_BYTES:.0f} %)"
    meets = ratio <= 2 and share <= 60 and ours.keeps_up
    return Promise(work, must, aim, reached, meets, ratio <= 1.3 and share <= 45)


def _memory(results: Results) -> Promise:
    work, must, aim = "memory per connection, idle / 3 topics", "30 / 35 KB", "22 / 25 KB"
    idle = results.get("marketfeed: memory, idle")
    subscribed = results.get("marketfeed: memory, 3 topics")
    if idle is None or subscribed is None:
        return Promise(work, must, aim)
    one, other = idle.memory_per_client / 1000, subscribed.memory_per_client / 1000
    reached = f"{one:.1f} / {other:.1f} KB"
    return Promise(work, must, aim, reached, one <= 30 and other <= 35, one <= 22 and other <= 25)


def _storm(results: Results) -> Promise:
    work, must, aim = "5,000 clients connect and subscribe at once", "10 s", "6 s"
    ours = results.get("marketfeed: storm")
    if ours is None:
        return Promise(work, must, aim)
    seconds = ours.all_ready / 1000
    return Promise(work, must, aim, f"{seconds:.1f} s", 0 < seconds <= 10, seconds <= 6)


def _upstream(results: Results) -> Promise:
    work = "upstream, 1,800 topics with a reader each"
    must, aim = "20,000/s on one core, none lost, p99 under 100 ms", "40,000/s"
    ours, double = (results.get(f"marketfeed: upstream {rate}") for rate in (20_000, 40_000))
    if ours is None or ours.p99 is None:
        return Promise(work, must, aim)
    reached = f"20,000/s: {_flow(ours)}"
    meets_aim = False
    if double is not None and double.p99 is not None:
        reached += f"; 40,000/s: {_flow(double)}"
        meets_aim = double.keeps_up and double.p99 < 100
    return Promise(work, must, aim, reached, ours.keeps_up and ours.p99 < 100, meets_aim)


def _late(results: Results) -> Promise:
    work = "late reader of a 1,000-level book, 5,000 messages/s"
    must, aim = "p99 under 5 ms", "2 ms"
    ours = results.get("marketfeed: late")
    if ours is None or ours.probe is None:
        return Promise(work, must, aim)
    p99, after_ack = ours.probe["p99"], (ours.probe_after_ack or {}).get("p99", 0.0)
    reached = f"{p99:.1f} ms from the subscribe, {after_ack:.1f} ms from the ack"
    return Promise(work, must, aim, reached, p99 < 5 and ours.keeps_up, p99 <= 2)


def _slow(results: Results) -> Promise:
    work = f"{STALLED} clients that never read beside {SLOW_READERS}"
    must, aim = "memory 100 x limit + 10 %, p99 of the others 2 x", "-"
    without = results.get("marketfeed: without stalled")
    beside = results.get("marketfeed: beside stalled")
    if without is None or beside is None:
        return Promise(work, must, aim)
    # What the run without them grew by is not theirs.
    grown = beside.resident_highest - beside.resident_ready
    grown -= without.resident_highest - without.resident_ready
    limit = STALLED * CLIENT_BUFFER * 1.1
    ratio = _ratio(beside.p99, without.p99)
    reached = f"{grown / 1e6:.1f} MB of {limit / 1e6:.1f} MB, {ratio:.2f} x"
    reached += f" ({beside.p99 or 0:.1f} ms, without {without.p99 or 0:.1f} ms)"
    meets = grown <= limit and ratio <= 2 and beside.keeps_up
    return Promise(work, must, aim, reached, meets, meets)


def _strangers(results: Results) -> Promise:
    work = f"p99 beside {STRANGERS_RATE} anonymous HTTP requests a second"
    must, aim = "for each path 2 x without", "1.2 x"
    without = results.get("marketfeed: without strangers")
    beside = {path: results.get(strangers_name(path)) for path in ASKED}
    found = {path: result for path, result in beside.items() if result is not None}
    if without is None or len(found) < len(ASKED):
        return Promise(work, must, aim)
    ratios = {path: _ratio(result.p99, without.p99) for path, result in found.items()}
    reached = ", ".join(f"{path}: {ratio:.2f} x" for path, ratio in ratios.items())
    reached += f" (without: {without.p99 or 0:.1f} ms)"
    worst, keep_up = max(ratios.values()), all(result.keeps_up for result in found.values())
    return Promise(work, must, aim, reached, worst <= 2 and keep_up, worst <= 1.2)


def _venue(results: Results) -> Promise:
    work = f"venue: {UPSTREAM_TOPICS:,} topics, one worker, Redis, two web processes"
    must, aim = (f"{rate:,} messages/s, none lost" for rate in VENUE_RATES)
    found = [results.get(each_topic_name("marketfeed, Redis, 2 web", rate)) for rate in VENUE_RATES]
    ours, double = found
    if ours is None:
        return Promise(work, must, aim)
    reached = "; ".join(
        f"{rate:,}/s: {_flow(result)}"
        for rate, result in zip(VENUE_RATES, found, strict=True)
        if result is not None
    )
    return Promise(work, must, aim, reached, ours.keeps_up, double is not None and double.keeps_up)


def _added_latency(results: Results) -> Promise:
    work = f"p99 over Redis, {UPSTREAM_TOPICS:,} topics, {REDIS_RATE:,} messages/s"
    must, aim = "one process + 10 ms", "-"
    alone = results.get(each_topic_name("marketfeed", REDIS_RATE))
    ours = results.get(each_topic_name("marketfeed, Redis, 2 web", REDIS_RATE))
    if ours is None or alone is None or ours.p99 is None or alone.p99 is None:
        return Promise(work, must, aim)
    reached = f"{ours.p99:.1f} ms, one process {alone.p99:.1f} ms"
    meets = ours.p99 <= alone.p99 + 10 and ours.keeps_up
    return Promise(work, must, aim, reached, meets, meets)


_JUDGES: tuple[Callable[[Results], Promise], ...] = (
    _floor_20,
    _floor_100,
    _rate_500,
    _rate_1000,
    _latency_1000,
    _latency_100,
    _textbook,
    _compressed,
    _memory,
    _storm,
    _upstream,
    _late,
    _slow,
    _strangers,
    _venue,
    _added_latency,
)


def promise_table(results: Results) -> list[list[str]]:
    """Return the table of promises, its head first."""
    rows = [[p.work, p.must, p.aim, p.reached, p.verdict] for p in promises(results)]
    return [["work", "must", "aim", "reached", "meets"], *rows]


def fan_out_table(results: Results, rates: Iterable[int]) -> list[list[str]]:
    """Return CPU per delivery and p99 of every server by rate, and memory per client."""
    rates = list(rates)
    servers = dict.fromkeys(
        result.cell.name.partition(":")[0]
        for result in results.each()
        if result.cell.name == fan_out_name(result.cell.name.partition(":")[0], result.cell.rate)
        and not issubclass(SERVERS[result.cell.server], MarketfeedOverRedis)
    )
    rows = [["server", *(f"{rate:,} messages/s" for rate in rates), "KB per client"]]
    for server in servers:
        found = [results.fan_out(server, rate) for rate in rates]
        sizes = [result.memory_per_client / 1000 for result in found if result is not None]
        rows.append([server, *map(_fan_out_cell, found), f"{median(sizes):.0f}" if sizes else "-"])
    return rows


def _fan_out_cell(result: Result | None) -> str:
    if result is None:
        return "-"
    if not result.delivered:
        return "nothing delivered"
    text = f"{_us(result)} · {result.p99 or 0:.1f} ms"
    if not result.keeps_up:
        return f"reaches {result.delivered / 1000:.1f} k/s · {text}"
    return text


def redis_table(results: Results) -> list[list[str]]:
    """Return what a message of the exchange costs each process, and how long it takes."""
    head = ["server", "messages/s", "worker", "Redis", "each web process", "p50", "p99", "kept up"]
    rows = [head]
    for result in results.each():
        if result.cell.name != each_topic_name(result.cell.server, result.cell.rate):
            continue
        processes = SERVERS[result.cell.server].processes
        came = result.made * result.delivered / result.offered if result.offered else 0.0
        shares = [result.by_program.get(name, 0.0) for name in ("worker", "redis")]
        each = [*shares, result.cpu / processes]
        rows.append(
            [
                result.cell.server,
                f"{result.cell.rate:,}",
                *(
                    f"{percent * 1e4 / came:.0f} us" if percent and came else "-"
                    for percent in each
                ),
                f"{result.p50 or 0:.1f} ms",
                f"{result.p99 or 0:.1f} ms",
                _kept_up(result),
            ]
        )
    return rows


def _kept_up(result: Result) -> str:
    if result.keeps_up:
        return "yes"
    share = _percent(result.delivered, result.offered)
    return f"{share} in time; {remarks(result)[0]}; limit: {_limit(result)}"


def spread_table(results: Results) -> list[list[str]]:
    """Return what 1, 2 and 4 web processes deliver, and what kept them from more."""
    rows = [["web processes", "deliveries/s", "CPU of web", "worker", "Redis", "load", "limit"]]
    for name, kind in SERVERS.items():
        result = results.fan_out(name, SPREAD_RATE)
        if result is None or not result.by_program:
            continue
        beside = [result.by_program.get(program, 0.0) for program in ("worker", "redis")]
        percents = [result.cpu, *beside, result.load_cpu]
        rows.append(
            [
                str(kind.processes),
                f"{result.delivered:,.0f} of {result.offered:,.0f}",
                *(f"{percent:.0f} %" for percent in percents),
                _limit(result),
            ]
        )
    return rows


def _limit(result: Result) -> str:
    """Say what was saturated."""
    each = {"web": result.cpu / SERVERS[result.cell.server].processes, "the load": result.load_cpu}
    each |= result.by_program
    full = [name for name, percent in each.items() if percent >= BUSY]
    cores = os.cpu_count() or 1
    if result.machine_cpu >= BUSY * cores:
        full.append(f"all {cores} cores ({result.machine_cpu:.0f} %)")
    return ", ".join(full) or ("none: all was delivered" if result.keeps_up else "none found")


def cell_table(results: Results) -> list[list[str]]:
    """Return every cell: the raw figures behind the ratios."""
    head = ["cell", "offered/s", "delivered/s", "CPU %", "us", "p50 ms", "p99 ms", "max ms"]
    rows = [[*head, "load %", "exchange %", "remarks"]]
    for result in results.all:
        if result.fault:
            rows.append([result.cell.name, *["-"] * 9, result.fault])
            continue
        if not result.seconds:
            continue
        latency = (result.p50, result.p99, result.highest)
        rows.append(
            [
                result.cell.name,
                f"{result.offered:,.0f}",
                f"{result.delivered:,.0f}",
                f"{result.cpu:.1f}",
                f"{result.micros:.2f}" if result.micros else "-",
                *("-" if value is None else f"{value:.2f}" for value in latency),
                f"{result.load_cpu:.0f}",
                f"{result.exchange_cpu:.0f}",
                "; ".join(remarks(result)),
            ]
        )
    return rows


def remarks(result: Result) -> list[str]:
    """Say what one must know to read a cell's figures."""
    said = []
    if not result.keeps_up:
        counts = ("lost", "repeated", "conflated", "behind", "held", "closed")
        found = [f"{getattr(result, name):,} {name}" for name in counts if getattr(result, name)]
        said.append("does not keep up" + (f" ({', '.join(found)})" if found else ""))
    if not result.has_full_rate:
        said.append("fewer messages were made than asked for")
    if result.load_cpu >= BUSY:
        said.append("the load generator was at its limit")
    if result.exchange_cpu >= BUSY:
        said.append("the exchange was at its limit")
    for name, percent in result.by_program.items():
        if percent >= 1:
            said.append(f"and {percent:.0f} % in {name}")
    if result.foreign_cpu >= FOREIGN:
        said.append(f"others used {result.foreign_cpu:.0f} % of a core")
    return said


def markdown(table: list[list[str]]) -> str:
    """Write a table as Markdown."""
    head, *rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def aligned(table: list[list[str]]) -> str:
    """Write a table for a terminal."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    return "\n".join(lines).replace("**", "")


def document(results: Results, facts: dict[str, str], rates: Iterable[int], chart: str) -> str:
    """Write the whole report."""
    machine = " · ".join(f"{name} {value}" for name, value in facts.items())
    return f"""# Benchmarks

Written by `make bench`; how to read it: [benchmarks/README.md](../benchmarks/README.md).
Trust the ratios, not the last digit.

{machine}

Nothing is pinned: the server, the load generator and the exchange share the cores.

## What was promised

One process under stock Daphne, messages of {MESSAGE_BYTES} bytes, {CLIENTS:,} clients on one topic
where nothing else is said. The floor is a C `send` loop of the same bytes to the same clients.

{markdown(promise_table(results))}

## Beside its peers

CPU of the server per delivery · p99 from exchange to client. `floor / {SHARED}`: {SHARED} messages
share a write.

{markdown(fan_out_table(results, rates))}

![CPU per delivery and latency, by server and rate]({chart})

## Over Redis

{UPSTREAM_TOPICS:,} topics with one reader in each web process. CPU of each process for one message
of the exchange (a web process takes all of them and delivers each once), and the time from the
exchange to the client. Every client counts: one `u` that is missing, twice or out of order would
show. `marketfeed` alone is everything in one process.

{markdown(redis_table(results))}

{CLIENTS:,} clients on one topic, {SPREAD_RATE:,} messages/s, over 1, 2 and 4 web processes:

{markdown(spread_table(results))}

## Every cell

{markdown(cell_table(results))}
"""
