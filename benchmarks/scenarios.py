"""The cells of the bench, by the work that they measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.cells import Cell
from benchmarks.programs import SERVERS, TOPIC

CLIENTS = 1_000
RATES = (20, 100, 500, 1_000, 2_000)
PEERS = ("picows", "nginx + nchan", "Node ws", "websockets")
TEXTBOOKS = ("textbook Channels, in memory", "textbook Channels, Redis")
ONE_EACH = "orderbook.50.T%USDT"  # a topic for every client
DEEP = "orderbook.1000.BTCUSDT"
SHARED = 8  # messages in one write of the second floor
UPSTREAM_TOPICS = 1_800
UPSTREAM_RATES = (10_000, 20_000, 40_000)
LATE_READERS = 19  # with a topic each, beside the deep one: each topic flows at 250 messages/s
LATE_RATE = 5_000
MEMORY_FIRST = 200
MEMORY_CLIENTS = 2_000
THREE_TOPICS = (TOPIC, "orderbook.50.ETHUSDT", "orderbook.50.SOLUSDT")
STORM = 5_000
PLAIN_AMONG_DEFLATED = 10  # clients without compression, whose latency can be read
SLOW_READERS = 900
STALLED = 100
SLOW_RATE = 300  # messages a second: 160 KiB/s, so a stalled client's buffers fill in seconds
STRANGERS_RATE = 200  # anonymous HTTP requests a second
ASKED = ("/no-such-page", "/", "/symbols.json", "/static/relay/marketfeed.js", "/admin/login/")
REDIS_RATE = 1_000  # messages a second, at which one process and several are compared
VENUE_RATES = (5_000, 10_000)
SPREAD_RATE = 4_000  # messages a second to 1,000 clients over 1, 2 and 4 web processes
CLOSE_RATIOS = 3  # times a cell is run on whose ratio a limit stands


@dataclass(frozen=True, slots=True)
class Scenario:
    """Cells that answer one question, run in this order."""

    name: str
    cells: tuple[Cell, ...]


def fan_out_name(server: str, rate: int, clients: int = CLIENTS) -> str:
    """Return the name of the cell in which every client reads one topic."""
    return f"{server}: {clients} x {rate}"


def _fan_out(server: str, rate: int, clients: int = CLIENTS, shared: int = 1) -> Cell:
    name = fan_out_name(server if shared == 1 else f"{server} / {shared}", rate, clients)
    return Cell(name, server, clients, rate, shared=shared)


def fan_out() -> Scenario:
    """One topic, 1,000 clients, at rising rates."""
    close = [
        _fan_out(server, rate)
        for rate in (20, 100)
        for _ in range(CLOSE_RATIOS)
        for server in ("floor", "marketfeed", "picows")
    ]
    return Scenario(
        "fan-out",
        (
            *close,
            *(_fan_out(server, rate) for rate in (20, 100) for server in PEERS[1:]),
            *(_fan_out(server, 500) for server in ("marketfeed", "picows", "nginx + nchan")),
            *(_fan_out("marketfeed", rate) for rate in RATES[3:]),
            *(_fan_out("floor", rate, shared=SHARED) for rate in RATES[2:]),
        ),
    )


def latency() -> Scenario:
    """100 clients; 1,000 are in the fan-out."""
    servers = ("floor", "marketfeed", "picows", "Node ws")
    return Scenario("latency", tuple(_fan_out(server, 100, 100) for server in servers))


def textbook() -> Scenario:
    """A channel for every consumer, at the lowest rate of the fan-out."""
    servers = ("marketfeed", *TEXTBOOKS)
    return Scenario("textbook", tuple(_fan_out(server, 20) for server in servers))


def compressed() -> Scenario:
    """All but a few clients offer permessage-deflate; a plain run is beside it."""
    deflated = Cell(
        "marketfeed: deflate", "marketfeed", CLIENTS, 100, deflate=CLIENTS - PLAIN_AMONG_DEFLATED
    )
    each = replace(
        deflated, name="websockets: deflate", server="websockets", environment={"DEFLATE": "1"}
    )
    return Scenario("compressed", (_fan_out("marketfeed", 100), deflated, each))


def memory() -> Scenario:
    """What a further client costs, idle and with three topics."""
    idle = Cell(
        "marketfeed: memory, idle",
        "marketfeed",
        MEMORY_CLIENTS,
        0,
        topics=(),
        measures_memory_from=MEMORY_FIRST,
    )
    subscribed = replace(
        idle, name="marketfeed: memory, 3 topics", topics=THREE_TOPICS, rate=3, warm_up=4.0
    )
    return Scenario("memory", (idle, subscribed))


def storm() -> Scenario:
    """Clients that connect and subscribe all at once."""
    return Scenario("storm", (Cell("marketfeed: storm", "marketfeed", STORM, 20, is_storm=True),))


def upstream() -> Scenario:
    """Many topics with one reader each: what a message of the exchange costs."""
    return Scenario(
        "upstream",
        tuple(
            Cell(
                f"marketfeed: upstream {rate}",
                "marketfeed",
                UPSTREAM_TOPICS,
                rate,
                topics=(ONE_EACH,),
            )
            for rate in UPSTREAM_RATES
        ),
    )


def late() -> Scenario:
    """Readers that come late to a book of 1,000 levels while other topics flow."""
    cell = Cell(
        "marketfeed: late",
        "marketfeed",
        LATE_READERS,
        LATE_RATE,
        topics=(ONE_EACH,),
        probes=400,
        probe_topic=DEEP,
    )
    return Scenario("late", (cell,))


def slow() -> Scenario:
    """Readers with and without others beside them that never read."""
    without = Cell("marketfeed: without stalled", "marketfeed", SLOW_READERS, SLOW_RATE, warm_up=6)
    beside = replace(
        without,
        name="marketfeed: beside stalled",
        clients=SLOW_READERS + STALLED,
        stalled=STALLED,
    )
    return Scenario("slow", (without, beside))


def strangers() -> Scenario:
    """Readers with and without strangers who ask by HTTP."""
    without = Cell("marketfeed: without strangers", "marketfeed", CLIENTS, 100)
    beside = (
        replace(without, name=strangers_name(path), requests=STRANGERS_RATE, asked=path)
        for path in ASKED
    )
    return Scenario("strangers", (without, *beside))


def strangers_name(path: str) -> str:
    """Return the name of the cell in which strangers ask for `path`."""
    return f"marketfeed: beside {path}"


def each_topic_name(server: str, rate: int) -> str:
    """Return the name of the cell with a reader of each of 1,800 topics in each web process."""
    return f"{server}: {UPSTREAM_TOPICS} topics x {rate}"


def _each_topic(server: str, rate: int) -> Cell:
    clients = UPSTREAM_TOPICS * SERVERS[server].processes
    return Cell(each_topic_name(server, rate), server, clients, rate, topics=(ONE_EACH,))


def redis() -> Scenario:
    """One process and several over Redis: what the way costs, in CPU and time, and the venue."""
    close = [
        _each_topic(server, REDIS_RATE)
        for _ in range(CLOSE_RATIOS)
        for server in ("marketfeed", "marketfeed, Redis", "marketfeed, Redis, 2 web")
    ]
    return Scenario(
        "redis",
        (
            *close,
            _each_topic("marketfeed, stock layer", REDIS_RATE),
            *(_each_topic("marketfeed, Redis, 2 web", rate) for rate in VENUE_RATES),
            _each_topic("marketfeed, stock layer, 2 web", VENUE_RATES[0]),
            *(
                _fan_out(f"marketfeed, Redis{more}", SPREAD_RATE)
                for more in ("", ", 2 web", ", 4 web")
            ),
        ),
    )


SCENARIOS: dict[str, Callable[[], Scenario]] = {
    "fan-out": fan_out,
    "latency": latency,
    "textbook": textbook,
    "compressed": compressed,
    "memory": memory,
    "storm": storm,
    "upstream": upstream,
    "late": late,
    "slow": slow,
    "strangers": strangers,
    "redis": redis,
}


def quick(scenario: Scenario) -> Scenario:
    """Return the same, once each and for a moment: to see that everything runs."""
    cells = dict.fromkeys(scenario.cells)
    return Scenario(
        scenario.name,
        tuple(
            replace(cell, seconds=2.0, warm_up=min(cell.warm_up, 1.0), probes=min(cell.probes, 100))
            for cell in cells
        ),
    )


def is_possible(cell: Cell) -> bool:
    """Whether this machine has the server of a cell."""
    return SERVERS[cell.server].is_there()
