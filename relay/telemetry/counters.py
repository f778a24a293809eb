"""What this process has counted since it started, for reports and `/metrics`.

Plain ints, incremented where things happen and read from any thread. Each says here under which
name and with which words `/metrics` shows it, and nowhere else. What happens once per reader is
counted once per batch. Nothing is kept per client or topic.
"""
# ruff: noqa: RUF009 - the calls make fields

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from relay.bybit.errors import Code
from relay.bybit.topics import Category

LATENCY_BOUNDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)  # seconds


class Histogram:
    """How often a value was at most each of some bounds.

    Attributes:
        counts: Values in (bound before, bound], and at the end those above all bounds.
        total: The sum of all values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = LATENCY_BOUNDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value; what two clocks make negative counts as 0."""
        value = max(value, 0.0)
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(frozen=True, slots=True)
class Named:
    """How a counter is shown at `/metrics`.

    Attributes:
        name: Without the relay's prefix and `_total`.
        help: What it counts, in a sentence.
        label: What a `Counter` counts by.
    """

    name: str
    help: str
    label: str = ""


def _count(name: str, help: str) -> Any:
    return field(default=0, metadata={"named": Named(name, help)})


def _counts(name: str, help: str, label: str) -> Any:
    return field(default_factory=Counter, metadata={"named": Named(name, help, label)})


def _histogram(name: str, help: str) -> Any:
    return field(default_factory=Histogram, metadata={"named": Named(name, help)})


def _upstream() -> dict[Category, UpstreamCounters]:
    return {category: UpstreamCounters() for category in Category}


@dataclass(slots=True, eq=False)
class UpstreamCounters:
    """What was counted of one category, in the process that holds its connections.

    Of the messages that leave together for the channel layer, both times are the first's.
    """

    messages: int = _count("upstream_messages", "Market messages of subscribed topics.")
    bytes: int = _count("upstream_bytes", "Bytes of those messages.")
    not_understood: int = _count(
        "upstream_not_understood", "Frames of the exchange that were ignored."
    )
    gaps: int = _count("upstream_gaps", "Breaks of a topic, withheld until its next snapshot.")
    resyncs: int = _count("upstream_resyncs", "Snapshots asked for again.")
    breaks: int = _count(
        "upstream_connection_failures",
        "Connections to the exchange that broke or could not be made.",
    )
    reconnects: int = _count("upstream_reconnects", "Connections opened in place of those.")
    refusals: int = _count("upstream_refused_topics", "Topics that the exchange refused.")
    dropped: int = _count(
        "upstream_dropped_envelopes", "Envelopes dropped because the channel layer was too slow."
    )
    received: Histogram = _histogram(
        "exchange_to_received_seconds",
        "From the exchange's own time of a message (cts, or ts) until it was received.",
    )
    published: Histogram = _histogram(
        "received_to_published_seconds",
        "From a message's arrival until it was handed to the channel layer.",
    )


@dataclass(slots=True, eq=False)
class Counters:
    """Everything one process counts.

    Attributes:
        bytes_out: Where the server compresses (any but Daphne), counted before that.
        snapshots: To clients that were new, slow or had missed something.
        refusals: The code of Bybit's dialect is the nearest of ours.
        closes: By our code, or else by what the client said.
        upstream: By category.
    """

    messages_in: int = _count("messages", "Messages that reached the hub, once each.")
    deliveries: int = _count("deliveries", "Messages handed to clients, for each client.")
    bytes_out: int = _count(
        "sent_bytes",
        "Bytes of WebSocket frames handed to clients, as compressed as Daphne sends them.",
    )
    snapshots: int = _count("snapshots", "Snapshots handed to clients.")
    conflated: int = _count(
        "conflated", "Updates that clients without room were not sent; a snapshot stands for them."
    )
    lagging: int = _count("lagging", "Times a client began to lag.")
    gaps: int = _count("trade_gaps", "Times a client was told of trades it was not sent.")
    trades_dropped: int = _count("trades_dropped", "Trades in those gaps.")
    holes: int = _count(
        "layer_holes", "Times messages were lost in the channel layer and asked for."
    )
    connections: Counter[str] = _counts("connections", "Clients let in, by endpoint.", "door")
    refusals: Counter[Code] = _counts("refusals", "Requests refused, by code.", "code")
    closes: Counter[int] = _counts(
        "closes",
        "Client connections that ended, by close code; 0: a code that clients made up.",
        "code",
    )
    written: Histogram = _histogram(
        "published_to_written_seconds",
        "From the hand-over to the channel layer until all clients were written to. "
        "Of each flush the oldest message is measured; between machines by their two clocks.",
    )
    loop_lag: Histogram = _histogram(
        "loop_lag_seconds",
        "How much later than due the event loop came, looked at 4 times a second.",
    )
    upstream: dict[Category, UpstreamCounters] = field(default_factory=_upstream)


def named_counters(owner: Counters | UpstreamCounters) -> Iterator[tuple[str, Named]]:
    """Yield the attribute of each counter, and how it is shown."""
    for each in fields(owner):
        if "named" in each.metadata:
            yield each.name, each.metadata["named"]
