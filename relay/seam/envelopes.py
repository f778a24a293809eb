"""What hubs and workers send each other through the channel layer, and the groups they use.

Web processes and upstream workers know each other by these alone. Each envelope is a struct;
`Envelope` is the union of all. The unions named after their receivers say who may receive
which, so a type checker finds a kind that a receiver has forgotten.

| kind | from, to | says |
|---|---|---|
| demand | hub to workers of a category | topics wanted or dropped, and the hub's positions |
| resync | web process to workers of a category | an operator asks for a new snapshot of a topic |
| publication | worker to hubs of a topic | messages of the exchange, in order |
| base | worker to hubs of a topic | the state at a position, for hubs that miss something |
| stale | worker to hubs of a topic | messages of the exchange were missed |
| confirmed | worker to hubs of a topic | the exchange agreed to the topic |
| refused | worker to hubs of a topic | the exchange or the worker refused the topic |
| upstream | worker to all hubs | the state of a category's connection; repeated every second |
| joined | hub to itself | what arrives from here on was sent after the hub had joined |
| report | web process to all web processes | what it counts, once a second |
| pins_changed | web process to all web processes | the pinned topics must be read again |
| disconnect | web process to the one with the client | an operator disconnects a client |
| worker_report | worker to all web processes | what it counts, once a second |
| carries | worker to the other workers | how many topics it subscribes |
| hello | a process to all others | it has started and knows nothing yet |
| left | a process to all others | it stops |

On the channel layer an envelope travels as a dict, as Channels asks: `type` is its kind, `v` the
version of what it says, and `body` the envelope itself, as MessagePack or, within one process,
as it is (see `as_message`). A receiver ignores another version and an unknown kind (see
`relay.layers.inbox`). Marketfeed before version 2 put the fields of an envelope next to its `type`:
such a process finds none of them here, so it cannot misread an envelope of this version.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, get_args

import msgspec

from relay.bybit.errors import Code
from relay.bybit.topics import Category
from relay.seam.receiver import Position

VERSION = 2  # of all envelopes; raised when a process of an earlier version would misread one
UPSTREAM_GROUP = "marketfeed.upstream"
REPORTS_GROUP = "marketfeed.reports"
WORKERS_GROUP = "marketfeed.workers"


class UpstreamState(StrEnum):
    """How a category's connection to the exchange is."""

    IDLE = "idle"  # no client wants anything
    CONNECTING = "connecting"  # the first try
    LIVE = "live"
    PARTIAL = "partial"  # one of several connections is down: its topics are stale, others live
    DOWN = "down"

    @property
    def is_interrupted(self) -> bool:
        """Whether any reader may be missing something."""
        return self in (UpstreamState.PARTIAL, UpstreamState.DOWN)


def demand_group(category: Category) -> str:
    """Return the group in which the workers of a category listen."""
    return f"marketfeed.demand.{category}"


# ---- to the worker that leads a category ----


class Demand(msgspec.Struct, frozen=True, tag="demand"):
    """What one hub wants of one category.

    Attributes:
        process: The process of the hub.
        want: Topics and the hub's position in each; None where the hub needs a base.
        drop: Topics no longer wanted. Empty if `whole` is set.
        epoch: The highest epoch the hub has seen; it ignores envelopes of a lower one.
        whole: Whether a topic that is not in `want` is no longer wanted.
        behind: Whether the hub has not read all that was sent to it, so that its positions do
            not prove a loss.
    """

    process: str
    want: dict[str, Position | None]
    drop: list[str] = []
    epoch: int = 0
    whole: bool = False
    behind: bool = False


class Resync(msgspec.Struct, frozen=True, tag="resync"):
    """An operator asks for a new snapshot of a topic."""

    topic: str


# ---- to hubs ----


class Publication(msgspec.Struct, tag="publication"):
    """Messages of one topic that follow position (epoch, after).

    The sender may append to `texts` until it hands the envelope to the channel layer. `at` is
    when it does so, Unix seconds; 0 before.
    """

    group: str
    epoch: int
    after: int
    texts: list[bytes]
    at: float = 0.0


