"""One connection to the exchange: opened, kept alive, replaced.

Bybit gives no notice when it drops a connection, and a half-open one is silent without end, so
its own JSON ping is sent at intervals and the answers are watched: none for three intervals
means that the connection is dead, whatever else it does.

While the exchange cannot be reached it is tried each few seconds, without an end: books are right
10 s after it is back, however long it was away.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import time
from collections.abc import Callable
from typing import Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.frames import DATA_OPCODES, Opcode
from websockets.frames import Frame as WireFrame
from websockets.protocol import Event

from relay.bybit.frames import encode_ping
from relay.bybit.subscriptions import Subscriptions
from relay.bybit.topics import Category
from relay.lib import timing
from relay.lib.pacing import Backoff
from relay.lib.proxies import PROXY_FAULTS, proxy_for, without_secrets, words_of
from relay.upstream.category import ConnectionState
from relay.upstream.connects import Connects

logger = logging.getLogger(__name__)

MAX_FRAME = 32 * 2**20  # bytes: far above anything Bybit sends, yet bounded

CONNECT_FAULTS = (
    *(OSError, TimeoutError, InvalidHandshake, InvalidURI, ConnectionClosed, EOFError),
    *PROXY_FAULTS,
)


class _Socket(ClientConnection):
    """A client connection that hands over whole text messages as they are read.

    Received in the usual way, bad UTF-8 would cost the connection, or else text and binary could
    not be told apart; and the queue in between costs as much as decoding a message.
    """

    on_text: Callable[[bytes], None] | None = None
    on_binary: Callable[[int], None] | None = None
    _parts: list[bytes] | None = None  # of a fragmented message
    _is_binary = False

    def process_event(self, event: Event) -> None:
        if not isinstance(event, WireFrame) or event.opcode not in DATA_OPCODES:
            super().process_event(event)
            return
        if event.opcode is Opcode.CONT and self._parts is not None:
            self._parts.append(bytes(event.data))
            if not event.fin:
                return
            data, self._parts = b"".join(self._parts), None
        else:
            self._is_binary = event.opcode is Opcode.BINARY
            data = bytes(event.data)
            if not event.fin:
                self._parts = [data]
                return
        if self._is_binary:
            if self.on_binary is not None:
                self.on_binary(len(data))
        elif self.on_text is not None:
            self.on_text(data)


class ConnectionOwner(Protocol):
    """Who runs connections, for a category or for a recording: is told what happens to them.

    It hands that to its core, which keeps the `ConnectionState` of each.
    """

    def on_opened(self, connection: Connection, now: float) -> None:
        """Have the state of an open connection given its subscriptions."""

    def on_closed(self, connection: Connection, error: str) -> None:
        """Take a connection for broken, or not made; it will try again."""

    def on_frame(self, connection: Connection, text: bytes, now: float) -> None:
        """Take one text frame; `answered_at` of the state is to be `now` if it was a pong."""

    def on_binary(self, size: int) -> None:
        """Take note of a binary frame."""


class ConnectPacing:
    """When the connections of one category may try to connect.

    While the exchange lets none of them in, one tries at a time, for all, so that an outage costs
    no more connects with many connections than with one. When one is let in, all others try.
    """

    def __init__(self, category: Category, connects: Connects) -> None:
        """Start as if the exchange had let one in.

        Args:
            connects: Allows the connects to the host, over all categories and workers.
        """
        self.category = category
        self.words = ""  # what to add to a failure
        self._connects = connects
        self._is_away = False
        self._trying = asyncio.Lock()
        self._backoff = Backoff(timing.EXCHANGE_FIRST_RETRY, timing.EXCHANGE_RETRY_CEILING)

    async def connect(self, url: str) -> _Socket:
        """Return an open socket when it is this one's turn.

        Raises:
            One of CONNECT_FAULTS: it could not be made.
        """
        if self._is_away:
            async with self._trying:
                if self._is_away:
                    await asyncio.sleep(self._backoff.next(random.random()))
                    return await self._try(url)
        return await self._try(url)

    async def _try(self, url: str) -> _Socket:
        await self._connects.turn()
        try:
            socket = await connect(
                url,
                create_connection=_Socket,
                open_timeout=timing.EXCHANGE_OPEN_LIMIT,
                close_timeout=1,
                ping_interval=None,  # Bybit wants its own JSON ping
                max_size=MAX_FRAME,
                compression=None,  # inflating costs more here than the bytes it saves
                proxy=self._proxy_for(url),
            )
        except Exception:
            self._is_away = True
            raise
        assert isinstance(socket, _Socket)
        self._is_away = False
        self._backoff.reset()
        return socket

    def _proxy_for(self, url: str) -> str | None:
        proxy = proxy_for(url)
        words = f" through the proxy {without_secrets(proxy)}" if proxy else ""
        if words and words != self.words:
            logger.info("%s: connects to %s%s", self.category, url, words)
        self.words = words
        return proxy


class Connection:
    """Keeps one connection of a category open for as long as it runs.

    Attributes:
        state: What the category decides and knows of the connection.
    """

    def __init__(
        self,
        owner: ConnectionOwner,
        state: ConnectionState,
        *,
        url: str,
        ping_interval: float,
        pacing: ConnectPacing,
    ) -> None:
        """Prepare to connect.

        Args:
            owner: Is told what happens.
            state: What the category decides and knows of the connection.
            url: Address with the category, such as `wss://stream.bybit.com/v5/public/linear`.
            ping_interval: Seconds between pings.
            pacing: Shared by the connections of the category.
        """
        self._owner = owner
        self.state = state
        self._url = url
        self._ping_interval = ping_interval
        self._pacing = pacing
        self._wanted = asyncio.Event()  # the subscriptions may have requests to send
        self._socket: _Socket | None = None  # while it is open

    def wake(self) -> None:
        """Say that the subscriptions may have something to send."""
        self._wanted.set()

    def pause(self) -> None:
        """Have the exchange wait until `resume`."""
        if self._socket is not None and self._socket.transport.is_reading():
            self._socket.transport.pause_reading()

    def resume(self) -> None:
        """Read on; does nothing if it reads."""
        if self._socket is not None and not self._socket.transport.is_closing():
            self._socket.transport.resume_reading()

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        backoff = Backoff(timing.EXCHANGE_FIRST_RETRY, timing.EXCHANGE_RETRY_CEILING)
        told = ""  # the failure that was logged last
        while True:
            started, socket, delay = time.monotonic(), None, 0.0
            try:
                socket = await self._pacing.connect(self._url)
                told = ""
                # A silent connection has already cost its patience: it is replaced at once.
                if await self._live(socket):
                    error = "no answer to pings"
                else:
                    error = "closed by the exchange"
                    delay = backoff.next(random.random())
            except CONNECT_FAULTS as fault:
                error = f"{type(fault).__name__}: {words_of(fault)}{self._pacing.words}"
            except Exception as fault:
                logger.exception(
                    "%s: connection %d failed", self._pacing.category, self.state.number
                )
                error = repr(fault)
                delay = backoff.next(random.random())
            if time.monotonic() - started > timing.EXCHANGE_STEADY_AFTER:
                backoff.reset()
            if error != told:
                told = error
                logger.warning(
                    "%s: connection %d %s (%s). Trying again every %.0f s at most.",
                    self._pacing.category,
                    self.state.number,
                    "cannot be made" if socket is None else "broke",
                    error,
                    timing.EXCHANGE_RETRY_CEILING,
                )
            self._owner.on_closed(self, error)
            await asyncio.sleep(delay)

    async def _live(self, socket: _Socket) -> bool:
        """Serve an open connection; return whether it was given up for silence."""
        async with socket:
            self._owner.on_opened(self, time.monotonic())
            subscriptions = self.state.subscriptions
            assert subscriptions is not None
            self._socket = socket
            socket.on_binary = self._owner.on_binary
            socket.on_text = functools.partial(self._on_text, socket)
            speaking = asyncio.create_task(self._speak(socket, subscriptions))
            try:
                await socket.wait_closed()
                return speaking.done() and not speaking.cancelled() and speaking.result()
            finally:
                self._socket = socket.on_text = socket.on_binary = None
                speaking.cancel()
                await asyncio.gather(speaking, return_exceptions=True)

    def _on_text(self, socket: ClientConnection, text: bytes) -> None:
        """Take one message of the exchange."""
        try:
            self._owner.on_frame(self, text, time.monotonic())
        except Exception:
            logger.exception("%s: a message could not be handled", self._pacing.category)
            socket.transport.abort()

    async def _speak(self, socket: ClientConnection, subscriptions: Subscriptions) -> bool:
        """Send pings and requests; return True when the exchange has fallen silent.

        The connection is aborted then, and also when this fails.
        """
        next_ping = time.monotonic()
        try:
            while True:
                now = time.monotonic()
                if now >= self.state.answered_at + timing.UNANSWERED_PINGS * self._ping_interval:
                    socket.transport.abort()
                    return True
                if now >= next_ping:
                    next_ping = now + self._ping_interval
                    await socket.send(encode_ping(subscriptions.next_request_id()), text=True)
                for request in subscriptions.requests(now):
                    logger.debug("%s: %s", self._pacing.category, request)
                    await socket.send(request, text=True)
                self._wanted.clear()
                dead_at = self.state.answered_at + timing.UNANSWERED_PINGS * self._ping_interval
                due_at = subscriptions.due_at(time.monotonic())
                wake_at = min(next_ping, dead_at, due_at if due_at is not None else next_ping)
                try:
                    async with asyncio.timeout(max(0.0, wake_at - time.monotonic())):
                        await self._wanted.wait()
                except TimeoutError:
                    pass
        except ConnectionClosed:
            return False
        except Exception:  # a fault of this program: without pings the connection is worth nothing
            socket.transport.abort()
            raise
