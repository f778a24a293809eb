"""What web processes and workers report, once a second, for the overview.

A report has a few sums, and its many rows packed as one value of bytes: every process keeps the
bytes of all others, and reads them only when an operator looks at the overview. Counts only grow;
a reader of two reports knows the rate, also when one in between was lost.
"""

from __future__ import annotations

import zlib
from typing import TypedDict, TypeVar

import msgspec

from relay.telemetry.events import Event

TOPIC_STATES = ("stale", "waiting", "live")  # worst first
CONNECTIONS_TOLD = 200  # clients with the most unsent bytes
_LEVEL = 1  # of zlib: packs 5,000 rows in 4 ms; the default takes four times that for a fifth less

T = TypeVar("T")


class TopicRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One topic in one web process; `state` is one of `TOPIC_STATES`, `age_ms` None before data."""

    category: str
    topic: str
    state: str
    subscribers: int
    peak: int
    messages: int
    deliveries: int
    age_ms: int | None
    pinned: bool


class ConnectionRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One client; `since` in Unix ms."""

    client: str
    address: str | None
    user_agent: str
    door: str
    since: int
    topics: int
    unsent: int
    lagging: bool


class HubRows(msgspec.Struct, frozen=True, array_like=True):
    """The rows of a web process."""

    topics: list[TopicRow]
    connections: list[ConnectionRow]


class StreamRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One topic in the worker that leads its category."""

    category: str
    topic: str
    messages: int
    gaps: int
    resyncs: int
    u: int | None
    fault: str


class Totals(TypedDict):
    """What a web process has counted since it started."""

    messages: int
    deliveries: int
    bytes: int


class Report(TypedDict):
    """What one web process counts.

    `at` is its own clock in seconds, to be compared with its other reports alone; `packed` is
    a `HubRows`; `redis_delay_ms` is None without Redis.
    """

    process: str
    name: str
    started_at: int
    at: float
    clients: int
    subscriptions: int
    topics: int
    lagging: int
    unsent: int
    totals: Totals
    redis_delay_ms: float | None
    packed: bytes
    origin: str
    events: list[Event]


class ConnectionReport(TypedDict):
    """One connection to the exchange; `since` in Unix ms."""

    number: int
    state: str
    since: int
    topics: int
    confirmed: int
    error: str


class CategoryReport(TypedDict):
    """What a worker is to one category; a standby knows nothing but that it stands by."""

    role: str
    epoch: int
    state: str
    since: int
    topics: int
    wanted: int
    confirmed: int
    messages: int
    connections: list[ConnectionReport]


class WorkerReport(TypedDict):
    """What one worker counts; `packed` is a list of `StreamRow` of what it leads."""

    process: str
    name: str
    at: float
    categories: dict[str, CategoryReport]
    packed: bytes
    origin: str
    events: list[Event]


def pack(rows: HubRows | list[StreamRow]) -> bytes:
    """Return rows as bytes."""
    return zlib.compress(msgspec.msgpack.encode(rows), _LEVEL)


def unpack(packed: bytes, kind: type[T]) -> T:
    """Return the rows that `pack` was given."""
    return msgspec.msgpack.decode(zlib.decompress(packed), type=kind)


def encode(report: Report | WorkerReport) -> bytes:
    """Return a report as the body of its envelope."""
    return msgspec.msgpack.encode(report)


def decode(body: bytes, kind: type[T]) -> T:
    """Return the report that `encode` was given.

    Raises:
        msgspec.ValidationError: the body is not such a report.
    """
    return msgspec.msgpack.decode(body, type=kind)
