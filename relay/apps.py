"""The relay as a Django app."""

from __future__ import annotations

from django.apps import AppConfig


class RelayConfig(AppConfig):
    """Registers the system checks."""

    name = "relay"
    verbose_name = "Relay"
    default_auto_field = (
        "django.db.models.BigAutoField"  # of the migrations, whatever the project's
    )

    def ready(self) -> None:
        """Register the system checks: importing them does."""
        from relay import checks  # noqa: F401, PLC0415 - checks need the started Django
        from relay.ops import deploy_checks  # noqa: F401, PLC0415 - checks need the started Django
