"""Ask the project by HTTP as a server does, without one: by ASGI, through all that is in front."""

from __future__ import annotations

from typing import Any

from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler

from marketfeed.front import Front
from tests.processes import PATIENCE

Response = tuple[int, dict[str, str], bytes]


class Site:
    """One web process's HTTP, without the relay behind it.

    Attributes:
        rendered: The paths that reached Django.
    """

    def __init__(self) -> None:
        self.rendered: list[str] = []
        self._django = ASGIHandler()
        self._front = Front(self._count)

    async def _count(self, scope: Any, receive: Any, send: Any) -> None:
        self.rendered.append(scope["path"])
        await self._django(scope, receive, send)

    async def get(
        self,
        path: str,
        method: str = "GET",
        *,
        address: str | None = "203.0.113.7",
        scheme: str = "http",
        root: str = "",
        **headers: str,
    ) -> Response:
        """Return status, headers and body; a header's name is written with underscores."""
        path, _, query = path.partition("?")
        given = {"host": "localhost", **headers}
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": scheme,
            "path": path,
            "root_path": root,
            "query_string": query.encode(),
            "headers": [
                (name.replace("_", "-").encode(), value.encode("latin1"))
                for name, value in given.items()
            ],
            "client": address and [address, 1],
            "server": ["127.0.0.1", 80],
        }
        talk = ApplicationCommunicator(self._front, scope)
        await talk.send_input({"type": "http.request", "body": b""})
        start = await talk.receive_output(PATIENCE)
        body = b""
        while True:
            part = await talk.receive_output(PATIENCE)
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        await talk.wait(PATIENCE)
        found = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        return start["status"], found, body


async def get(path: str, method: str = "GET", **options: Any) -> Response:
    """Ask a process that has just started."""
    return await Site().get(path, method, **options)
