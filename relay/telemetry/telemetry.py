"""What one process records, as one thing that is handed to every part that records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from relay.lib.clock import wall_ms as clock_wall_ms
from relay.telemetry.counters import Counters
from relay.telemetry.events import EventLog


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The counters and the event log of one process.

    The composition root of a process makes one and hands it on. Nothing else makes or finds one.
    """

    counters: Counters
    events: EventLog

    @classmethod
    def fresh(cls, wall_ms: Callable[[], int] = clock_wall_ms) -> Telemetry:
        """Return counters at zero and an empty log; `wall_ms` is the time of day, Unix ms."""
        return cls(Counters(), EventLog(wall_ms))
