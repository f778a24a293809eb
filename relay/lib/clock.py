"""The time of day, as messages and reports tell it."""

from __future__ import annotations

import time


def wall_ms() -> int:
    """Return the time of day in Unix ms."""
    return time.time_ns() // 1_000_000
