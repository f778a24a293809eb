"""The live picture over all web processes, and whether this one should be sent clients."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from relay import web_process
from relay.core.topics import Category
from relay.envelopes import TopicReport, UpstreamState
from relay.hub import Hub

DOWN_PATIENCE = 5.0  # seconds a wanted category may be down before the process is not ready


def picture() -> dict[str, Any]:
    """Return the live picture, as `live.json` shows it. Safe from any thread."""
    process = web_process.existing()
    generated_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    if process is None:
        return {"generated_at": generated_at, "upstream": {}, "processes": [], "topics": []}
    reports = process.runner.reporter.latest(time.monotonic())
    topics: dict[tuple[str, str], TopicReport] = {}
    for report in reports:
        for counted in report["topics"]:
            key = (counted["category"], counted["topic"])
            topics[key] = _sum(topics[key], counted) if key in topics else counted
    return {
        "generated_at": generated_at,
        "upstream": {
            category.value: {
                "state": known.state.value,
                "since": known.since,
                "epoch": known.epoch,
                "worker": known.worker,
            }
            for category, known in process.runner.hub.categories.items()
        },
        "processes": [
            {
                "process": report["process"],
                "name": report["name"],
                "clients": report["clients"],
                "subscriptions": sum(topic["subscribers"] for topic in report["topics"]),
                "topics": len(report["topics"]),
            }
            for report in reports
        ],
        "topics": list(topics.values()),
    }


def _sum(one: TopicReport, other: TopicReport) -> TopicReport:
    """Add two processes' counts of a topic; each receives the same messages."""
    ages = [age for age in (one["age_ms"], other["age_ms"]) if age is not None]
    states = {one["state"], other["state"]}
    return {
        "category": one["category"],
        "topic": one["topic"],
        "state": next(state for state in ("stale", "waiting", "live") if state in states),
        "subscribers": one["subscribers"] + other["subscribers"],
        "messages_per_second": max(one["messages_per_second"], other["messages_per_second"]),
        "deliveries_per_second": round(
            one["deliveries_per_second"] + other["deliveries_per_second"], 1
        ),
        "age_ms": min(ages, default=None),
    }


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
