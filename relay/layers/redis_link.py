"""One connection to Redis that carries publications out and messages in, without a wait between.

redis-py makes the connection (address, TLS, password, database); from then on it is run here,
because its own pub/sub reads one message a call and awaits each answer. RESP3 lets one
connection both publish and receive, so everything a process says is in one order: what it
publishes after a subscription is published after that took effect.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

import hiredis
from channels_redis.utils import create_pool

from relay.lib import timing

_NOTHING = object()
_pack: Callable[[tuple[str | bytes, ...]], bytes] = cast(Any, hiredis.pack_command)


class _Command:
    """What was sent and still has answers to come."""

    __slots__ = ("answers", "done", "fault", "is_subscription")

    def __init__(self, answers: int, done: asyncio.Future[None], is_subscription: bool) -> None:
        self.answers = answers
        self.done = done
        self.fault: Exception | None = None
        self.is_subscription = is_subscription


class RedisLink(asyncio.Protocol):
    """An open connection; it never opens another.

    Attributes:
        lost: Done when the connection is gone.
        delay: Seconds that the last ping took.
    """

    def __init__(self, connection: Any, on_message: Callable[[bytes, bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.delay: float | None = None
        self._loop = loop
        self._connection = connection  # redis-py closes it when it is forgotten
        self._transport: asyncio.Transport = connection._writer.transport
        self._on_message = on_message
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._commands: deque[_Command] = deque()
        self._reads = 0
        self._transport.set_protocol(self)

    @classmethod
    async def open(
        cls, host: dict[str, Any], on_message: Callable[[bytes, bytes], None]
    ) -> RedisLink:
        """Connect, within `timing.REDIS_CONNECT_LIMIT`.

        Args:
            host: Where to, in channels_redis' words.
            on_message: Is called with the channel and the bytes of each message.

        Raises:
            OSError, RedisError: nothing answers there, or it does not let us in.
            hiredis.HiredisError: it cannot speak RESP3, which came with Redis 6.
        """
        connection = create_pool({"protocol": 2, **host}).make_connection()
        async with asyncio.timeout(timing.REDIS_CONNECT_LIMIT):
            try:
                await connection.connect()
                link = cls(connection, on_message)
                await link.send([("HELLO", "3")])
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
        return link

    # ---- out ----

    def send(self, commands: Iterable[tuple[str | bytes, ...]]) -> asyncio.Future[None]:
        """Write commands that have one answer each; return when all have been answered.

        Raises:
            ConnectionError: the connection is lost; it is unknown which commands arrived.
            hiredis.ReplyError: Redis refused one, the others not.
        """
        packed = [_pack(command) for command in commands]
        return self._write(b"".join(packed), len(packed))

    def subscribe(self, channels: Iterable[str]) -> asyncio.Future[None]:
        """Subscribe channels by one command; return when that has taken effect."""
        names = tuple(channels)
        return self._write(_pack(("SUBSCRIBE", *names)), len(names), True)

    def unsubscribe(self, channel: str) -> asyncio.Future[None]:
        """Take a subscription back; return when that has taken effect."""
        return self._write(_pack(("UNSUBSCRIBE", channel)), 1, True)

    def _write(
        self, data: bytes, answers: int, is_subscription: bool = False
    ) -> asyncio.Future[None]:
        done: asyncio.Future[None] = self._loop.create_future()
        if self.lost.done():
            done.set_exception(ConnectionError("the connection to Redis is lost"))
        elif not answers:
            done.set_result(None)
        else:
            self._commands.append(_Command(answers, done, is_subscription))
            self._transport.write(data)
        return done

    async def watch(self) -> str:
        """Ping at intervals; return the fault when the connection is lost or silent.

        Silence is counted in ticks, so that a process that was stopped itself and wakes first reads
        what has come meanwhile.
        """
        silent = 0
        while silent < timing.REDIS_SILENT_PINGS:
            reads = self._reads
            pong = self.send([("PING",)])
            pong.add_done_callback(partial(self._take_pong, self._loop.time()))
            await asyncio.wait({self.lost}, timeout=timing.REDIS_PING)
            if self.lost.done():
                return str(self.lost.exception() or "closed by Redis")
            silent = silent + 1 if self._commands and self._reads == reads else 0
        return f"silent for {timing.REDIS_SILENT_PINGS * timing.REDIS_PING} s"

    def _take_pong(self, asked: float, pong: asyncio.Future[None]) -> None:
        if pong.exception() is None:
            self.delay = self._loop.time() - asked

    async def close(self) -> None:
        """Drop the connection at once, with whatever waits in it."""
        self._transport.abort()
        await asyncio.wait({self.lost}, timeout=timing.REDIS_PING)

    # ---- in ----

    def data_received(self, data: bytes) -> None:
        """Take what has come: answers in the order of the commands, and messages between them."""
        self._reads += 1
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not _NOTHING:
                if isinstance(reply, hiredis.PushNotification):
                    if reply[0] == b"message":
                        self._on_message(reply[1], reply[2])
                    else:
                        self._answered(None)
                else:
                    self._answered(reply if isinstance(reply, hiredis.ReplyError) else None)
        except hiredis.ProtocolError as error:
            self._fail(ConnectionError(f"Redis sent what is not RESP: {error}"))
            self._transport.abort()

    def _answered(self, fault: Exception | None) -> None:
        if not self._commands:
            return  # an unsubscription that Redis itself decided
        command = self._commands[0]
        # A subscription is answered channel by channel, but refused as a whole.
        command.answers = 0 if fault and command.is_subscription else command.answers - 1
        command.fault = command.fault or fault
        if not command.answers:
            self._commands.popleft()
            if command.done.done():
                return  # the caller that waited was cancelled
            if command.fault is None:
                command.done.set_result(None)
            else:
                command.done.set_exception(command.fault)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell all who wait for an answer that none will come."""
        self._fail(error)
        # The transport is closed already; this makes redis-py forget it.
        self._connection._reader = self._connection._writer = None

    def _fail(self, error: Exception | None) -> None:
        if self.lost.done():
            return
        if error is None:
            self.lost.set_result(None)
        else:
            self.lost.set_exception(error)
            self.lost.exception()  # looked at here, whether or not a caller looks
        for command in self._commands:
            if not command.done.done():
                command.done.set_exception(ConnectionError("the connection to Redis is lost"))
        self._commands.clear()


def place(host: dict[str, Any]) -> str:
    """Return where a host is, for logs: no password, no name."""
    settings = create_pool(host).connection_kwargs
    return cast(str, settings.get("path") or f"{settings.get('host')}:{settings.get('port')}")
