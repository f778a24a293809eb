"""The database of an installation that is not migrated by hand."""

from __future__ import annotations

from django import db
from django.core.management import call_command

from relay.management.base import CannotStart


def migrate() -> None:
    """Bring the database up to date.

    Raises:
        CannotStart: the database cannot be reached or changed.
    """
    try:
        call_command("migrate", verbosity=0, interactive=False)
    except db.Error as fault:
        where = db.connection.settings_dict.get("NAME")
        raise CannotStart(f"Cannot migrate the database {where}: {fault}.") from None
