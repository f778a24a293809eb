"""The upstream side of one category, its time, and what a worker does with it."""

from __future__ import annotations

import json
from typing import Any

from relay.bybit.topics import Category
from relay.seam import envelopes
from relay.seam.envelopes import UPSTREAM_GROUP
from relay.telemetry.telemetry import Telemetry
from relay.upstream.category import CategoryUpstream, ConnectionState
from tests.builders import ack, topic

EPOCH = 100
PUBLISHED_AT = 1_700_000_000.5
LINGER = 10.0


class Market:
    """The upstream side of one category, its time, and what a worker does with it."""

    def __init__(
        self, category: Category = Category.LINEAR, *, linger: float = LINGER, room: int = 10_000
    ) -> None:
        self.now = 1_000.0
        self.category = category
        self.room = room
        self.upstream = CategoryUpstream(
            category,
            telemetry=Telemetry.fresh(),
            epoch=EPOCH,
            worker="w",
            linger=linger,
            max_topics=lambda: self.room - len(self.upstream.streams),
            wall_ms=lambda: int(self.now * 1_000),
            random=lambda: 0.0,
        )

    def want(self, *topics: str, process: str = "p", at: Any = None, whole: bool = False) -> None:
        envelope = envelopes.Demand(
            process, dict.fromkeys(topics, at and tuple(at)), epoch=0, whole=whole
        )
        self.upstream.on_demand(envelope, self.now)

    def drop(self, *topics: str, process: str = "p") -> None:
        self.upstream.on_demand(envelopes.Demand(process, {}, list(topics)), self.now)

    def open(self, number: int = 0) -> ConnectionState:
        connection = self.upstream.connections[number]
        self.upstream.on_opened(connection, self.now)
        return connection

    def requests(self, number: int = 0) -> list[tuple[str, str, list[str]]]:
        subscriptions = self.upstream.connections[number].subscriptions
        assert subscriptions is not None
        bodies = [json.loads(text) for text in subscriptions.requests(self.now)]
        return [(body["req_id"], body["op"], body["args"]) for body in bodies]

    def frames(self, *texts: bytes, number: int = 0) -> None:
        for text in texts:
            self.upstream.on_frame(self.upstream.connections[number], text, self.now)

    def follow(self, *topics: str) -> None:
        """Have topics wanted, subscribed and confirmed; what was told is taken away."""
        self.want(*topics)
        self.open()
        [(request_id, _, _)] = self.requests()
        self.frames(ack(request_id))
        self.told()

    def told(self, text: str = "") -> list[Any]:
        """Take the envelopes away; return those of one topic, or all but the state."""
        outbox = self.upstream.take_envelopes(self.now, PUBLISHED_AT)
        if text:
            return outbox.get(topic(text, self.category).group, [])
        return [e for group, waiting in outbox.items() if group != UPSTREAM_GROUP for e in waiting]

    def states(self) -> list[str]:
        outbox = self.upstream.take_envelopes(self.now, PUBLISHED_AT)
        changes: list[Any] = outbox.get(UPSTREAM_GROUP, [])
        return [change.state for change in changes]

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.upstream.tick(self.now)


def group(text: str, category: Category = Category.LINEAR) -> str:
    return topic(text, category).group
