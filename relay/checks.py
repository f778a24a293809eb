"""System checks: the faults of the environment, as `manage.py check` reports them.

| id | says |
|---|---|
| relay.E001 | a variable of Django's part, or `.env` itself, cannot be used |
| relay.E002 | SECRET_KEY is missing |
| relay.E003 | DATABASE_URL cannot be used |
| relay.E004 | UPSTREAM_URL cannot be used |
| relay.E005 | REDIS_URL cannot be used |
| relay.E006 | a `RELAY_` variable cannot be used |
| relay.E007 | there is no channel layer |
| relay.W001 | a `RELAY_` variable that does not exist |

With `--deploy` also, in `relay.ops.deploy_checks`:

| id | says |
|---|---|
| relay.W002 | Redis's `client-output-buffer-limit pubsub` is too small for RELAY_MAX_TOPICS |
| relay.W003 | Redis may evict the keys that say which worker leads |
| relay.W004 | too few open files for RELAY_MAX_CONNECTIONS |
| relay.W005 | the channel layer is not one that the relay was made for |
| relay.W006 | ALLOWED_HOSTS names no host, or every host |
| relay.W007 | Redis refuses the user or the password of REDIS_URL |
| relay.W008 | autobahn does not bound what compressed messages inflate to |
| relay.I001 | Redis cannot be reached, its settings are unchecked |
| relay.I002 | Redis does not tell its settings, as managed ones do not |
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from relay import conf


@register()
def check_values(**kwargs: Any) -> list[CheckMessage]:
    """Report every variable that cannot be used."""
    return [
        Error(f"{fault}.", hint=fault.hint or f"Correct {fault.variable}.", id=fault.check_id)
        for fault in conf.faults()
    ]


@register()
def check_layer(**kwargs: Any) -> list[CheckMessage]:
    """Report a project without the channel layer by which hubs and workers meet."""
    if "default" in getattr(settings, "CHANNEL_LAYERS", {}):
        return []
    hint = "Set CHANNEL_LAYERS; in one process relay.layers.local.LocalChannelLayer does."
    return [Error("There is no channel layer.", hint=hint, id="relay.E007")]


@register()
def check_names(**kwargs: Any) -> list[CheckMessage]:
    """Report `RELAY_` variables that nothing reads."""
    found: list[CheckMessage] = []
    for name in getattr(settings, "UNKNOWN_RELAY_VARIABLES", ()):
        meant = conf.nearest(name)
        hint = f"Did you mean {meant}?" if meant else "docs/settings.md lists the variables."
        found.append(Warning(f"{name} is not a setting of the relay.", hint=hint, id="relay.W001"))
    return found
