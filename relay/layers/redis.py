"""The channel layer over Redis: channels_redis' pub/sub layer with another connection under it.

Groups, channels, shards and the wire format are channels_redis'; a process with the stock layer
may take part. What differs: many messages travel in one round trip, what arrives is read without
a task switch a message, what waits for a slow receiver is bounded and counted, and a Redis that
does not answer is noticed within 2.5 s. A lost connection is made again and has all its
subscriptions again by one command; what was sent meanwhile is lost, and the positions in the
envelopes show it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Any

from channels_redis.pubsub import RedisPubSubChannelLayer, RedisPubSubLoopLayer
from channels_redis.utils import _wrap_close, decode_hosts
from hiredis import HiredisError

from relay.layers.local import CAPACITY, Queue
from relay.layers.redis_link import RedisLink, place
from relay.lib import timing
from relay.lib.pacing import Backoff

logger = logging.getLogger(__name__)

MAX_WAITING = 64 * 2**20  # bytes that a channel holds: seconds of a whole venue
PER_TRIP = 500  # messages published in one round trip


class RedisChannelLayer(RedisPubSubChannelLayer):  # type: ignore[misc]
    """Channels and groups over one Redis, or several that share the groups among them."""

    def _get_layer(self) -> _LoopLayer:
        loop = asyncio.get_running_loop()
        layer: _LoopLayer | None = self._layers.get(loop)
        if layer is None:
            layer = _LoopLayer(*self._args, **self._kwargs, channel_layer=self)
            self._layers[loop] = layer
            _wrap_close(self, loop)
        return layer

    async def receive(self, channel: str) -> dict[str, Any]:
        """Wait for the next message of a channel. Who is cancelled here gives the channel up."""
        return await self._get_layer().receive(channel)

    async def forget(self, channel: str) -> None:
        """Give a channel up, with what waits in it."""
        await self._get_layer().forget(channel)

    async def group_send_many(self, messages: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Send messages to groups, in this order; return when Redis has taken them all.

        Raises:
            ConnectionError: a shard is away; what it should have taken is lost.
        """
        await self._get_layer().group_send_many(messages)

    @property
    def dropped(self) -> int:
        """Messages that found their channel full."""
        return sum(layer.dropped for layer in self._layers.values())

    @property
    def delay(self) -> float | None:
        """Seconds that the last ping took, of the slowest shard; None if one is away."""
        delays = [shard.delay for layer in self._layers.values() for shard in layer.shards]
        known = [delay for delay in delays if delay is not None]
        return max(known) if known and len(known) == len(delays) else None


class _LoopLayer(RedisPubSubLoopLayer):  # type: ignore[misc]
    """The layer of one event loop; its parent knows which group has which channels."""

    def __init__(self, hosts: Any = None, capacity: int = CAPACITY, **kwargs: Any) -> None:
        super().__init__(hosts, **kwargs)
        self.capacity = capacity
        self.dropped = 0
        self.unreadable = 0
        self.shards = [_Shard(host, self._take) for host in decode_hosts(hosts)]
        self._shards = self.shards  # where the parent looks for them

    def _take(self, name: bytes, message: bytes) -> None:
        """Put what came from Redis where it belongs."""
        channel = name.decode()
        for member in self.groups.get(channel) or (channel,):
            waiting = self.channels.get(member)
            if waiting is not None and not waiting.put(message, self.capacity):
                if not self.dropped % self.capacity:
                    logger.error("channel full: consumer too slow, dropping messages")
                self.dropped += 1

    async def _subscribe_to_channel(self, channel: str) -> None:
        self.channels[channel] = _Waiting()
        await self._get_shard(channel).subscribe(channel)

    async def receive(self, channel: str) -> dict[str, Any]:
        if channel not in self.channels:
            await self._subscribe_to_channel(channel)
        while True:
            try:
                message = await self.channels[channel].get()
            except asyncio.CancelledError:
                await self.forget(channel)  # Channels' way to say that a consumer is gone
                raise
            try:
                return self.channel_layer.deserialize(message)  # type: ignore[no-any-return]
            except Exception as fault:  # whatever the serializer raises
                if not self.unreadable:
                    words = "ignoring what is not a message of this channel layer: %r: %.100r"
                    logger.error(words, fault, message)
                self.unreadable += 1

    async def forget(self, channel: str) -> None:
        if self.channels.pop(channel, None) is not None:
            await self._get_shard(channel).unsubscribe(channel)
            marker = self._get_group_channel_name("")
            for group in [group for group, members in self.groups.items() if channel in members]:
                await self.group_discard(group.removeprefix(marker), channel)

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        await self._settle()
        await super().send(channel, message)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        await self.group_send_many([(group, message)])

    async def group_send_many(self, messages: Sequence[tuple[str, dict[str, Any]]]) -> None:
        await self._settle()
        faults: dict[_Shard, BaseException] = {}
        for start in range(0, len(messages), PER_TRIP):
            shares: dict[_Shard, list[tuple[str, bytes]]] = {}
            for group, message in messages[start : start + PER_TRIP]:
                channel = self._get_group_channel_name(group)
                shard = self._get_shard(channel)
                if shard not in faults:  # one that is away must not keep the others waiting
                    data = self.channel_layer.serialize(message)
                    shares.setdefault(shard, []).append((channel, data))
            answers = [await shard.post(share) for shard, share in shares.items()]
            found = await asyncio.gather(*answers, return_exceptions=True)
            faults |= {
                shard: fault
                for shard, fault in zip(shares, found, strict=True)
                if fault is not None
            }
        for fault in faults.values():
            raise fault

    async def _settle(self) -> None:
        """Have subscriptions take effect before what is sent after them, whatever the shard."""
        if len(self.shards) > 1:
            for shard in self.shards:
                await shard.on_subscribed()


