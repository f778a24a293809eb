"""The way to a client past Daphne: ready frames straight to the socket.

Everything known of Daphne's inside is in this module. Daphne hands the application
`functools.partial(Server.handle_reply, protocol)`, where `protocol` is autobahn's for this one
client. No class is changed: options and hooks are set on the instance of one connection.

Out: `await send(...)` costs 34 us a delivery, `transport.write` 25 us, `socket.send` of a ready
frame 5 us. The direct path is taken only while the transport has nothing buffered, so the order
is kept. Daphne has no bound for what it buffers, nor for the queue to the application (one client
that flooded added 1.19 GB in 6 s), so both are watched here: bytes in the transport, and frames
as they are read.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable
from typing import Any

from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet import tcp
from twisted.protocols.tls import TLSMemoryBIOProtocol

from relay.core.frames import Batch
from relay.outbound.base import Outbound, Peer

_OPEN = WebSocketProtocol.STATE_OPEN

READ_SIZE = 16 * 1024  # bytes read at once; autobahn handles all frames in them in one go
HELD_AT_MOST = 64 * 1024  # bytes held back for one write; a longer one saves nothing
WHOLE_WINDOW = (0, 15)  # bits a client may ask the server's window to have: no limit, or all of it

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


class DaphneOutbound(Outbound):
    """Writes frames to the client's socket, or to Twisted's buffer while that is not empty.

    The usual delivery touches nothing but this object and the socket: with thousands of clients,
    each further object costs more in memory that is not in the cache than the work on it.
    """

    way = "fast"
    __slots__ = (
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
        self._queued = 0  # bytes ever handed to the transport
        self._tls: Any = None
        self._buffer = self._transport
        self._send_now: Callable[[bytes], int] | None = None
        self._prepare_transport(send_buffer)
        # Messages are framed here, so these limits concern only what the client sends.
        protocol.maxMessagePayloadSize = message_limit
        protocol.maxFramePayloadSize = message_limit
        protocol.failByDrop = False  # say 1009 before closing
        protocol.autoPingTimeout = 0
        if compression:
            protocol.perMessageCompressionAccept = self._accept_compression
        self._watch_input()

    def _prepare_transport(self, send_buffer: int) -> None:
        transport = self._transport
        if isinstance(transport, TLSMemoryBIOProtocol):
            # There is no plain socket to write to, and bytes wait one layer down, too.
            self._tls, self._buffer = transport, transport.transport
        if not isinstance(self._buffer, tcp.Connection):
            return
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

    def _watch_output(self) -> None:
        """Notice when anybody writes by the transport: pongs, the close frame, our own rests."""
        write = self._transport.write

        def on_write(data: bytes) -> None:
            self._is_clear = False
            write(data)

        self._transport.write = on_write

    def _watch_input(self) -> None:
        """Take messages as they are read, without a queue, and count every frame."""
        protocol, peer = self._protocol, self._peer
        begin, ping, pong = protocol.onMessageFrameBegin, protocol.onPing, protocol.onPong

        def on_frame(length: int) -> None:
            begin(length)
            if peer.is_flooding():
                self._stop_reading()

        def on_ping(payload: bytes) -> None:
            if peer.is_flooding():
                self._stop_reading()
            else:
                ping(payload)

        def on_pong(payload: bytes) -> None:
            if peer.is_flooding():
                self._stop_reading()
            else:
                pong(payload)

        def on_message(payload: bytes, is_binary: bool) -> None:
            peer.heard(None if is_binary else payload)

        protocol.onMessageFrameBegin = on_frame
        protocol.onPing = on_ping
        protocol.onPong = on_pong
        protocol.onMessage = on_message

    def _stop_reading(self) -> None:
        """Read no more; autobahn drops the connection when no answer to the close is read."""
        if hasattr(self._transport, "pauseProducing"):
            self._transport.pauseProducing()

    async def accept(self, subprotocol: str | None = None) -> None:
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol})

    def deliver(self, batch: Batch) -> bool:
        if not self._is_clear and not self._look_whether_clear():
            return self._deliver_behind(batch)
        data = self._frames(batch) if self._deflates else batch.plain
        if self.corked is not None:
            if not self._held:
                self.corked.append(self)
            self._held.append(data)
            self._held_bytes += len(data)
            if self._held_bytes > HELD_AT_MOST:
                self.uncork()  # from here on the peer is asked, if the socket does not take it
            return True
        try:
            sent = self._send_now(data)  # type: ignore[misc]
        except BlockingIOError:
            sent = 0
        except OSError:
            return True  # Twisted will find out, and say so
        if sent != len(data):
            self._buffer_rest(data[sent:])
        return True

    def _look_whether_clear(self) -> bool:
        self._is_clear = (
            self._send_now is not None and self._protocol.state == _OPEN and not self._buffered()
        )
        return self._is_clear

    def _deliver_behind(self, batch: Batch) -> bool:
        if self._protocol.state != _OPEN:
            return True
        if self.unsent():
            data = batch.deflated if self._deflates else batch.plain
            return self._peer.crowded(batch, len(data))
        self.write(batch)
        return True

    def write(self, batch: Batch) -> None:
        self._emit(self._frames(batch))

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
        elif self._protocol.state != _OPEN:
            return
        if sent != len(data):
            self._buffer_rest(data[sent:])

    def _buffer_rest(self, data: bytes) -> None:
        self._queued += len(data)
        self._transport.write(data)
        self._peer.backlogged()

    def _buffered(self) -> int:
        buffer = self._buffer
        unsent: int = len(buffer.dataBuffer) - buffer.offset + buffer._tempDataLen
        if self._tls is not None:
            unsent += sum(map(len, self._tls._appSendBuffer))
        return unsent

    def unsent(self) -> int:
        return self._buffered() + self._held_bytes

    def accepted(self) -> int:
        return self._queued - self._buffered()

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
        if self._protocol.state == _OPEN:
            # Not `sendClose`, which knows no 1009; a reason has 123 bytes at most.
            self._protocol.sendCloseFrame(code, reason.encode()[:120])

    def abort(self) -> None:
        self._protocol.dropConnection(abort=True)
