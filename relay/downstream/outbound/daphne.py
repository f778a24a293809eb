"""The way to a client past Daphne: ready frames straight to the socket.

What is known of Daphne's inside is in this module and in `daphne_connections`. Daphne hands the
application `functools.partial(Server.handle_reply, protocol)`, where `protocol` is autobahn's for
this one client. No class is changed: options and hooks are set on the instance of one connection,
and `detach` takes the hooks away, because each of them is a reference cycle.

Out: `await send(...)` costs 34 us a delivery, `transport.write` 25 us, `socket.send` of a ready
frame 5 us. The direct path is taken only while the transport has nothing buffered, so the order
is kept. Daphne has no bound for what it buffers, nor for the queue to the application (one client
that flooded added 1.19 GB in 6 s), so both are watched here: every byte that reaches the
transport, whether the relay, autobahn (pongs, close frames) or Daphne (pings) wrote it, and
frames as they are read.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable
from inspect import signature
from typing import Any

from autobahn.websocket.compress import (
    PerMessageDeflate,
    PerMessageDeflateOffer,
    PerMessageDeflateOfferAccept,
)
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet import tcp
from twisted.protocols.tls import TLSMemoryBIOProtocol

from relay.downstream.outbound.base import Outbound, Peer, close_reason
from relay.downstream.wire import Batch

_OPEN = WebSocketProtocol.STATE_OPEN
_HOOKS = (
    *("onMessageFrameBegin", "onMessage", "onPing", "onPong", "onCloseFrame"),
    *("sendPing", "perMessageCompressionAccept"),
)  # attributes that are set on the protocol of one connection

READ_SIZE = 16 * 1024  # bytes read at once; autobahn handles all frames in them in one go
HELD_AT_MOST = 64 * 1024  # bytes held back for one write; a longer one saves nothing
WHOLE_WINDOW = (0, 15)  # bits a client may ask the server's window to have: no limit, or all of it
# autobahn before 26.7 inflates a whole message before it looks at the limit: 58 KB became 60 MB.
BOUNDS_INFLATION = (
    "max_output_len" in signature(PerMessageDeflate.decompress_message_data).parameters
)
CONTROL_HEADER = 2  # bytes before the payload of a pong
LAST_BYTES = 5.0  # seconds that unsent bytes have to leave after the client's own close frame

# Seconds: a client that vanished without a word is found by the kernel. A ping of Daphne's would
# wait behind unsent data, and cut clients that read slowly but do read.
KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES = 30, 10, 3


def protocol_of(send: Any) -> Any:
    """Return Daphne's protocol behind an ASGI `send`; None on any other server."""
    if isinstance(send, functools.partial) and len(send.args) == 1:
        protocol = send.args[0]
        if isinstance(protocol, WebSocketProtocol):
            return protocol
    return None


