"""The live page's own socket: for staff alone, whose session is looked at again and again.

The overview is pushed each second, and at once when the page looks at other topics. A page that
does not read is sent nothing until all before has left, and is closed in the end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from importlib import import_module
from typing import Any

import msgspec
from channels.consumer import AsyncConsumer
from channels.db import database_sync_to_async
from django import db
from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest, parse_cookie

from relay import conf
from relay.downstream.close_codes import CloseCode
from relay.downstream.handshake import decline_unknown_offers
from relay.downstream.outbound import Outbound
from relay.downstream.outbound.choice import make_outbound
from relay.downstream.session import ABORT_AFTER
from relay.downstream.wire import Batch
from relay.lib.pacing import TokenBucket
from relay.ops.service import MAX_WATCHERS, LiveService
from relay.ops.topic_table import Page
from relay.web import process as web_process
from relay.web.origins import is_own_page, log_refusal
from relay.web.process import WebProcess

logger = logging.getLogger(__name__)

PERMISSION = "relay.view_livetopic"
LOOK_AGAIN = 5.0  # seconds between looks whether the user may still see this
UNCHECKED_LIMIT = 30.0  # seconds a page stays open while the database does not answer that
MESSAGE_LIMIT = 4_096  # bytes
MESSAGES_PER_SECOND = 10.0  # from a page: an operator types into the search field


class _Asked(msgspec.Struct):
    """A message of the page."""

    topics: Page


class LiveSocket:
    """One live page that is open.

    Attributes:
        page: Which topics it looks at.
        has_history: Whether it was sent what the totals were before.
    """

    def __init__(self, live: LiveService) -> None:
        """Make one that `attach` gives a way out."""
        now = time.monotonic()
        self.page = Page()
        self.has_history = False
        self.is_closing = False
        self.outbound: Outbound
        self._live = live
        self._messages = TokenBucket(MESSAGES_PER_SECOND, 2 * MESSAGES_PER_SECOND, now)
        self._slow_timeout = conf.current().slow_timeout
        self._accepted = 0
        self._progress_at = now

    def attach(self, outbound: Outbound) -> None:
        """Give it the way to send by."""
        self.outbound = outbound

    # ---- what the page says ----

    def on_message(self, text: str | bytes | None) -> None:
        """Take a message; None stands for a binary one."""
        if self.is_closing:
            return
        try:
            self.page = msgspec.json.decode(text or b"", type=_Asked).topics
        except msgspec.DecodeError as fault:
            self.close(CloseCode.BAD_REQUEST, str(fault))
        else:
            self._live.wish(self)

    def on_frame(self) -> None:
        """Count a frame of any kind; close when there have been too many."""
        if not self.is_closing and not self._messages.take(time.monotonic()):
            self.close(CloseCode.TOO_MANY_REQUESTS)

    @property
    def wants_input(self) -> bool:
        """Whether to read on from the page."""
        return not self.is_closing

    # ---- what is sent ----

    def look_after_backlog(self, now: float) -> None:
        """Close a page whose socket has accepted nothing for too long; call it once a second."""
        unsent, accepted = self.outbound.unsent(), self.outbound.accepted()
        if not unsent or accepted != self._accepted:
            self._accepted, self._progress_at = accepted, now
        if now - self._progress_at > self._slow_timeout + ABORT_AFTER:
            self.outbound.abort()
        elif now - self._progress_at > self._slow_timeout:
            self.close(CloseCode.SLOW, "nothing was read for too long")

    @property
    def is_ready(self) -> bool:
        """Whether the page has read everything that was sent, so that more may be."""
        return not self.is_closing and not self.outbound.unsent()

    def push(self, batch: Batch, *, with_history: bool) -> None:
        """Send the overview."""
        if not self.is_closing:
            self.has_history = self.has_history or with_history
            self.outbound.write(batch)

    def on_crowded(self, batch: Batch, size: int) -> bool:
        """Refuse: nothing is sent before everything else has left."""
        return False

    def has_room_for(self, size: int) -> bool:
        """Whether nothing waits, so that a pong may be sent."""
        return not self.outbound.unsent()

    def on_backlog(self) -> None:
        """Do nothing: `look_after_backlog` is called each second."""

    def on_left(self, code: int | None) -> None:
        """Send nothing any more: the page has sent a close frame."""
        self.is_closing = True

    def on_failure(self) -> None:
        """Log the exception that is being handled, and close."""
        logger.exception("a live page: an error of the relay; closing its connection")
        self.close(CloseCode.INTERNAL_ERROR)

    def close(self, code: CloseCode, message: str = "") -> None:
        """Close; nothing is sent afterwards.

        Args:
            message: Why, where there are closer words than the code's own.
        """
        if not self.is_closing:
            self.is_closing = True
            self.outbound.close(code.value, message or code.meaning)


class LiveTopicsConsumer(AsyncConsumer):  # type: ignore[misc]
    """Channels' side of a live page.

    It reads the session itself: the stock middleware would wrap `send`, and with it hide what
    the client has not read yet.
    """

    channel_layer_alias = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        process = web_process.current()
        relay_settings = conf.current()
        socket = LiveSocket(process.live)
        outbound = make_outbound(
            send,
            socket,
            message_limit=MESSAGE_LIMIT,
            send_buffer=relay_settings.send_buffer,
            compression=relay_settings.compression,
        )
        socket.attach(outbound)
        decline_unknown_offers(send)
        await receive()  # websocket.connect
        await outbound.accept()
        headers = dict(scope["headers"])
        looking: asyncio.Task[None] | None = None
        try:
            session_key = _session_key(headers)
            if await self._welcome(process, socket, headers, session_key):
                looking = asyncio.create_task(_look_again(socket, session_key))
            await self._read(socket, receive)
        except asyncio.CancelledError:
            if not (process.is_stopping or socket.is_closing):
                raise
        finally:
            if looking is not None:
                looking.cancel()
            if not process.is_stopping:  # else `LiveService.stop` says goodbye
                process.live.watchers.discard(socket)
                outbound.detach()

    async def _welcome(
        self,
        process: WebProcess,
        socket: LiveSocket,
        headers: dict[bytes, bytes],
        session_key: str | None,
    ) -> bool:
        """Let a page in, or close it and say why."""
        if not is_own_page(headers):
            log_refusal(headers, time.monotonic())
            socket.close(CloseCode.FOREIGN_ORIGIN)
            return False
        if _refuse_without_room(process, socket):  # no need to ask the database
            return False
        try:
            is_permitted = await may_view(session_key)
        except db.Error as fault:
            logger.warning("a live page was refused: its user cannot be checked: %s", fault)
            socket.close(CloseCode.UNCHECKED)
            return False
        if not is_permitted:
            socket.close(CloseCode.NOT_PERMITTED)
            return False
        if _refuse_without_room(process, socket):  # others came, or the process stops, meanwhile
            return False
        process.live.watchers.add(socket)
        process.live.wish(socket)
        return True

    async def _read(self, socket: LiveSocket, receive: Any) -> None:
        """Take messages until the end; past Daphne they come another way, and only the end here."""
        while True:
            message = await receive()
            if message["type"] != "websocket.receive":
                return
            text = message.get("text")
            if text is not None and len(text) > MESSAGE_LIMIT:
                socket.close(CloseCode.TOO_LONG, f"a message may have {MESSAGE_LIMIT} bytes")
            else:
                socket.on_frame()
                socket.on_message(text)


def _session_key(headers: dict[bytes, bytes]) -> str | None:
    cookies = parse_cookie(headers.get(b"cookie", b"").decode("latin1"))
    return cookies.get(settings.SESSION_COOKIE_NAME)


def _refuse_without_room(process: WebProcess, socket: LiveSocket) -> bool:
    """Close a page that this process cannot take; return whether it was closed."""
    if process.is_stopping:
        socket.close(CloseCode.SHUTTING_DOWN)
    elif len(process.live.watchers) >= MAX_WATCHERS:
        socket.close(CloseCode.FULL, "too many live pages are open")
    else:
        return False
    return True


async def _look_again(socket: LiveSocket, session_key: str | None) -> None:
    """Close the page of a user who has logged out or lost the permission.

    A database that fails says nothing about the user: the check is made again, until it has
    failed for `UNCHECKED_LIMIT`. Then, and after any other failure, the page is closed.
    """
    checked_at = time.monotonic()
    while True:
        await asyncio.sleep(LOOK_AGAIN)
        try:
            async with asyncio.timeout(UNCHECKED_LIMIT):
                is_permitted = await may_view(session_key)
        except (db.Error, TimeoutError) as fault:
            if time.monotonic() - checked_at < UNCHECKED_LIMIT:
                continue
            words = str(fault) or type(fault).__name__
            logger.warning("a live page was closed: its user cannot be checked: %s", words)
        except Exception:
            logger.exception("a live page was closed: the check of its user failed")
        else:
            if is_permitted:
                checked_at = time.monotonic()
                continue
            socket.close(CloseCode.NOT_PERMITTED, "no longer permitted")
            return
        socket.close(CloseCode.UNCHECKED)
        return


@database_sync_to_async  # type: ignore[untyped-decorator]
def may_view(session_key: str | None) -> bool:
    """Return whether the user of a session may see the live page."""
    if session_key is None:
        return False
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    user = get_user(request)
    return user.is_active and user.is_staff and user.has_perm(PERMISSION)
