"""Whether this web process should be sent clients: what `/readyz` answers."""

from __future__ import annotations

import time
from typing import Any

from relay.bybit.topics import Category
from relay.downstream.hub import Hub
from relay.lib import timing
from relay.web import process as web_process


def readiness() -> dict[str, Any]:
    """Return whether this process should be sent clients, and if not, why. Safe from any thread."""
    process = web_process.existing()
    faults: list[dict[str, Any]] = []
    if process is not None:
        hub = process.runner.hub
        if process.is_stopping:
            faults.append({"what": "shutting_down", "for_seconds": 0.0})
        unreachable = process.runner.unreachable_since
        if unreachable is not None:
            faults.append({"what": "redis", "for_seconds": _seconds(unreachable)})
        wanted = {audience.topic.category for audience in list(hub.audiences.values())}
        faults += [
            {
                "what": "upstream",
                "category": category.value,
                "for_seconds": _unserved_for(hub, category),
            }
            for category in sorted(wanted)
            if _unserved_for(hub, category) >= timing.UNSERVED_LIMIT
        ]
    return {"ready": not faults, "faults": faults}


def _unserved_for(hub: Hub, category: Category) -> float:
    since = hub.categories[category].unserved_since
    return 0.0 if since is None else _seconds(since)


def _seconds(since: float) -> float:
    return round(time.monotonic() - since, 1)
