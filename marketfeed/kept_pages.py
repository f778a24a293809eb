"""Pages that are the same for every client: one rendering of Django's is kept for seconds."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from marketfeed.answers import Answer, Headers
from relay.web.origins import is_allowed

PAGES_KEPT = 64  # then the one longest unused is forgotten
FINAL = (200, 302)  # what may be kept: no error that may be gone with the next request

_Key = tuple[str, str, str, bool]


class KeptPages:
    """Answers by scheme, root path, path, and whether a page of an allowed origin asks."""

    def __init__(self, django: Any) -> None:
        """Render by `django`, an ASGI application."""
        self._django = django
        self._kept: OrderedDict[_Key, tuple[float, Answer]] = OrderedDict()
        self._rendering: dict[_Key, asyncio.Task[Answer]] = {}

    def __len__(self) -> int:
        """Return how many answers are kept."""
        return len(self._kept)

    async def get(self, scope: Any, headers: Mapping[bytes, bytes], kept_for: float) -> Answer:
        """Return the answer to GET, whatever the query.

        Args:
            scope: Of the request.
            headers: Of the request; the page is rendered with `Host` and an allowed `Origin` alone.
            kept_for: Seconds for which one rendering is good enough.
        """
        origin = headers.get(b"origin", b"")
        is_open = is_allowed(origin.decode("latin1"))
        key = (scope["scheme"], scope["root_path"], scope["path"], is_open)
        until, found = self._kept.get(key, (0.0, None))
        if found is not None and time.monotonic() < until:
            self._kept.move_to_end(key)
        else:
            task = self._rendering.get(key)
            if task is None:
                given = [(b"host", headers[b"host"]), *([(b"origin", origin)] if is_open else [])]
                rendering = self._render(scope, given, key, kept_for)
                task = asyncio.get_running_loop().create_task(rendering)
                self._rendering[key] = task
            found = await asyncio.shield(task)  # others may wait for the same
        return _open_to(origin, found) if is_open else found

    async def _render(self, scope: Any, headers: Headers, key: _Key, kept_for: float) -> Answer:
        try:
            asked = {**scope, "method": "GET", "query_string": b"", "headers": headers}
            found = await _ask(self._django, asked)
            if found.status in FINAL:
                self._kept[key] = (time.monotonic() + kept_for, found)
                self._kept.move_to_end(key)
                if len(self._kept) > PAGES_KEPT:
                    self._kept.popitem(last=False)
            return found
        finally:
            del self._rendering[key]


def _open_to(origin: bytes, found: Answer) -> Answer:
    """Return an answer in which the origin that asks takes the place of the one that asked."""
    name = b"access-control-allow-origin"
    headers = [(n, origin if n.lower() == name else value) for n, value in found.headers]
    return replace(found, headers=headers)


async def _ask(application: Any, scope: Any) -> Answer:
    """Return the whole answer of an ASGI application to a request without a body."""
    status, headers, parts = 500, Headers(), []
    is_asked = False

    async def receive() -> dict[str, Any]:
        nonlocal is_asked
        if is_asked:
            await asyncio.get_running_loop().create_future()  # the client never leaves
        is_asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status, headers = message["status"], list(message["headers"])
        else:
            parts.append(message.get("body", b""))

    await application(scope, receive, send)
    return Answer(status, headers, b"".join(parts))
