"""`marketfeed demo`: `manage.py demo` with a database that is up to date."""

from __future__ import annotations

from typing import Any

from marketfeed.management.database import migrate
from relay.management.commands import demo


class Command(demo.Command):
    """Migrates first."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until a signal, or until one of the children ends."""
        migrate()
        super().handle(*args, **options)
