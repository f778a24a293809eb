"""Peer: Channels as its tutorial teaches it: a consumer and a channel for every client.

With REDIS_URL the channel layer is channels_redis, else the in-memory one.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import django
from django.conf import settings

REDIS_URL = os.environ.get("REDIS_URL")
LAYER: dict[str, Any] = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
if REDIS_URL:
    LAYER = {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL]},
    }
settings.configure(
    SECRET_KEY="only for the bench",
    ALLOWED_HOSTS=["127.0.0.1"],
    INSTALLED_APPS=["daphne"],
    CHANNEL_LAYERS={"default": LAYER},
)
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.layers import get_channel_layer  # noqa: E402
from channels.routing import ProtocolTypeRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402

from benchmarks.peers.upstream import messages  # noqa: E402

GROUP = "orderbook.50.BTCUSDT"
upstream: asyncio.Task[None] | None = None


async def publish() -> None:
    """Send every message of the exchange to the group."""
    layer = get_channel_layer()
    async for text in messages():
        await layer.group_send(GROUP, {"type": "market.message", "text": text.decode()})


class MarketConsumer(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        global upstream  # noqa: PLW0603 - there is one exchange, started with the first client
        if upstream is None:
            upstream = asyncio.create_task(publish())
        await self.channel_layer.group_add(GROUP, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(GROUP, self.channel_name)

    async def market_message(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["text"])


application = ProtocolTypeRouter(
    {"http": get_asgi_application(), "websocket": MarketConsumer.as_asgi()}
)