class _Waiting(Queue):
    """Messages of one channel, as they came from Redis."""

    __slots__ = ("_bytes",)

    def __init__(self) -> None:
        super().__init__()
        self._bytes = 0

    def put(self, message: Any, capacity: int) -> bool:
        if self._bytes + len(message) > MAX_WAITING or not super().put(message, capacity):
            return False
        self._bytes += len(message)
        return True

    async def get(self) -> Any:
        message = await super().get()
        self._bytes -= len(message)
        return message


class _Shard:
    """One Redis: what is to be subscribed there, and the connection that is kept to it."""

    def __init__(self, host: dict[str, Any], on_message: Any) -> None:
        self._host = host
        self._on_message = on_message
        self._subscribed: dict[str, None] = {}
        self._subscribing: asyncio.Future[None] | None = None  # the last that was sent
        self._attempt: asyncio.Future[RedisLink] | None = None  # the last connection, or its fault
        self._keeper: asyncio.Task[None] | None = None
        self._fault: Exception | None = None  # why the last attempt failed; Redis is away

    @property
    def delay(self) -> float | None:
        """Seconds that the last ping took; None while there is no connection."""
        link = self._link
        return None if link is None else link.delay

    @property
    def _link(self) -> RedisLink | None:
        attempt = self._attempt
        if attempt is None or not attempt.done() or attempt.exception() is not None:
            return None
        link = attempt.result()
        return None if link.lost.done() else link

    async def publish(self, channel: str, data: bytes) -> None:
        """Publish one message; return when Redis has it."""
        await (await self.post([(channel, data)]))

    async def post(self, messages: Sequence[tuple[str, bytes]]) -> asyncio.Future[None]:
        """Have messages on their way; the future is done when Redis has them, or has failed to.

        While a connection is being made this waits for it; while Redis is away it does not.
        """
        attempt = self._start()
        try:
            if self._fault is not None:
                raise self._fault
            link = attempt.result() if attempt.done() else await asyncio.shield(attempt)
        except Exception as error:
            failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            failed.set_exception(ConnectionError(f"Redis is away: {error}"))
            return failed
        return link.send([("PUBLISH", *message) for message in messages])

    async def subscribe(self, channel: str) -> None:
        """Receive a channel from now on, or from when Redis is back."""
        self._start()
        if channel not in self._subscribed:
            self._subscribed[channel] = None
            if (link := self._link) is not None:
                self._expect(link.subscribe([channel]))

    async def unsubscribe(self, channel: str) -> None:
        """End that."""
        if channel in self._subscribed:
            del self._subscribed[channel]
            if (link := self._link) is not None:
                self._expect(link.unsubscribe(channel))

    async def on_subscribed(self) -> None:
        """Wait until the subscriptions have taken effect, if there is a connection."""
        if self._subscribing is not None and not self._subscribing.done():
            await asyncio.wait({self._subscribing})

    def _expect(self, subscribing: asyncio.Future[None]) -> None:
        self._subscribing = subscribing
        subscribing.add_done_callback(self._note)

    def _note(self, subscribing: asyncio.Future[None]) -> None:
        if not subscribing.cancelled() and isinstance(subscribing.exception(), HiredisError):
            logger.error("%s refuses to subscribe: %s", self._place, subscribing.exception())

    async def flush(self) -> None:
        """Close the connection and forget everything."""
        keeper, self._keeper, self._fault = self._keeper, None, None
        self._subscribed.clear()
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
        if self._attempt is not None and not self._attempt.done():
            _fail(self._attempt, ConnectionError("the channel layer was closed"))

    # ---- the connection ----

    @property
    def _place(self) -> str:
        return place(self._host)

    def _start(self) -> asyncio.Future[RedisLink]:
        if self._keeper is None or self._attempt is None or self._keeper.done():
            self._attempt = asyncio.get_running_loop().create_future()
            self._keeper = asyncio.create_task(self._keep(self._attempt), name="channel layer")
        return self._attempt

    async def _keep(self, attempt: asyncio.Future[RedisLink]) -> None:
        """Keep a connection, until cancelled."""
        backoff = Backoff(timing.LAYER_FIRST_RETRY, timing.LAYER_RETRY_CEILING)
        while True:
            try:
                link = await RedisLink.open(self._host, self._on_message)
            except Exception as error:  # whatever it is: Redis cannot be reached
                if self._fault is None:
                    logger.warning("cannot reach Redis at %s: %s", self._place, error)
                self._fault = error
                _fail(attempt, error)
            else:
                if self._fault is not None:
                    logger.info("Redis at %s is back", self._place)
                self._fault = None
                backoff.reset()
                try:
                    if self._subscribed:
                        self._expect(link.subscribe(self._subscribed))
                    attempt.set_result(link)
                    words = await link.watch()
                    logger.warning("lost the connection to Redis at %s: %s", self._place, words)
                except Exception as error:  # a fault of this program must not end the task
                    logger.exception("the connection to Redis at %s failed", self._place)
                    if not attempt.done():
                        _fail(attempt, error)
                finally:
                    await link.close()
            attempt = self._attempt = asyncio.get_running_loop().create_future()
            await asyncio.sleep(backoff.next(random.random()))


def _fail(attempt: asyncio.Future[RedisLink], error: Exception) -> None:
    attempt.set_exception(error)
    attempt.exception()  # looked at here, whether or not a caller waits
