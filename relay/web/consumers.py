"""The WebSocket consumers: Channels' side of a client.

They translate and nothing more: a message of Channels becomes a call of `ClientSession`. They take
no channel of their own (the hub is the one member of each group) and read their messages in
a plain loop, because the stock dispatch starts a task and asks for a thread per message.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import Any, ClassVar
from urllib.parse import parse_qs

from channels.consumer import AsyncConsumer

from relay import conf
from relay.bybit.errors import Refusal
from relay.bybit.requests import BYBIT_MESSAGE_LIMIT, NATIVE_MESSAGE_LIMIT, Endpoint
from relay.bybit.topics import Category, parse_category
from relay.downstream.close_codes import CloseCode
from relay.downstream.handshake import chosen_subprotocol, decline_unknown_offers
from relay.downstream.outbound.choice import make_outbound
from relay.downstream.session import ClientSession
from relay.web import process as web_process
from relay.web.addresses import client_address
from relay.web.origins import is_welcome, log_refusal
from relay.web.process import WebProcess
from relay.web.reactor import note_peer

logger = logging.getLogger(__name__)

USER_AGENT_KEPT = 120  # bytes


class MarketDataConsumer(AsyncConsumer):  # type: ignore[misc]
    """One client at `/ws`, where both dialects are spoken."""

    channel_layer_alias = None
    endpoint: ClassVar[Endpoint] = Endpoint.NATIVE
    message_limit: ClassVar[int] = NATIVE_MESSAGE_LIMIT

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        process = web_process.current()
        settings = conf.current()
        headers = dict(scope["headers"])
        address = client_address(scope, headers)
        user_agent = sys.intern(headers.get(b"user-agent", b"")[:USER_AGENT_KEPT].decode("latin1"))
        client = ClientSession(
            process.telemetry,
            process.runner,
            self.endpoint,
            address=address,
            user_agent=user_agent,
        )
        outbound = make_outbound(
            send,
            client,
            message_limit=self.message_limit,
            send_buffer=settings.send_buffer,
            compression=settings.compression,
        )
        client.attach(outbound)
        decline_unknown_offers(send)
        await receive()  # websocket.connect
        note_peer(send)
        # Refused after the handshake: before it, Daphne could only say HTTP 403.
        await outbound.accept(chosen_subprotocol(scope))
        try:
            try:
                self._welcome(process, client, scope, headers)
            except Exception:
                client.on_failure()
            await self._read(client, receive)
        except asyncio.CancelledError:
            # Daphne cancels consumers at once, while the goodbye takes its time; and a client that
            # reads nothing is left behind by its outbound.
            if not (process.is_stopping or client.is_closing):
                raise
        finally:
            if not process.is_stopping:
                process.remove(client)
                client.on_gone()

    def _welcome(
        self, process: WebProcess, client: ClientSession, scope: Any, headers: dict[bytes, bytes]
    ) -> None:
        """Let a client in, or close it and say why."""
        if not is_welcome(headers):
            log_refusal(headers, time.monotonic())
            client.close(CloseCode.FOREIGN_ORIGIN)
        elif process.is_stopping:
            client.close(CloseCode.SHUTTING_DOWN)
        elif not process.has_place(client.address):
            client.close(CloseCode.FULL)
        else:
            try:
                client.category = self.read_category(scope)
            except Refusal as refusal:
                client.close(CloseCode.BAD_REQUEST, refusal.message, word=refusal.code)
            else:
                process.add(client)
                process.telemetry.counters.connections[self.endpoint.value] += 1

    async def _read(self, client: ClientSession, receive: Any) -> None:
        """Take messages until the end; past Daphne they come another way, and only the end here."""
        while True:
            message = await receive()
            if message["type"] != "websocket.receive":
                client.on_left(message.get("code"))
                return
            text = message.get("text")
            sent = (message.get("bytes") or b"") if text is None else text
            try:
                if _size(sent) > self.message_limit:
                    words = f"a message may have {self.message_limit} bytes"
                    client.close(CloseCode.TOO_LONG, words)
                else:
                    client.on_frame()
                    client.on_message(text)
            except Exception:
                client.on_failure()
            await client.outbound.until_readable()

    def read_category(self, scope: Any) -> Category | None:
        """Return the category that the address names, None if the first subscribe is to decide.

        Raises:
            Refusal: `bad_category`.
        """
        query = parse_qs(scope["query_string"].decode("latin1"), keep_blank_values=True)
        return parse_category(query["category"][-1]) if "category" in query else None


def _size(sent: str | bytes) -> int:
    """Return how many bytes a message had on the wire."""
    return len(sent if isinstance(sent, bytes) or sent.isascii() else sent.encode())


class BybitConsumer(MarketDataConsumer):
    """One client at `/v5/public/{category}`, where Bybit's dialect is spoken as Bybit does."""

    endpoint = Endpoint.BYBIT
    message_limit = BYBIT_MESSAGE_LIMIT

    def read_category(self, scope: Any) -> Category:
        """Return the category of the path.

        Raises:
            Refusal: `bad_category`.
        """
        return parse_category(scope["url_route"]["kwargs"]["category"])


class UnknownPathConsumer(AsyncConsumer):  # type: ignore[misc]
    """Any other path: accepted and closed, so that the client sees why."""

    channel_layer_alias = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        decline_unknown_offers(send)
        await receive()
        await send({"type": "websocket.accept", "subprotocol": chosen_subprotocol(scope)})
        code = CloseCode.NOT_FOUND
        await send({"type": "websocket.close", "code": code.value, "reason": code.meaning})
        web_process.current().telemetry.counters.closes[code] += 1
        while (await receive())["type"] != "websocket.disconnect":
            pass
