"""The rows of a web process's report: its topics and its clients."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from itertools import islice

from relay.downstream.audience import Audience
from relay.downstream.hub import Hub
from relay.downstream.session import ClientSession
from relay.seam.envelopes import UpstreamState
from relay.telemetry.reports import CONNECTIONS_TOLD, ConnectionRow, TopicRow


def topic_rows(hub: Hub, now: float) -> list[TopicRow]:
    """Return a row for every topic of a hub."""
    is_down = {
        category: known.state is UpstreamState.DOWN for category, known in hub.categories.items()
    }
    return [
        TopicRow(
            audience.topic.category.value,
            audience.topic.text,
            state_of(audience, is_down=is_down[audience.topic.category]),
            audience.subscribers,
            audience.peak,
            audience.messages,
            audience.deliveries,
            round((now - audience.updated) * 1000) if audience.updated else None,
            audience.is_pinned,
        )
        for audience in hub.audiences.values()
    ]


def state_of(audience: Audience, *, is_down: bool) -> str:
    """Return which of `TOPIC_STATES` a topic is in.

    Args:
        is_down: Whether its category has lost the exchange.
    """
    if is_down:
        return "stale"
    if audience.receiver.is_live:
        return "live"
    return "stale" if audience.messages else "waiting"


def connection_rows(
    clients: Iterable[ClientSession], unsent: Mapping[ClientSession, int]
) -> list[ConnectionRow]:
    """Return those with the most unsent bytes, then those that have been here longest."""
    worst = heapq.nlargest(CONNECTIONS_TOLD, unsent, key=unsent.__getitem__)
    others = (client for client in clients if client not in unsent)
    return [
        ConnectionRow(
            str(client.number),
            client.address,
            client.user_agent,
            "/ws" if client.takes_notices else "/v5",
            client.since,
            len(client.topics),
            unsent.get(client, 0),
            client.is_lagging,
        )
        for client in (*worst, *islice(others, CONNECTIONS_TOLD - len(worst)))
    ]
