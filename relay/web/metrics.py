"""What a web process shows to Prometheus at `/metrics`: its clients, its topics, what it sent."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from channels.layers import get_channel_layer
from prometheus_client.core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from relay.bybit.errors import Code
from relay.bybit.requests import Endpoint
from relay.downstream.close_codes import LIVE_PAGE_CODES, CloseCode
from relay.downstream.hub import Hub
from relay.downstream.outbound.choice import WAYS
from relay.ops.metric_families import count, counted, gauge, gauges
from relay.ops.metric_registry import LOOP, as_text, make_registry
from relay.ops.rows import state_of
from relay.seam.envelopes import UpstreamState
from relay.telemetry.counters import Counters
from relay.telemetry.reports import TOPIC_STATES
from relay.upstream.worker import UpstreamWorker
from relay.web import process as web_process
from relay.web import readiness
from relay.web.process import WebProcess

SHOWN: Final[dict[str, Iterable[Any]]] = {
    "connections": Endpoint,
    "refusals": Code,
    "closes": {1000, 1001, 1005, 1006, *CloseCode} - LIVE_PAGE_CODES,
}
"""Shown from the start, so that the first of a kind is an increase; others when they come."""


class WebCollector(Collector):
    """What this web process does."""

    def collect(self) -> Iterator[Metric]:
        """Yield its counts and how it is now. Safe from any thread."""
        yield from counted([([], _counters())], without=LOOP, shown=SHOWN)
        process = web_process.existing()
        if process is not None:
            yield from _clients(process)
            yield from _topics(process.runner.hub)
            yield from _upstream(process)


def _clients(process: WebProcess) -> Iterator[Metric]:
    """Yield how the clients are; only those with bytes waiting are looked at."""
    backlogged = process.backlogged()
    yield gauges(
        "clients",
        "Clients, by endpoint and by the way their messages leave.",
        ("door", "outbound"),
        [((endpoint, way), process.ways[endpoint, way]) for endpoint in Endpoint for way in WAYS],
    )
    yield gauge("clients_backlogged", "Clients with bytes unsent.", len(backlogged))
    yield gauge("clients_lagging", "Clients that lag.", sum(c.is_lagging for c in backlogged))
    unsent = sum(client.outbound.unsent() for client in backlogged)
    yield gauge("unsent_bytes", "Bytes that clients' sockets have not accepted.", unsent)
    yield gauge("ready", "Whether /readyz says so.", float(readiness.readiness()["ready"]))


def _topics(hub: Hub) -> Iterator[Metric]:
    states: Counter[tuple[str, str]] = Counter(
        {(category.value, state): 0 for category in hub.categories for state in TOPIC_STATES}
    )
    subscriptions = 0
    for audience in list(hub.audiences.values()):
        subscriptions += audience.subscribers
        category = audience.topic.category
        is_down = hub.categories[category].state is UpstreamState.DOWN
        states[category.value, state_of(audience, is_down=is_down)] += 1
    yield gauge("subscriptions", "Topics that clients follow, once for each client.", subscriptions)
    yield gauges(
        "topics",
        "Topics of this process, read or pinned, by state.",
        ("category", "state"),
        states.items(),
    )


def _upstream(process: WebProcess) -> Iterator[Metric]:
    """Yield what this process knows of the workers, and of the way to them."""
    hub = process.runner.hub
    yield gauges(
        "upstream_state",
        "How a category's connection to the exchange is: 1 for its state.",
        ("category", "state"),
        [
            ((category.value, state.value), float(known.state is state))
            for category, known in hub.categories.items()
            for state in UpstreamState
        ],
    )
    yield gauges(
        "upstream_epoch",
        "Number of the term of the worker that leads, once known.",
        ("category",),
        [
            ((category.value,), known.epoch)
            for category, known in hub.categories.items()
            if known.epoch  # from 0 on, each start of a web process would look like a new leader
        ],
    )
    yield gauges(
        "upstream_leader",
        "The worker that leads, as host:pid.",
        ("category", "worker"),
        [
            ((category.value, known.worker), 1.0)
            for category, known in hub.categories.items()
            if known.worker
        ],
    )
    is_reachable = process.runner.unreachable_since is None
    yield gauge("layer_up", "Whether the channel layer can be reached.", float(is_reachable))
    layer: Any = get_channel_layer()
    words = "Messages that found their channel full."
    yield count("layer_dropped", words, layer.dropped if _has(layer, "dropped") else 0)
    delay = layer.delay if _has(layer, "delay") else None
    if delay is not None:
        yield gauge("layer_delay_seconds", "How long Redis took to answer a ping.", delay)


def _has(layer: Any, name: str) -> bool:
    """Whether a layer counts something. Not `hasattr`: channels_redis' asks the event loop then."""
    return name in vars(layer) or hasattr(type(layer), name)


def _counters() -> Counters:
    """Return what this process has counted: nothing before it has started."""
    process = web_process.existing()
    return Counters() if process is None else process.telemetry.counters


def _worker() -> UpstreamWorker | None:
    process = web_process.existing()
    return None if process is None else process.worker


@functools.cache
def _registry() -> CollectorRegistry:
    """Return what `/metrics` shows."""
    found = make_registry(_counters, _worker)
    found.register(WebCollector())
    return found


def render(accept: str) -> tuple[bytes, str]:
    """Return everything as text, in the format that `accept` asks for, and its content type."""
    return as_text(_registry(), accept)
