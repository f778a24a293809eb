"""How late the event loop is: what everything in the process waits for."""

from __future__ import annotations

import asyncio

from relay.telemetry.counters import counters

LOOK = 0.25  # seconds between looks


async def watch_loop() -> None:
    """Measure for ever how much longer than asked a sleep takes."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LOOK
        await asyncio.sleep(LOOK)
        counters.loop_lag.observe(loop.time() - due)
