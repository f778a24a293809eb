"""`marketfeed run`: one web process of the relay, under Daphne."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.core.management.base import CommandParser

from marketfeed.management.database import migrate
from relay.management.base import CannotStart, RelayCommand
from relay.management.serving import endpoint, host, import_path, is_free


class Command(RelayCommand):
    """Migrates, then becomes Daphne."""

    help = (
        "Serve the relay: without REDIS_URL all of it, with REDIS_URL one of any number of web "
        "processes beside a worker. What follows -- goes to Daphne, such as -- --proxy-headers."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare where to listen."""
        parser.add_argument("--port", type=int, default=8000, help="of the pages and the relay")
        parser.add_argument("--interface", default="127.0.0.1", help="address to listen on")
        parser.add_argument("daphne", nargs="*", metavar="-- OPTION", help="of Daphne")

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until a signal."""
        port, interface = options["port"], options["interface"]
        if not is_free(interface, port):
            raise CannotStart(
                f"Cannot bind {interface}:{port} (in use or not permitted): choose another port."
            )
        migrate()
        self.stdout.write(f"marketfeed: http://{host(interface)}:{port}/ (stop with Ctrl-C)")
        self.stdout.flush()
        is_quiet = options["verbosity"] < 2  # Django's usual verbosity is 1
        command = (
            *(sys.executable, "-P", "-m", "daphne"),
            *(("-v", "0") if is_quiet else ()),
            *("-e", endpoint(interface, port)),
            *("--websocket_timeout", "-1"),  # else a page left open is closed after a day
            *options["daphne"],
            "marketfeed.asgi:application",
        )
        os.execve(sys.executable, command, os.environ | import_path())