def _guarded(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Report what a hook raises to the peer: Daphne discards what Twisted would log."""

    @functools.wraps(hook)
    def call(self: DaphneOutbound, *arguments: Any) -> Any:
        try:
            return hook(self, *arguments)
        except Exception:
            self._peer.on_failure()
            return None

    return call


class DaphneOutbound(Outbound):
    """Writes frames to the client's socket, or to Twisted's buffer while that is not empty.

    The usual delivery touches nothing but this object and the socket: with thousands of clients,
    each further object costs more in memory that is not in the cache than the work on it.
    """

    way = "fast"
    __slots__ = (
        "_abort_call",
        "_buffer",
        "_deflates",
        "_held",
        "_held_bytes",
        "_is_clear",
        "_is_paused",
        "_peer",
        "_protocol",
        "_queued",
        "_send",
        "_send_now",
        "_tls",
        "_transport",
        "_unanswered",
    )

    def __init__(
        self,
        send: Any,
        protocol: Any,
        peer: Peer,
        *,
        message_limit: int,
        send_buffer: int,
        compression: bool,
    ) -> None:
        self.corked = None
        # Whether the socket may be written to: open, and nothing waits in the transport.
        self._is_clear = False
        self._is_paused = False  # reading, until the client's requests were taken
        self._send = send
        self._protocol = protocol
        self._peer = peer
        self._transport = protocol.transport
        self._deflates = False
        self._held: list[bytes] = []  # until `uncork`
        self._held_bytes = 0
        self._queued = 0  # bytes ever handed to the transport that owns the socket
        self._unanswered: bytes | None = None  # the latest ping for whose pong there was no room
        self._abort_call: asyncio.TimerHandle | None = None
        self._tls: Any = None
        self._buffer = self._transport
        self._send_now: Callable[[bytes], int] | None = None
        self._prepare_transport(send_buffer)
        # Messages are framed here, so these limits concern only what the client sends.
        protocol.maxMessagePayloadSize = message_limit
        protocol.maxFramePayloadSize = message_limit
        protocol.failByDrop = False  # say 1009 before closing
        protocol.autoPingTimeout = 0
        if compression and BOUNDS_INFLATION:
            protocol.perMessageCompressionAccept = self._accept_compression
        self._watch_input()

    def _prepare_transport(self, send_buffer: int) -> None:
        transport = self._transport
        if isinstance(transport, TLSMemoryBIOProtocol):
            # There is no plain socket to write to, and bytes wait one layer down, too.
            self._tls, self._buffer = transport, transport.transport
        if not isinstance(self._buffer, tcp.Connection) or not self._buffer.connected:
            return  # the client left before its application began
        handle: socket.socket = self._buffer.socket
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        if handle.family in (socket.AF_INET, socket.AF_INET6):
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in (
                ("TCP_KEEPIDLE", KEEPALIVE_IDLE),
                ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
                ("TCP_KEEPCNT", KEEPALIVE_PROBES),
            ):
                if hasattr(socket, name):
                    handle.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._buffer.bufferSize = READ_SIZE
        if self._tls is None:
            self._send_now = handle.send
        self._watch_output()

    def _accept_compression(self, offers: list[Any]) -> Any:
        """Accept the first offer that frames shared by all clients can serve.

        A message compressed without reference to earlier ones is right for every client with a
        whole window, so one compressed frame serves them all.
        """
        for offer in offers:
            if (
                isinstance(offer, PerMessageDeflateOffer)
                and offer.request_max_window_bits in WHOLE_WINDOW
            ):
                self._deflates = True
                accept: Any = PerMessageDeflateOfferAccept
                return accept(
                    offer,
                    request_no_context_takeover=offer.accept_no_context_takeover,
                    no_context_takeover=True,
                )
        return None

    # ---- hooks: they are methods, as closures would cost each client 2 KB more ----

    def _watch_output(self) -> None:
        """Count what is written through the transport: by this object, autobahn or Daphne."""
        self._buffer.write = self._on_write

    def _on_write(self, data: bytes) -> None:
        self._is_clear = False
        self._queued += len(data)
        type(self._buffer).write(self._buffer, data)
        self._peer.on_backlog()

    def _watch_input(self) -> None:
        """Take messages as they are read, without a queue, and count every frame."""
        protocol = self._protocol
        protocol.onMessageFrameBegin = self._on_frame
        protocol.onPing = self._on_ping
        protocol.onPong = self._on_pong
        protocol.onMessage = self._on_message
        protocol.onCloseFrame = self._on_close_frame
        protocol.sendPing = self._on_sending_ping

    def _count_frame(self) -> None:
        self._peer.on_frame()
        if not self._peer.wants_input:
            self._stop_reading()

    @_guarded
    def _on_frame(self, length: int) -> None:
        WebSocketProtocol.onMessageFrameBegin(self._protocol, length)
        self._count_frame()

    @_guarded
    def _on_ping(self, payload: bytes) -> None:
        self._count_frame()
        if not self._peer.wants_input:
            return
        if self._peer.has_room_for(len(payload) + CONTROL_HEADER):
            WebSocketProtocol.onPing(self._protocol, payload)
        else:  # RFC 6455, section 5.5.3: only the latest ping needs a pong
            self._unanswered = payload

    @_guarded
    def _on_pong(self, payload: bytes) -> None:
        self._count_frame()

    @_guarded
    def _on_message(self, payload: bytes, is_binary: bool) -> None:
        self._peer.on_message(None if is_binary else payload)

    @_guarded
    def _on_close_frame(self, code: int | None, reason: bytes | None) -> Any:
        # autobahn answers, and then waits without limit until the client has read everything.
        is_invalid = WebSocketProtocol.onCloseFrame(self._protocol, code, reason)
        self._peer.on_left(code)
        if self.unsent() and self._abort_call is None:
            self._abort_call = asyncio.get_running_loop().call_later(LAST_BYTES, self.abort)
        return is_invalid

    def _on_sending_ping(self, payload: bytes | None = None) -> None:
        if not self.unsent():  # behind unsent bytes a ping says nothing of the connection
            WebSocketProtocol.sendPing(self._protocol, payload)

    def _stop_reading(self) -> None:
        """Read no more; autobahn drops the connection when no answer to the close is read."""
        if hasattr(self._transport, "pauseProducing"):
            self._transport.pauseProducing()

    async def accept(self, subprotocol: str | None = None) -> None:
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol})

    def deliver(self, batch: Batch) -> bool:
        if not self._is_clear and not self._look_whether_clear():
            return self._deliver_behind(batch)
        if self._held and self._held_bytes + len(batch.plain) > HELD_AT_MOST:
            self.uncork()
            if not self._is_clear:
                return self._deliver_behind(batch)
        data = self._frames(batch) if self._deflates else batch.plain
        if self.corked is not None:
            self._hold(data)
            return True
        try:
            sent = self._send_now(data)  # type: ignore[misc]
        except BlockingIOError:
            sent = 0
        except OSError:
            return True  # Twisted will find out, and say so
        if sent != len(data):
            self._transport.write(data[sent:])
        return True

    def _look_whether_clear(self) -> bool:
        self._is_clear = self._send_now is not None and self._is_open() and not self._buffered()
        return self._is_clear

    def _is_open(self) -> bool:
        return self._protocol is not None and self._protocol.state == _OPEN

    def _deliver_behind(self, batch: Batch) -> bool:
        if not self._is_open():
            return True
        if self.unsent():
            data = batch.deflated if self._deflates else batch.plain
            return self._peer.on_crowded(batch, len(data))
        self.write(batch)
        return True

    def write(self, batch: Batch) -> None:
        data = self._frames(batch)
        if self._held:  # decided earlier, so it leaves earlier
            self._hold(data)
        else:
            self._emit(data)

    def _hold(self, data: bytes) -> None:
        if not self._held:
            self.corked.append(self)  # type: ignore[union-attr]
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > HELD_AT_MOST:
            self.uncork()

    def _frames(self, batch: Batch) -> bytes:
        if self._deflates:
            batch.deflated_to += 1
            return batch.deflated
        return batch.plain

    def uncork(self) -> None:
        if self._held:
            data = b"".join(self._held)
            self._held = []
            self._held_bytes = 0
            self._emit(data)

    def _emit(self, data: bytes) -> None:
        sent = 0
        if self._is_clear or self._look_whether_clear():
            try:
                sent = self._send_now(data)  # type: ignore[misc]
            except BlockingIOError:
                sent = 0
            except OSError:
                return
        elif not self._is_open():
            return
        if sent != len(data):
            self._transport.write(data[sent:])

    def _buffered(self) -> int:
        buffer = self._buffer
        unsent: int = len(buffer.dataBuffer) - buffer.offset + buffer._tempDataLen
        if self._tls is not None:
            unsent += sum(map(len, self._tls._appSendBuffer))
            if buffer.connected:  # else Twisted has put another aggregator in its place
                unsent += sum(map(len, self._tls._aggregator._buffer))
        return unsent

    def unsent(self) -> int:
        return 0 if self._protocol is None else self._buffered() + self._held_bytes

    def accepted(self) -> int:
        buffer = self._buffer
        waiting: int = len(buffer.dataBuffer) - buffer.offset + buffer._tempDataLen
        return self._queued - waiting

    def pause_reading(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._stop_reading()

    def resume_reading(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._transport.resumeProducing()

    def close(self, code: int, reason: str = "") -> None:
        self.uncork()
        if self._is_open():
            # Not `sendClose`, which knows no 1009.
            self._protocol.sendCloseFrame(code, close_reason(reason))

    def abort(self) -> None:
        # Not `dropConnection`, which does nothing once autobahn waits for the last bytes to leave.
        if self._buffer.connected:
            self._transport.abortConnection()

    def answer_ping(self) -> None:
        if self._unanswered is not None and self._is_open():
            self._protocol.sendPong(self._unanswered)
            self._unanswered = None

    def detach(self) -> None:
        protocol, self._protocol = self._protocol, None
        if protocol is None:
            return
        self._is_clear = False
        self._held = []
        self._held_bytes = 0
        self._send_now = None
        if self._abort_call is not None:
            self._abort_call.cancel()
        if protocol.state != protocol.STATE_CLOSED:
            protocol.muted = True  # what the client still says would wait in Daphne's queue
        for name in _HOOKS:
            vars(protocol).pop(name, None)
        vars(self._buffer).pop("write", None)
        del self._peer
