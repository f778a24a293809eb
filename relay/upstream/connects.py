"""How often the exchange may be connected to.

Bybit allows 500 connects in 5 minutes from one address. All connections of all workers share what
this module allows, over Redis where there is one. A worker that cannot reach
it, or has none, counts for itself.

Source: Bybit v5 docs, WebSocket, Connect.
"""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

from redis.asyncio import Redis

from relay import conf
from relay.lib import timing
from relay.lib.pacing import TokenBucket
from relay.lib.tasks import LAYER_FAULTS

BURST = 100  # connects at once; with INTERVAL 400 in 5 minutes
INTERVAL = 1.0  # seconds for which each further one waits

# The key holds the time, in ms of Redis's clock, at which all that was allowed would be used up if
# one connect were made each INTERVAL.
_TAKE = """
local now = redis.call('time')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local used = math.max(tonumber(redis.call('get', KEYS[1]) or '0'), now)
local wait = used + interval - now - burst * interval
if wait > 0 then return wait end
redis.call('set', KEYS[1], string.format('%.0f', used + interval), 'px', used + interval - now)
return 0
"""


class Connects:
    """The connects to one host that are allowed to this worker."""

    def __init__(
        self,
        url: str,
        redis: Redis | None = None,
        *,
        burst: int = BURST,
        interval: float = INTERVAL,
    ) -> None:
        """Start with all of `burst` allowed.

        Args:
            url: Address of the exchange; its host is what counts.
            redis: A client with short timeouts, by which workers share; None for a worker alone.
            interval: Seconds until one further connect is allowed.
        """
        self._key = f"{conf.current().prefix}:connects:{urlsplit(url).netloc.rpartition('@')[2]}"
        self._burst, self._interval = burst, interval
        self._bucket = TokenBucket(1 / interval, burst, time.monotonic())
        self._script = None if redis is None else redis.register_script(_TAKE)

    async def turn(self) -> None:
        """Return when one connect may be made; it counts."""
        wait = await self._wait()
        while wait > 0:
            await asyncio.sleep(wait)
            wait = await self._wait()
        self._bucket.take(time.monotonic())

    async def _wait(self) -> float:
        """Take one connect; return 0, or in how many seconds to try again."""
        now = time.monotonic()
        wait = self._bucket.available_at(now) - now
        if wait > 0 or self._script is None:
            return wait
        try:
            async with asyncio.timeout(timing.REDIS_ANSWER_LIMIT):
                arguments = [int(self._interval * 1000), self._burst]
                return float(await self._script([self._key], arguments)) / 1000
        except LAYER_FAULTS:
            return 0.0