class Base(msgspec.Struct, frozen=True, tag="base"):
    """The state of one topic at (epoch, offset), as messages; none for trades before the first."""

    group: str
    epoch: int
    offset: int
    texts: list[bytes]


class Stale(msgspec.Struct, frozen=True, tag="stale"):
    """Messages of the exchange were missed after position (epoch, after)."""

    group: str
    epoch: int
    after: int


class Confirmed(msgspec.Struct, frozen=True, tag="confirmed"):
    """The exchange agreed to a topic."""

    group: str
    epoch: int


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The exchange refused a topic, or the worker did; `message` is for people."""

    group: str
    epoch: int
    code: Code
    message: str


class Upstream(msgspec.Struct, frozen=True, tag="upstream"):
    """The state of a category's connection; `since` in Unix ms, `worker` for operators."""

    category: Category
    epoch: int
    state: UpstreamState
    since: int
    worker: str


class Joined(msgspec.Struct, frozen=True, tag="joined"):
    """A hub's mark in its own channel: it is a member of these groups.

    `audiences` maps groups to the number of the audience that the hub had then.
    """

    audiences: dict[str, int]


# ---- among processes, for operators and for the limit on topics ----


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """A process has started, and asks the others to send everything they have recorded."""

    process: str


class Left(msgspec.Struct, frozen=True, tag="left"):
    """A process stops: its receivers forget it at once."""

    process: str


class Carries(msgspec.Struct, frozen=True, tag="carries"):
    """How many topics a worker subscribes, by category it leads: (epoch, topics)."""

    process: str
    topics: dict[str, tuple[int, int]]


class WorkerReport(msgspec.Struct, frozen=True, tag="worker_report"):
    """What a worker counts; `body` is a `relay.telemetry.reports.WorkerReport`, encoded there."""

    process: str
    body: bytes


class Report(msgspec.Struct, frozen=True, tag="report"):
    """What a web process counts; `body` is a `relay.telemetry.reports.Report`, encoded there."""

    process: str
    body: bytes


class PinsChanged(msgspec.Struct, frozen=True, tag="pins_changed"):
    """Pinned topics have changed in the database."""

    process: str


class Disconnect(msgspec.Struct, frozen=True, tag="disconnect"):
    """An operator disconnects one client of one process; `client` is its number there."""

    process: str
    client: str


# ---- who receives what ----

TopicEnvelope = Publication | Base | Stale | Confirmed | Refused
ToHub = TopicEnvelope | Upstream | Joined
ToLeader = Demand | Resync
ToWorker = Hello | Left | Carries | WorkerReport
ToWeb = ToWorker | Report | PinsChanged | Disconnect
Envelope = ToHub | ToLeader | ToWeb

# Each raises msgspec.ValidationError for what is none of these envelopes, msgspec.DecodeError for
# what is not MessagePack.
decode_to_hub: Callable[[bytes], ToHub] = msgspec.msgpack.Decoder(ToHub).decode
decode_to_leader: Callable[[bytes], ToLeader] = msgspec.msgpack.Decoder(ToLeader).decode
decode_to_worker: Callable[[bytes], ToWorker] = msgspec.msgpack.Decoder(ToWorker).decode
decode_to_web: Callable[[bytes], ToWeb] = msgspec.msgpack.Decoder(ToWeb).decode

_encode = msgspec.msgpack.Encoder().encode
_kinds = {kind: kind.__struct_config__.tag for kind in get_args(Envelope)}


def as_message(envelope: Envelope, *, is_shared: bool = False) -> dict[str, Any]:
    """Return an envelope as the dict that a channel layer carries.

    Args:
        is_shared: Whether the channel layer hands the dict over within the process; then
            the envelope is not encoded, and neither side may change it any more.
    """
    return {
        "type": _kinds[type(envelope)],
        "v": VERSION,
        "body": envelope if is_shared else _encode(envelope),
    }
