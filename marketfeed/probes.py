"""What orchestrators, balancers and Prometheus ask.

They call a process by its address, which `ALLOWED_HOSTS` cannot know. That list guards links that
pages make of the `Host` header, and these answers make none. They need no session and no redirect
either, and are never limited.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

from marketfeed.answers import Answer, answer
from relay.web import metrics as web
from relay.web import readiness

_NEVER_STORED = [(b"cache-control", b"no-store")]


async def healthz(accept: str) -> Answer:
    """Answer 200 while the process lives."""
    return answer(200, b"ok\n", headers=_NEVER_STORED)


async def readyz(accept: str) -> Answer:
    """Answer 200, or 503 where something is wrong; the JSON says what, and for how long."""
    found = readiness.readiness()
    status = 200 if found["ready"] else 503
    return answer(status, json.dumps(found).encode(), "application/json", _NEVER_STORED)


async def metrics(accept: str) -> Answer:
    """Answer Prometheus. Who may ask is the network's matter: there is nothing of a client in it.

    In a thread: counting the open files of a busy process takes milliseconds.
    """
    text, kind = await asyncio.to_thread(web.render, accept)
    return answer(200, text, kind, _NEVER_STORED)


PROBES: dict[str, Callable[[str], Awaitable[Answer]]] = {
    "/healthz": healthz,
    "/readyz": readyz,
    "/metrics": metrics,
}
"""By path; each is called with the `Accept` header."""
