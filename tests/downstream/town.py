"""A hub with its time and the worker that speaks to it."""

from __future__ import annotations

from typing import Any

from relay.bybit.topics import Category, Topic
from relay.downstream.hub import Hub
from relay.lib import timing
from relay.seam import envelopes
from relay.seam.envelopes import UpstreamState
from relay.telemetry.telemetry import Telemetry
from tests.builders import topic
from tests.downstream.readers import RecordingReader

EPOCH = 100
BOOK = topic()
TRADES = topic("publicTrade.BTCUSDT")
TICKER = topic("tickers.BTCUSDT")


class Town:
    """A hub, its time and the worker that speaks to it."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.telemetry = Telemetry.fresh()
        self.counters = self.telemetry.counters
        self.hub = Hub(
            self.telemetry,
            wall_ms=lambda: int(self.now * 1_000),
        )

    def subscribe(self, reader: RecordingReader, *topics: Topic, id: object = 7) -> None:
        self.hub.subscribe(reader, topics, id, self.now)
        self.hub.receive(envelopes.as_message(envelopes.Joined(self.hub.unjoined())), self.now)

    def follow(self, reader: RecordingReader, topic: Topic, base: Any) -> None:
        """Subscribe and have the worker answer with its state."""
        self.subscribe(reader, topic)
        self.base(topic, *base)
        self.pass_time(timing.MIN_ACK_DELAY)
        self.hub.flush()

    def receive(self, envelope: Any) -> None:
        self.hub.receive(envelopes.as_message(envelope), self.now)

    def base(self, topic: Topic, offset: int, text: bytes | None, epoch: int = EPOCH) -> None:
        self.receive(envelopes.Base(topic.group, epoch, offset, [] if text is None else [text]))

    def publish(self, topic: Topic, after: int, *texts: bytes, epoch: int = EPOCH) -> None:
        envelope = envelopes.Publication(topic.group, epoch, after, [texts[0]])
        envelope.texts += texts[1:]
        self.receive(envelope)

    def upstream(
        self, state: str, epoch: int = EPOCH, category: Category = Category.LINEAR
    ) -> None:
        now = int(self.now * 1_000)
        self.receive(envelopes.Upstream(category, epoch, UpstreamState(state), now, "w"))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.hub.tick(self.now)
