"""A runner without an event loop."""

from __future__ import annotations

from collections.abc import Iterable

from relay.bybit.topics import Topic
from relay.downstream.audience import Reader
from relay.downstream.hub import Hub


class PlainRunner:
    """Hands inputs to a hub; the test does what the hub wants done."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def subscribe(
        self, reader: Reader, topics: Iterable[Topic], request_id: object, now: float
    ) -> None:
        self.hub.subscribe(reader, topics, request_id, now)

    def unsubscribe(self, reader: Reader, topic: Topic, now: float) -> None:
        self.hub.unsubscribe(reader, topic, now)

    def leave(self, reader: Reader, topics: Iterable[Topic]) -> None:
        self.hub.leave(reader, topics)

    def ask_turn(self, reader: Reader, at: float) -> None:
        self.hub.ask_turn(reader, at)

    def tick(self, now: float) -> None:
        """Let a turn of the event loop begin."""
        self.hub.tick(now)
        while (reader := self.hub.take_turn(now)) is not None:
            reader.on_turn(now)
