"""A hub's reader that writes down what it is told."""

from __future__ import annotations

from typing import Any

from relay.bybit.errors import Refusal
from relay.bybit.topics import Category, Topic
from relay.downstream.audience import Request
from relay.downstream.wire import Batch
from relay.seam.envelopes import UpstreamState


class RecordingReader:
    """A client that writes down what it is told, and has room or has not."""

    def __init__(self, *, takes_notices: bool = True) -> None:
        self.takes_notices = takes_notices
        self.is_full = False
        self.heard: list[Any] = []
        self.batches: list[Any] = []  # of messages, as they came
        self.outbound: Any = self  # of an outbound, `deliver` is all that an audience needs

    def taken(self) -> list[Any]:
        heard, self.heard = self.heard, []
        return heard

    def deliver(self, batch: Batch) -> bool:
        if not self.is_full:
            self.heard += batch.texts
            self.batches.append(batch.texts)
        return not self.is_full

    def has_room(self) -> bool:
        return not self.is_full

    def on_turn(self, now: float) -> None:
        self.heard.append(("turn", now))

    def on_subscribed(self, request: Request, refusal: Refusal | None) -> None:
        self.heard.append(("ack", request.id) if refusal is None else (refusal.code, request.id))

    def on_revoked(self, topic: Topic, refusal: Refusal) -> None:
        self.heard.append(("revoked", topic.text, refusal.message))

    def on_failure(self) -> None:
        raise  # noqa: PLE0704 - what is being handled: no test may overlook it

    def on_rows_lost(self, topic: Topic, dropped: int, *, is_slow: bool) -> None:
        self.heard.append(("missed", topic.text, dropped))

    def on_upstream_changed(self, category: Category, state: UpstreamState, since: int) -> None:
        self.heard.append((category.value, state.value, since))
