"""Which consumer answers at which path."""

from __future__ import annotations

from channels.routing import URLRouter
from django.urls import path, re_path

from relay.consumers import BybitConsumer, MarketDataConsumer, UnknownPathConsumer
from relay.live.socket import LiveTopicsConsumer

websocket = URLRouter(
    [
        path("ws", MarketDataConsumer.as_asgi()),
        path("admin/relay/livetopic/ws", LiveTopicsConsumer.as_asgi()),
        path("v5/public/<str:category>", BybitConsumer.as_asgi()),
        re_path("", UnknownPathConsumer.as_asgi()),
    ]
)
