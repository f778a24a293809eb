"""`manage.py run_upstream`: the upstream worker as a process of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from django.core.management.base import CommandParser

from relay import conf
from relay.bybit.topics import Category
from relay.lib.tasks import run_forever
from relay.management.base import CannotStart, RelayCommand
from relay.management.state_line import Pace, number, report
from relay.ops import metric_registry
from relay.telemetry.counters import Counters
from relay.telemetry.loop_lag import watch_loop
from relay.telemetry.telemetry import Telemetry
from relay.upstream.category import CategoryUpstream
from relay.upstream.worker import UpstreamWorker

logger = logging.getLogger(__name__)


class Command(RelayCommand):
    """Keeps the connections to the exchange and publishes what comes over Redis."""

    help = "Hold the upstream connections for any number of web processes (needs REDIS_URL)."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--category",
            action="append",
            choices=[category.value for category in Category],
            help="serve this category alone; may be repeated (default: all)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until a signal."""
        if not conf.current().redis_urls:
            raise CannotStart(
                "run_upstream needs REDIS_URL, such as redis://127.0.0.1:6379/0; "
                "without it the worker runs inside the web process."
            )
        categories = [Category(name) for name in options["category"] or list(Category)]
        telemetry = Telemetry.fresh()
        worker = UpstreamWorker(telemetry, categories)
        try:
            metric_registry.serve(telemetry.counters, worker)
        except OSError as fault:
            address = conf.current().metrics_address
            raise CannotStart(f"RELAY_METRICS_ADDRESS {address}: {fault.strerror}.") from fault
        self.run_until_stopped(_run(telemetry.counters, worker))


async def _run(counters: Counters, worker: UpstreamWorker) -> None:
    watch = partial(watch_loop, counters.loop_lag)
    reporter = _reporter(counters, worker)
    beside = [
        asyncio.create_task(run_forever(watch, "event loop lag"), name="event loop lag"),
        asyncio.create_task(
            run_forever(partial(report, reporter, logger), "state line"), name="state line"
        ),
    ]
    try:
        await worker.run()
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


def _reporter(counters: Counters, worker: UpstreamWorker) -> Callable[[], str]:
    """Return what says how it stands."""
    counted = [counters.upstream[category] for category in worker.categories]
    pace = Pace()

    def state() -> str:
        rate = pace.per_second(sum(each.messages for each in counted))
        delay = worker.layer.delay
        redis = "Redis is away" if delay is None else f"Redis {delay * 1000:.1f} ms"
        leads = [worker.upstreams[one] for one in worker.categories if one in worker.upstreams]
        stands_by = [one for one in worker.categories if one not in worker.upstreams]
        parts = [f"{rate:,.0f} messages/s", redis, _connections(leads)]
        if leads:
            parts.append(f"leads {', '.join(map(_category, leads))}")
        if stands_by:
            parts.append(f"stands by for {', '.join(stands_by)}")
        return " | ".join(parts)

    return state


def _connections(upstreams: list[CategoryUpstream]) -> str:
    connections = [connection for upstream in upstreams for connection in upstream.connections]
    is_open = sum(connection.is_open for connection in connections)
    total = number(len(connections), "connection")
    return total if is_open == len(connections) else f"{is_open} of {total}"


def _category(upstream: CategoryUpstream) -> str:
    topics = f" ({number(len(upstream.streams), 'topic')})" if upstream.streams else ""
    return f"{upstream.category} {upstream.state}{topics}"
