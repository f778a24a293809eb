"""How late the event loop is: what everything in the process waits for."""

from __future__ import annotations

import asyncio

from relay.telemetry.counters import Histogram

LOOK = 0.25  # seconds between looks


async def watch_loop(lag: Histogram) -> None:
    """Observe, until cancelled, how much longer than asked a sleep takes."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LOOK
        await asyncio.sleep(LOOK)
        lag.observe(loop.time() - due)
