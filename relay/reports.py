"""What one process counts, and what the others say they do.

Every hub reports once a second to all hubs, so whichever process answers knows the sums over
all. A process that stops reporting is forgotten like a lease that runs out.
"""

from __future__ import annotations

from relay.audience import Audience
from relay.envelopes import Report, TopicReport, UpstreamState
from relay.hub import Hub

REPORT_LEASE = 6.0  # seconds without a report, after which a process is forgotten


class Reporter:
    """Counts what this process does, and keeps what the others report.

    Rates are taken between two reports of this process.
    """

    def __init__(self, process: str, name: str) -> None:
        self._process = process
        self._name = name
        self._before: dict[Audience, tuple[int, int]] = {}
        self._reported_at = 0.0
        self._reports: dict[str, tuple[float, Report]] = {}

    def make(self, hub: Hub, clients: int, now: float) -> Report:
        """Return what this process counts now."""
        elapsed = max(now - self._reported_at, 0.001)
        counts = {a: (a.messages, a.deliveries) for a in hub.audiences.values()}
        topics = []
        for audience, (messages, deliveries) in counts.items():
            before = self._before.get(audience, (messages, deliveries))
            topic = audience.topic
            upstream = hub.categories[topic.category].state
            topics.append(
                TopicReport(
                    category=topic.category.value,
                    topic=topic.text,
                    state=_state_of(audience, upstream),
                    subscribers=audience.subscribers,
                    messages_per_second=round((messages - before[0]) / elapsed, 1),
                    deliveries_per_second=round((deliveries - before[1]) / elapsed, 1),
                    age_ms=round((now - audience.updated) * 1000) if audience.updated else None,
                )
            )
        self._before, self._reported_at = counts, now
        return {
            "type": "report",
            "process": self._process,
            "name": self._name,
            "clients": clients,
            "topics": topics,
        }

    def take(self, report: Report, now: float) -> None:
        """Keep a report of any process, this one included."""
        self._reports[report["process"]] = (now, report)
        for process, (received, _) in list(self._reports.items()):
            if now - received > REPORT_LEASE:
                del self._reports[process]

    def latest(self, now: float) -> list[Report]:
        """Return the last report of each process that still reports. Safe from any thread."""
        reports = list(self._reports.values())
        return [report for received, report in reports if now - received <= REPORT_LEASE]


def _state_of(audience: Audience, upstream: UpstreamState) -> str:
    if upstream is UpstreamState.DOWN:
        return "stale"
    if audience.replica.is_live:
        return "live"
    return "stale" if audience.messages else "waiting"
