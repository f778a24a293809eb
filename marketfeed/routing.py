"""The project's WebSockets: the relay's, and an answer for every other path."""

from __future__ import annotations

from typing import Any

from channels.routing import URLRouter
from django.urls import re_path

from relay.routing import websocket_urlpatterns
from relay.web.consumers import UnknownPathConsumer
from relay.web.paths import below_root

_router = URLRouter([*websocket_urlpatterns, re_path("", UnknownPathConsumer.as_asgi())])


async def websocket(scope: Any, receive: Any, send: Any) -> None:
    """Answer a WebSocket, whether or not a proxy has cut the server's root path off."""
    await _router({**scope, "path": below_root(scope), "root_path": ""}, receive, send)
