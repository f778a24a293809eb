"""A client of Daphne's on a real transport of Twisted's and a real socket."""

from __future__ import annotations

import socket
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet import reactor, unix

from relay.bybit.requests import Endpoint
from relay.downstream.hub import Hub
from relay.downstream.outbound.daphne import DaphneOutbound
from relay.downstream.session import ClientSession
from relay.telemetry.telemetry import Telemetry
from tests.downstream.plain_runner import PlainRunner

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)


class Line:
    """A client, its way out, and the other end of its socket."""

    def __init__(self, endpoint: Endpoint, *, compression: bool = False) -> None:
        ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        self.protocol: Any = WebSocketProtocol()
        self.protocol.factory = WebSocketServerFactory()
        self.protocol.onConnect = self.protocol.onOpen = self.protocol.onClose = lambda *_: None
        self.transport: Any = unix.Server(ours, self.protocol, None, None, 0, reactor)
        self.protocol.makeConnection(self.transport)
        self.telemetry = Telemetry.fresh()
        self.hub = Hub(self.telemetry, wall_ms=lambda: 1)
        self.runner = PlainRunner(self.hub)
        self.client = ClientSession(self.telemetry, self.runner, endpoint)
        self.client.backlogged_in = set()
        self.outbound = DaphneOutbound(
            None,
            self.protocol,
            self.client,
            message_limit=8_192,
            send_buffer=4_096,
            compression=compression,
        )
        self.client.attach(self.outbound)
        self.say(HANDSHAKE)
        self.handshake = self.read()

    def say(self, data: bytes) -> None:
        """Have the client send bytes, and the server read them."""
        self.protocol.dataReceived(data)

    def read(self) -> bytes:
        """Read what the relay has sent, and all that waits."""
        received = b""
        while True:
            if self.transport.dataBuffer or self.transport._tempDataLen:
                self.transport.doWrite()
            try:
                received += self.theirs.recv(2**20)
            except BlockingIOError:
                return received

    def look(self, now: float) -> bool:
        """Look after the client as the web process does each second."""
        return self.client.look_after_backlog(now)

    @property
    def is_ended(self) -> bool:
        return bool(self.transport._aborting)
