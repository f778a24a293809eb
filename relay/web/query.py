"""The overview as any web process can show it, from any thread."""

from __future__ import annotations

import time
from typing import Any

from relay.ops.last_reports import TopicKey
from relay.ops.overview import Overview
from relay.ops.topic_table import Page
from relay.web import process as web_process


def overview(page: Page | None = None) -> dict[str, Any]:
    """Return the overview, as `live.json` shows it. Safe from any thread.

    Args:
        page: Which topics to show; None for all.
    """
    process = web_process.existing()
    if process is None:
        return Overview().show({}, page, 0.0)
    return process.live.show(page)


def live_readers() -> dict[TopicKey, int]:
    """Return how many clients of all web processes read each live topic. Safe from any thread."""
    process = web_process.existing()
    return {} if process is None else process.live.overview.live_readers(time.monotonic())


def history() -> dict[str, list[float]]:
    """Return the totals of the last minutes (see `Overview.history`). Safe from any thread."""
    process = web_process.existing()
    return {} if process is None else process.live.overview.history()
