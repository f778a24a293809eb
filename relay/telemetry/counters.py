"""What this process has counted since it started, for reports and `/metrics`.

Plain ints, incremented where things happen and read by whoever wants to know, from any thread.
Whatever happens once per reader is counted once per batch. Nothing is kept per client or topic.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

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


class UpstreamCounters:
    """What was counted of one category, in the process that holds its connections.

    Attributes:
        messages: Market messages of topics that are subscribed.
        bytes: Of those messages.
        not_understood: Frames that were ignored.
        gaps: Breaks of a topic: its messages are withheld until the next snapshot.
        resyncs: Snapshots asked for again, after a gap or because none came.
        breaks: Connections that broke or could not be made.
        reconnects: Connections opened in place of those.
        refusals: Topics the exchange refused.
        dropped: Envelopes that the channel layer was too slow for.
        received: Seconds from the exchange's time of a message until it was received.
        published: Seconds from there until it was handed to the channel layer.

    Of the messages that leave together for the channel layer, both times are the first's.
    """

    __slots__ = (
        "breaks",
        "bytes",
        "dropped",
        "gaps",
        "messages",
        "not_understood",
        "published",
        "received",
        "reconnects",
        "refusals",
        "resyncs",
    )

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0
        self.not_understood = 0
        self.gaps = 0
        self.resyncs = 0
        self.breaks = 0
        self.reconnects = 0
        self.refusals = 0
        self.dropped = 0
        self.received = Histogram()
        self.published = Histogram()


class Counters:
    """Everything one process counts.

    Attributes:
        messages_in: Messages that reached the hub, once each, however many read them.
        deliveries: Messages handed to clients, once for each client.
        bytes_out: WebSocket frames handed to clients, answers included, as compressed as they
            leave. Where the server compresses (any but Daphne), counted before that.
        snapshots: Snapshots handed to clients that were new, slow or had missed something.
        conflated: Updates of books and tickers that a client without room was not sent: a
            snapshot will stand for them.
        lagging: Times a client began to lag.
        gaps: Times a client was told, or closed because of, trades it was not sent.
        trades_dropped: Trades in those gaps.
        holes: Times the hub missed messages on the way through the channel layer.
        connections: Clients let in, by door.
        refusals: Requests refused, by code; the code of Bybit's dialect is the nearest of ours.
        closes: Connections that ended, by close code: ours, or else what the client said.
        written: Seconds from the hand-over to the channel layer until all clients were written
            to; of the messages of a flush, the oldest's.
        loop_lag: Seconds that the event loop came too late.
        upstream: By category.
    """

    def __init__(self) -> None:
        self.messages_in = 0
        self.deliveries = 0
        self.bytes_out = 0
        self.snapshots = 0
        self.conflated = 0
        self.lagging = 0
        self.gaps = 0
        self.trades_dropped = 0
        self.holes = 0
        self.connections: Counter[str] = Counter()
        self.refusals: Counter[Code] = Counter()
        self.closes: Counter[int] = Counter()
        self.written = Histogram()
        self.loop_lag = Histogram()
        self.upstream = {category: UpstreamCounters() for category in Category}


counters = Counters()
"""Those of this process."""
