"""What a process shows to Prometheus: its upstream worker, its event loop, the process itself.

Counts are plain ints that are read when Prometheus asks; `relay.telemetry.counters` names them. No
label names a client or a topic. `relay.web.metrics` adds what web processes have.

Latencies are samples, so that they cost nothing: of messages that leave together the first is
measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import prometheus_client
from prometheus_client import exposition
from prometheus_client.core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from relay import conf
from relay.ops.metric_families import counted, gauges
from relay.telemetry.counters import Counters
from relay.upstream.worker import UpstreamWorker

LOOP: Final = ("loop_lag",)
"""What a process of any kind counts: attributes of `Counters`."""


class LoopCollector(Collector):
    """How late the event loop of this process is."""

    def __init__(self, counters: Callable[[], Counters]) -> None:
        """Collect of whatever `counters` returns at the time."""
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        """Yield what was measured."""
        yield from counted([([], self._counters())], only=LOOP)


class WorkerCollector(Collector):
    """What the upstream worker of this process does."""

    def __init__(
        self, counters: Callable[[], Counters], worker: Callable[[], UpstreamWorker | None]
    ) -> None:
        """Collect of whatever `counters` and `worker` return at the time."""
        self._counters = counters
        self._worker = worker

    def collect(self) -> Iterator[Metric]:
        """Yield its counts, and how the categories are that it leads."""
        worker = self._worker()
        if worker is None:
            return
        upstream = self._counters().upstream
        served = [([category.value], upstream[category]) for category in worker.categories]
        yield from counted(served, ("category",))
        yield from _led(worker)


def _led(worker: UpstreamWorker) -> Iterator[Metric]:
    """Yield how the categories are that the worker leads."""
    led = list(worker.upstreams.items())
    leading = {category for category, _ in led}
    yield gauges(
        "worker_leading",
        "Whether this worker leads the category (1) or stands by (0).",
        ("category",),
        [((category.value,), float(category in leading)) for category in worker.categories],
    )
    by_category: list[tuple[str, str, list[float]]] = [
        ("worker_epoch", "Number of the term in which it leads.", [s.epoch for _, s in led]),
        (
            "worker_topics",
            "Topics wanted of the exchange.",
            [len(upstream.streams) for _, upstream in led],
        ),
        (
            "worker_topics_confirmed",
            "Topics that the exchange has agreed to.",
            [sum(s.is_confirmed for s in list(upstream.streams.values())) for _, upstream in led],
        ),
        (
            "worker_connections",
            "Connections to the exchange that there should be.",
            [len(upstream.connections) for _, upstream in led],
        ),
        (
            "worker_connections_open",
            "Connections to the exchange that are open.",
            [
                sum(connection.is_open for connection in list(upstream.connections))
                for _, upstream in led
            ],
        ),
        (
            "worker_waiting_bytes",
            "Bytes that wait for the channel layer.",
            [upstream.waiting_bytes for _, upstream in led],
        ),
    ]
    for name, words, values in by_category:
        pairs = [((c.value,), value) for (c, _), value in zip(led, values, strict=True)]
        yield gauges(name, words, ("category",), pairs)


def make_registry(
    counters: Callable[[], Counters], worker: Callable[[], UpstreamWorker | None]
) -> CollectorRegistry:
    """Return a registry with everything that any process of the relay has.

    Args:
        counters: Returns what the process has counted.
        worker: Returns its upstream worker, if it has one.
    """
    registry = CollectorRegistry()
    prometheus_client.ProcessCollector(registry=registry)
    prometheus_client.PlatformCollector(registry=registry)
    prometheus_client.GCCollector(registry=registry)
    registry.register(LoopCollector(counters))
    registry.register(WorkerCollector(counters, worker))
    return registry


def as_text(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Return everything as text, in the format that `accept` asks for, and its content type."""
    encode, content_type = exposition.choose_encoder(accept)
    return encode(registry), content_type


def serve(counters: Counters, worker: UpstreamWorker) -> None:
    """Show the worker's metrics at `RELAY_METRICS_ADDRESS`, if there is one, from a thread.

    Raises:
        OSError: the address cannot be used.
    """
    address = conf.current().metrics_address
    if address:
        host, _, port = address.rpartition(":")
        registry = make_registry(lambda: counters, lambda: worker)
        prometheus_client.start_http_server(int(port), host.strip("[]"), registry)
