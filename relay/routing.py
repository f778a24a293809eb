"""Which consumer answers at which path."""

from __future__ import annotations

from typing import Any

from channels.routing import URLRouter
from django.urls import path, re_path

from relay.downstream.handshake import decline_unknown_offers
from relay.web.consumers import BybitConsumer, MarketDataConsumer, UnknownPathConsumer
from relay.web.live_socket import LiveTopicsConsumer
from relay.web.paths import below_root

_router = URLRouter(
    [
        path("ws", MarketDataConsumer.as_asgi()),
        path("admin/relay/livetopic/ws", LiveTopicsConsumer.as_asgi()),
        path("v5/public/<str:category>", BybitConsumer.as_asgi()),
        re_path("", UnknownPathConsumer.as_asgi()),
    ]
)


async def websocket(scope: Any, receive: Any, send: Any) -> None:
    """Answer a WebSocket, whether or not a proxy has cut the server's root path off."""
    decline_unknown_offers(send)
    await _router({**scope, "path": below_root(scope), "root_path": ""}, receive, send)
