"""What hubs and workers say through the channel layer, and the names of the groups they use.

Web processes and upstream workers know each other by these alone. Every envelope is a dict
of plain values with a `type`, as Channels asks, and the version `v` of what it says; one of
another version, or of an unknown type, is ignored (see `relay.layers.inbox`).

| type | from, to | says |
|---|---|---|
| demand | hub to workers of a category | topics wanted or dropped, and where the hub stands |
| publication | worker to hubs of a topic | messages of the exchange, in order |
| base | worker to hubs of a topic | the state at a position, for hubs that miss something |
| stale | worker to hubs of a topic | messages of the exchange were missed |
| verdict | worker to hubs of a topic | the exchange agreed to a topic or refused it |
| upstream | worker to all hubs | how the connection to a category is; repeated every second |
| joined | hub to itself | what arrives from here on was sent after it had joined |

What processes report of themselves, for operators, is in `relay.telemetry.reports`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, TypedDict

from relay.bybit.errors import Code
from relay.bybit.topics import Category
from relay.seam.receiver import Position

VERSION = 1  # of all envelopes; raised when a process of an earlier version would misread one
UPSTREAM_GROUP = "marketfeed.upstream"
REPORTS_GROUP = "marketfeed.reports"


class UnknownEnvelope(Exception):
    """This version has no envelope of that type."""


def stamped(envelope: Mapping[str, Any]) -> dict[str, Any]:
    """Return an envelope with the version that this process speaks."""
    return {**envelope, "v": VERSION}


class UpstreamState(StrEnum):
    """How a category's connection to the exchange is."""

    IDLE = "idle"  # nobody wants anything
    CONNECTING = "connecting"  # the first try
    LIVE = "live"
    PARTIAL = "partial"  # one of several connections is down: its topics are stale, others live
    DOWN = "down"

    @property
    def is_interrupted(self) -> bool:
        """Whether any reader may be missing something."""
        return self in (UpstreamState.PARTIAL, UpstreamState.DOWN)


class Demand(TypedDict):
    """What one hub wants of one category.

    `want` maps topics to the hub's position there, None where it needs a base. With
    `whole`, what is not in it is no longer wanted; else `drop` says what is not. `epoch` is
    the highest the hub has heard: it listens to no lower one. `behind` says that the hub has not
    read all that was sent to it: where it stands shows no loss.
    """

    type: str
    v: int
    process: str
    epoch: int
    whole: bool
    behind: bool
    want: dict[str, list[int] | None]
    drop: list[str]


class Publication(TypedDict):
    """Messages of one topic, that follow position (epoch, after).

    `at` is when they were handed to the channel layer, Unix seconds; 0 before.
    """

    type: str
    v: int
    group: str
    epoch: int
    after: int
    at: float
    texts: list[bytes]


class Base(TypedDict):
    """The state of one topic at (epoch, offset), as messages; none for trades before the first."""

    type: str
    v: int
    group: str
    epoch: int
    offset: int
    texts: list[bytes]


class Stale(TypedDict):
    """After (epoch, after) messages of the exchange were missed."""

    type: str
    v: int
    group: str
    epoch: int
    after: int


class VerdictEnvelope(TypedDict):
    """The exchange agreed to a topic (`code` is empty), or somebody refused it."""

    type: str
    v: int
    group: str
    epoch: int
    code: str
    message: str


class Upstream(TypedDict):
    """How a category's connection is; `since` in Unix ms."""

    type: str
    v: int
    category: str
    epoch: int
    state: str
    since: int
    worker: str


class Joined(TypedDict):
    """A hub's mark in its own channel: for these audiences, by group, it is a member."""

    type: str
    v: int
    audiences: dict[str, int]


Envelope = Demand | Publication | Base | Stale | VerdictEnvelope | Upstream


def demand_group(category: Category) -> str:
    """Return the group in which the workers of a category listen."""
    return f"marketfeed.demand.{category}"


def demand(
    process: str,
    want: Mapping[str, Position | None],
    drop: Sequence[str] = (),
    *,
    epoch: int,
    whole: bool = False,
    behind: bool = False,
) -> Demand:
    """Return what a hub tells the workers."""
    positions = {topic: None if at is None else list(at) for topic, at in want.items()}
    return {
        "type": "demand",
        "v": VERSION,
        "process": process,
        "epoch": epoch,
        "whole": whole,
        "behind": behind,
        "want": positions,
        "drop": list(drop),
    }


def joined(audiences: Mapping[str, int]) -> Joined:
    """Return a hub's mark in its own channel."""
    return {"type": "joined", "v": VERSION, "audiences": dict(audiences)}


def publication(group: str, epoch: int, after: int, text: bytes) -> Publication:
    """Return a message on its way to the hubs; more may be appended to `texts`."""
    return {
        "type": "publication",
        "v": VERSION,
        "group": group,
        "epoch": epoch,
        "after": after,
        "at": 0.0,
        "texts": [text],
    }


def base(group: str, epoch: int, offset: int, texts: list[bytes]) -> Base:
    """Return the state of a topic."""
    return {
        "type": "base",
        "v": VERSION,
        "group": group,
        "epoch": epoch,
        "offset": offset,
        "texts": texts,
    }


def stale(group: str, epoch: int, after: int) -> Stale:
    """Return the word that a topic is not current."""
    return {"type": "stale", "v": VERSION, "group": group, "epoch": epoch, "after": after}


def confirmed(group: str, epoch: int) -> VerdictEnvelope:
    """Return the word that the exchange agreed to a topic."""
    return {
        "type": "verdict",
        "v": VERSION,
        "group": group,
        "epoch": epoch,
        "code": "",
        "message": "",
    }


def refused(group: str, epoch: int, code: Code, message: str) -> VerdictEnvelope:
    """Return the word that a topic was refused."""
    return {
        "type": "verdict",
        "v": VERSION,
        "group": group,
        "epoch": epoch,
        "code": code.value,
        "message": message,
    }


def upstream(
    category: Category, epoch: int, state: UpstreamState, since: int, worker: str
) -> Upstream:
    """Return how the connection of a category is."""
    return {
        "type": "upstream",
        "v": VERSION,
        "category": category.value,
        "epoch": epoch,
        "state": state.value,
        "since": since,
        "worker": worker,
    }
