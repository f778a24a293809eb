"""The way to a client through plain ASGI, on any server.

`send` waits while the server's own buffer is full, so one task per client sends from a queue,
and what is in that queue is what the client has not been sent yet.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from relay.downstream.outbound.base import Outbound, Peer, close_reason
from relay.downstream.wire import Batch

logger = logging.getLogger(__name__)


class PortableOutbound(Outbound):
    """A queue and the task that empties it. Its bound is kept by the peer: see `on_crowded`."""

    way = "portable"

    def __init__(
        self, send: Any, peer: Peer, abort_transport: Callable[[], None] | None = None
    ) -> None:
        """Make a way to one client, in the task that is its application.

        Args:
            send: What the ASGI server handed to the application.
            peer: Who uses it.
            abort_transport: Ends the connection; None where the server ends the connection of an
                application that is cancelled.
        """
        self.corked = None
        self._abort_transport = abort_transport
        self._send = send
        self._peer = peer
        self._queue: deque[tuple[dict[str, Any], int]] = deque()
        self._unsent = 0
        self._accepted = 0
        self._is_closing = False
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._sending: asyncio.Task[None] | None = None
        self._application: asyncio.Task[Any] | None = asyncio.current_task()

    async def accept(self, subprotocol: str | None = None) -> None:
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol})

    def deliver(self, batch: Batch) -> bool:
        if self._unsent and not self._is_closing:
            return self._peer.on_crowded(batch, sum(map(len, batch.texts)))
        self.write(batch)
        return True

    def write(self, batch: Batch) -> None:
        if self._is_closing:
            return
        was_empty = not self._unsent
        for text in batch.texts:
            self._put({"type": "websocket.send", "text": text.decode()}, len(text))
        if was_empty:
            self._peer.on_backlog()

    def unsent(self) -> int:
        return self._unsent

    def accepted(self) -> int:
        return self._accepted

    def pause_reading(self) -> None:
        self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    async def until_readable(self) -> None:
        """Wait while reading is paused."""
        await self._may_read.wait()

    def close(self, code: int, reason: str = "") -> None:
        words = close_reason(reason).decode()
        self._put({"type": "websocket.close", "code": code, "reason": words}, 0)
        self._is_closing = True

    def abort(self) -> None:
        """End the connection, or its application: most servers close what that leaves behind."""
        self._stop()
        if self._abort_transport is not None:
            self._abort_transport()
        elif self._application is not None:
            self._application.cancel()

    def detach(self) -> None:
        self._stop()
        if vars(self).pop("_peer", None) is not None:
            self._application = self._sending = self._abort_transport = None

    def _stop(self) -> None:
        self._is_closing = True
        self._queue.clear()
        self._unsent = 0
        if self._sending is not None:
            self._sending.cancel()

    def _put(self, message: dict[str, Any], size: int) -> None:
        if self._is_closing:
            return
        self._queue.append((message, size))
        self._unsent += size
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._empty())

    async def _empty(self) -> None:
        """Send what is queued. Ends when there is nothing left, and starts again with the next."""
        try:
            while self._queue:
                message, size = self._queue[0]
                await self._send(message)
                self._queue.popleft()
                self._unsent -= size
                self._accepted += size
        except Exception as error:  # every server has its own way to say that the client is gone
            logger.debug("could not send: %s", error)
            self._is_closing = True
            self._queue.clear()
            self._unsent = 0
            if self._abort_transport is not None:
                self._abort_transport()
