"""Makes a channel layer of each kind that the relay may run on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from channels_redis.pubsub import RedisPubSubChannelLayer
from redis.asyncio import Redis

from relay.layers.local import LocalChannelLayer
from relay.layers.redis import RedisChannelLayer


class StockLayer(RedisPubSubChannelLayer):
    """channels_redis' own, with a `group_add` that waits until Redis knows of it."""

    def __init__(self, url: str) -> None:
        super().__init__(hosts=[url])
        self.url = url

    async def group_add(self, group: str, channel: str) -> None:
        await self.__getattr__("group_add")(group, channel)
        name = self._get_group_channel_name(group)
        async with Redis.from_url(self.url) as redis:
            while not (await redis.pubsub_numsub(name))[0][1]:  # noqa: ASYNC110 - nothing else tells
                await asyncio.sleep(0.01)


MAKERS: dict[str, Callable[[str], Any]] = {
    "local": lambda url: LocalChannelLayer(),
    "redis": lambda url: RedisChannelLayer(hosts=[url]),
    "redis, two shards": lambda url: RedisChannelLayer(hosts=[url, url.replace("/0", "/1")]),
    "stock": StockLayer,
}
