"""`manage.py run_upstream`: the upstream worker as a process of its own."""

from __future__ import annotations

import asyncio
from typing import Any

from django.core.management.base import CommandParser

from relay import conf, metrics
from relay.core.topics import Category
from relay.loop_lag import watch_loop
from relay.management.base import CannotStart, RelayCommand
from relay.upstream.worker import UpstreamWorker


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
        worker = UpstreamWorker(categories)
        try:
            metrics.serve(worker)
        except OSError as fault:
            address = conf.current().metrics_address
            raise CannotStart(f"RELAY_METRICS_ADDRESS {address}: {fault.strerror}.") from fault
        self.run_until_stopped(_run(worker))


async def _run(worker: UpstreamWorker) -> None:
    lag = asyncio.create_task(watch_loop(), name="event loop lag")
    try:
        await worker.run()
    finally:
        lag.cancel()
