"""`manage.py run_upstream`: the upstream worker as a process of its own."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from relay import conf
from relay.core.topics import Category
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
        self.run_until_stopped(UpstreamWorker(categories).run())
