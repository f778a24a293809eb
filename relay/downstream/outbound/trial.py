"""Try once whether the way past Daphne works with the packages that are installed.

It uses names that Twisted, autobahn and Daphne do not document. If one is gone, each client would
be lost with its first message; so a connection to nowhere is opened at start, written to and read
from, and clients are served by plain ASGI if any of it fails.
"""

from __future__ import annotations

import functools
import logging
import socket
import sys
from importlib.metadata import version
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet import unix

from relay.downstream.outbound.daphne import DaphneOutbound
from relay.downstream.wire import Batch

logger = logging.getLogger(__name__)

_PACKAGES = ("daphne", "autobahn", "twisted")
_HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: trial\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
_MASK = bytes(4)  # leaves the payload as it is
_PING = b"\x89\x84" + _MASK + b"ping"
_PONG = b"\x8a\x04ping"
_MESSAGE = b"\x81\x85" + _MASK + b"hello"
_GOODBYE = b"\x88\x82" + _MASK + b"\x03\xe8"
_MUCH = 400_000  # bytes: more than a socket with so small a buffer takes at once
_LIMIT = 8_192


@functools.cache
def passed() -> bool:
    """Whether the way past Daphne works; a warning is logged once if not.

    Call it in the running reactor of Daphne.
    """
    try:
        _try()
    except Exception as error:
        installed = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
        logger.warning(
            "cannot write past Daphne's buffers with %s (%s: %s); serving clients by plain ASGI, "
            "which is slower; install the versions in requirements.txt",
            *(installed, type(error).__name__, error),
        )
        return False
    return True


class _Listener:
    """The peer of the trial's outbound; keeps what it is notified of."""

    wants_input = True

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def on_crowded(self, batch: Batch, size: int) -> bool:
        self.calls.append("on_crowded")
        return False

    def has_room_for(self, size: int) -> bool:
        return True

    def on_backlog(self) -> None:
        self.calls.append("on_backlog")

    def on_message(self, text: bytes | None) -> None:
        self.calls.append(text)

    def on_frame(self) -> None:
        pass

    def on_left(self, code: int | None) -> None:
        self.calls.append(code)

    def on_failure(self) -> None:
        self.calls.append(sys.exc_info()[1])


def _try() -> None:
    """Serve a client of this process's own.

    Raises:
        Exception: Something is not as expected.
    """
    reactor: Any = sys.modules["twisted.internet.reactor"]
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.setblocking(False)
        protocol: Any = WebSocketProtocol()
        make_factory: Any = WebSocketServerFactory
        protocol.factory = make_factory()
        protocol.onConnect = protocol.onOpen = protocol.onClose = (
            _ignore  # Daphne's need its server
        )
        make_transport: Any = unix.Server
        transport = make_transport(ours, protocol, None, None, 0, reactor)
        try:
            protocol.makeConnection(transport)
            _talk(protocol, transport, theirs)
        finally:
            transport.abortConnection()


def _talk(protocol: Any, transport: Any, theirs: socket.socket) -> None:
    listener = _Listener()
    outbound = DaphneOutbound(
        None, protocol, listener, message_limit=_LIMIT, send_buffer=_LIMIT, compression=True
    )
    protocol.dataReceived(_HANDSHAKE)
    transport.doWrite()
    _expect("the handshake", b"permessage-deflate" in theirs.recv(_LIMIT), True)
    protocol.dataReceived(_PING + _MESSAGE)
    _expect("the message", listener.calls.count(b"hello"), 1)
    transport.doWrite()
    _expect("the pong", theirs.recv(_LIMIT), _PONG)
    batch = Batch([b"x" * 200])
    outbound.deliver(batch)
    _expect("a delivery", theirs.recv(_LIMIT), batch.deflated)
    much = Batch([b"x" * 100] * (_MUCH // 100))  # too short to be compressed
    outbound.write(much)
    waiting = outbound.unsent()
    _expect("that bytes wait", 0 < waiting < len(much.plain), True)
    _expect("a delivery behind it", outbound.deliver(batch), False)
    before = outbound.accepted()
    while outbound.unsent():
        theirs.recv(_MUCH)
        transport.doWrite()
    _expect("what was accepted", outbound.accepted() - before, waiting)
    protocol.dataReceived(_GOODBYE)
    _expect("the goodbye", listener.calls[-1], 1000)
    outbound.abort()
    outbound.detach()


def _expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise RuntimeError(f"{what}: expected {expected!r:.80}, found {found!r:.80}")


def _ignore(*arguments: Any) -> None:
    pass
