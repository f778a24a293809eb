"""Release the connections of Daphne when they end, and show what Twisted logs.

Each WebSocket connection leaves reference cycles behind: Twisted's HTTP channel and Daphne's
request hold each other, the transport holds the channel, autobahn's `is_closed` has the protocol
as its result, and Daphne's `handshake_deferred` has it in its callbacks. A client that stayed for
a while has reached the oldest generation of the garbage collector, where garbage waits long and
a collection stops the event loop. So the cycles are untied, on the instances of each connection,
and reference counting frees all of it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable
from typing import Any

from daphne.http_protocol import WebRequest
from twisted.logger import LogEvent, LogLevel, STDLibLogObserver, globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

from relay import conf

logger = logging.getLogger(__name__)


TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class _Request(WebRequest):  # type: ignore[misc]
    """A request of Daphne's that lets go of its connection when a WebSocket takes that over.

    It also bounds the body. Twisted reads all of it before anything else looks at the request, and
    writes what is longer than 100 kB to the disk, without a bound, for anonymous clients too.
    """

    _received = 0  # bytes of the body
    _is_too_large = False

    def gotLength(self, length: int | None) -> None:
        if length is not None and length > conf.MAX_BODY:
            self._refuse_body()
            length = 0
        super().gotLength(length)

    def handleContentChunk(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > conf.MAX_BODY:
            self._refuse_body()
        else:
            super().handleContentChunk(data)

    def _refuse_body(self) -> None:
        if not self._is_too_large:
            self._is_too_large = True
            self.channel.transport.write(TOO_LARGE)
            self.channel.loseConnection()

    def process(self) -> Any:
        if self._is_too_large:
            return None
        transport, channel = self.transport, self.channel
        processing = super().process()
        if self.transport is None and channel is not None:
            try:
                _untie(self, channel, transport)
            except Exception:
                _complain()
        return processing


def _untie(request: WebRequest, channel: Any, transport: Any) -> None:
    is_tls = isinstance(transport, TLSMemoryBIOProtocol)
    protocol = transport.wrappedProtocol if is_tls else transport.protocol
    request.server.connections.pop(request, None)
    request.channel = None
    channel.requests.clear()
    transport.unregisterProducer()  # the channel, which would pause the reading of requests
    protocol.is_closed.addCallback(lambda _: None)
    lost = protocol.connectionLost

    def connection_lost(reason: Any) -> None:
        del protocol.connectionLost  # this function, which holds the protocol
        if not hasattr(protocol, "server"):
            protocol.onClose = _ignore  # Daphne's fails after a handshake that it did not make
        try:
            lost(reason)
        finally:
            vars(protocol).pop("onClose", None)
            vars(protocol).pop("handshake_deferred", None)

    protocol.connectionLost = connection_lost


def _untie_tls(transport: Any) -> None:
    """Have TLS release its producer, and its failures: their frames hold them and the transport."""
    lost, finish = transport.connectionLost, transport._tlsShutdownFinished

    def finished(reason: Any) -> None:
        finish(reason)
        if reason is not None:
            reason.cleanFailure()

    def connection_lost(reason: Any) -> None:
        transport.unregisterProducer()
        try:
            lost(reason)
        finally:
            del transport.connectionLost, transport._tlsShutdownFinished

    transport.connectionLost = connection_lost
    transport._tlsShutdownFinished = finished


@functools.cache
def _complain() -> None:
    """Log the exception that is being handled, once: connections remain for the collector."""
    logger.exception("cannot untie a connection; it stays in memory until garbage is collected")


def _ignore(*arguments: Any) -> None:
    pass


def adopt(ports: Iterable[Any]) -> None:
    """Release every connection from here on, and log what Twisted calls critical.

    Args:
        ports: The sockets that Daphne listens on.
    """
    for port in ports:
        factory, tls_factory = port.factory, None
        if isinstance(factory, TLSMemoryBIOFactory):
            factory, tls_factory = factory.wrappedFactory, factory
        factory.buildProtocol = functools.partial(_build, factory.buildProtocol)
        if tls_factory is not None:
            tls_factory.buildProtocol = functools.partial(_build_tls, tls_factory.buildProtocol)
        _mend_shutdown(factory.server)
        if factory.server.verbosity <= 1:  # Daphne discards Twisted's log, with all tracebacks
            _show_faults()


def _build(build: Callable[[Any], Any], address: Any) -> Any:
    protocol = build(address)
    protocol.requestFactory = _Request
    return protocol


def _build_tls(build: Callable[[Any], Any], address: Any) -> Any:
    transport = build(address)
    _untie_tls(transport)
    return transport


class _Details(dict[str, Any]):
    """What Daphne knows of a connection. At shutdown it asks for an application, made or not."""

    def __missing__(self, key: str) -> Any:
        if key == "application_instance":
            return self
        raise KeyError(key)

    def done(self) -> bool:
        """Answer in the place of the application that is missing."""
        return True


def _mend_shutdown(server: Any) -> None:
    """Spare Daphne the KeyError with which it stops to cancel applications at shutdown."""
    connected = server.protocol_connected

    def protocol_connected(protocol: Any) -> None:
        connected(protocol)
        server.connections[protocol] = _Details(server.connections[protocol])

    server.protocol_connected = protocol_connected


def _show_faults() -> None:
    """Hand exceptions that only Twisted catches to `logging`.

    What is below critical concerns single connections, and is said by strangers.
    """
    global _is_shown  # noqa: PLW0603 - once a process, however many sockets it listens on
    if not _is_shown:
        _is_shown = True
        show = STDLibLogObserver("twisted")

        def observe(event: LogEvent) -> None:
            if event.get("log_level") is LogLevel.critical:
                show(event)

        globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]  # a callable will do


_is_shown = False
