"""Whether this web process should be sent clients: what `/readyz` answers."""

from __future__ import annotations

import time
from typing import Any

from relay import web_process
from relay.core.topics import Category
from relay.envelopes import UpstreamState
from relay.hub import Hub

DOWN_PATIENCE = 5.0  # seconds a wanted category may be down before the process is not ready


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
                "for_seconds": _down_for(hub, category),
            }
            for category in sorted(wanted)
            if _down_for(hub, category) >= DOWN_PATIENCE
        ]
    return {"ready": not faults, "faults": faults}


def _down_for(hub: Hub, category: Category) -> float:
    known = hub.categories[category]
    if known.state is not UpstreamState.DOWN:
        return 0.0
    return round(time.time() - known.since / 1000, 1)


def _seconds(since: float) -> float:
    return round(time.monotonic() - since, 1)
