"""Daphne's reactor: how the relay starts and stops with it, and the sockets it listens on.

Daphne tells an application neither that it starts nor that it stops, and it accepts connections
until the process ends. Every function here does nothing under another server.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any

from daphne.http_protocol import WebRequest
from twisted.internet import defer, tcp

from relay.downstream.outbound.daphne import protocol_of

logger = logging.getLogger(__name__)

# Connections that wait to be accepted: thousands of clients may come at once, and Daphne's own
# queue holds 50. The kernel cuts this to net.core.somaxconn.
BACKLOG = 4_096
READY_AT_ONCE = 256  # sockets: some 20 ms of handshakes or of leaving clients


def ports() -> list[Any]:
    """Return the sockets that Daphne listens on."""
    reactor = _reactor()
    return [] if reactor is None else _ports(reactor)


def bound_turns() -> None:
    """Have a turn of Daphne's event loop handle at most `READY_AT_ONCE` sockets.

    When 3,000 clients left at once, the loop handled all of them in one turn of 0.3 s.
    """
    reactor = _reactor()
    selector = getattr(getattr(reactor, "_asyncioEventloop", None), "_selector", None)
    if selector is not None:
        selector.select = in_portions(selector.select, READY_AT_ONCE)


def in_portions(select: Callable[..., list[Any]], most: int) -> Callable[..., list[Any]]:
    """Return a `select` of a selector that returns at most so many events.

    What is left out is still ready at the next call, which begins with it, so that sockets that
    are always ready cannot keep others waiting.
    """
    start = 0

    def select_some(timeout: float | None = None) -> list[Any]:
        nonlocal start
        events = select(timeout)
        if len(events) <= most:
            return events
        start %= len(events)
        portion = (events[start:] + events[:start])[:most]
        start += most
        return portion

    return select_some


def start_early(function: Callable[[], object]) -> None:
    """Have `function` called in Daphne's event loop as soon as that runs, before any connection.

    A timer would be too late: asyncio accepts the connections that wait already, and looks at its
    timers afterwards.
    """
    reactor = _reactor()
    if reactor is not None and not reactor.running:
        reactor._asyncioEventloop.call_soon(function)


def raise_backlog() -> None:
    """Have the kernel queue up to `BACKLOG` connections on each socket that Daphne listens on.

    `listen` may be called again on a socket that listens already; a longer queue stays as it is.
    Logged where the queue stays short.
    """
    reactor = _reactor()
    for port in [] if reactor is None else _ports(reactor):
        listener = port.socket
        try:
            if (_backlog_of(listener) or 0) < BACKLOG:
                listener.listen(max(BACKLOG, port.backlog or 0))  # None: opened by another process
            granted = _backlog_of(listener)
        except OSError as error:
            logger.warning(
                "Cannot raise the listen backlog of %s to %d: %s. When thousands of clients "
                "connect at once, they wait for seconds.",
                *(port.getHost(), BACKLOG, error),
            )
        else:
            if granted is not None and granted < BACKLOG:
                logger.warning(
                    "The kernel cuts the listen backlog of %s to %d; the relay asks for %d. When "
                    "thousands of clients connect at once, they wait for seconds. Raise "
                    "net.core.somaxconn.",
                    *(port.getHost(), granted, BACKLOG),
                )


def warn_of_forged_addresses() -> None:
    """Log a warning if the public can reach a Daphne that believes `X-Forwarded-For`.

    It is known when Daphne listens on a public address, or on all addresses of a machine that has
    a public one. Behind address translation it is not: there `note_peer` finds out.
    """
    reactor = _reactor()
    for port in [] if reactor is None else _ports(reactor):
        host = getattr(port.getHost(), "host", "")  # a Unix socket has none
        if believes_proxies(_server_of(port)) and is_public(host, _own_addresses()):
            _warn_of_forgery(f"it listens on {host}, which is public")


def note_peer(send: Any) -> None:
    """Log a warning, once, if a client came from the internet past the proxy that is believed.

    Args:
        send: What the server handed to the application of a WebSocket.
    """
    protocol = None if _has_warned_of_forgery else protocol_of(send)
    if protocol is None or not believes_proxies(protocol.server):
        return
    peer = getattr(protocol.transport.getPeer(), "host", "")
    if is_public(peer, ()):
        _warn_of_forgery(f"{peer} has connected to it directly")


def believes_proxies(server: Any) -> bool:
    """Return whether a Daphne was started with `--proxy-headers`."""
    return bool(server.proxy_forwarded_address_header)


def is_public(host: str, own: Iterable[str]) -> bool:
    """Return whether the internet may reach `host`.

    Args:
        host: An address, `0.0.0.0` or `::` for all of this machine's, or a name.
        own: The addresses of this machine.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if address.is_unspecified:
        return any(is_public(one, ()) for one in own)
    return address.is_global


def _own_addresses() -> list[str]:
    """Return the addresses under which this machine would speak to the internet.

    A datagram socket that is connected sends nothing; the kernel only looks up the route.
    """
    found = []
    for family, somewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((somewhere, 9))
            found.append(probe.getsockname()[0])
    return found


_has_warned_of_forgery = False


def _warn_of_forgery(why: str) -> None:
    global _has_warned_of_forgery  # noqa: PLW0603 - once a process is enough
    _has_warned_of_forgery = True
    logger.warning(
        "Daphne runs with --proxy-headers, but not only a proxy can reach it: %s. Clients can "
        "write any address into X-Forwarded-For, and the limits per address count by it. Bind "
        "Daphne to 127.0.0.1 behind the proxy, or leave --proxy-headers out.",
        why,
    )


def call_before_shutdown(
    at_once: Callable[[], None], then: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Have `at_once` called and `then` awaited before Daphne's reactor ends.

    Before `then` begins, Daphne's listening sockets are closed, so that a client that is told to
    reconnect reaches another process, or is refused until there is one. A socket that another
    process or systemd holds as well keeps its queue of connections.
    """
    loop = asyncio.get_running_loop()
    reactor = _reactor()
    if reactor is None or reactor._asyncioEventloop is not loop:
        return

    async def leave() -> None:
        try:
            await asyncio.gather(*_stop_listening(reactor, loop))
        except Exception:  # Twisted's own, whose parts have no promised names; the goodbye matters
            logger.exception("cannot stop listening; new clients are told to come back")
        await then()

    def trigger() -> defer.Deferred[None]:
        reactor.stop = lambda: None  # a second signal: Twisted calls that a critical fault
        at_once()
        return defer.Deferred.fromFuture(asyncio.ensure_future(leave(), loop=loop))

    reactor.addSystemEventTrigger("before", "shutdown", trigger)


def _reactor() -> Any:
    """Return Daphne's reactor; None under another server."""
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    return reactor if hasattr(reactor, "_asyncioEventloop") else None


def _ports(reactor: Any) -> list[Any]:
    """Return the listening sockets: TCP, TLS, Unix and adopted ones."""
    return [reader for reader in reactor.getReaders() if isinstance(reader, tcp.Port)]


def _backlog_of(listener: socket.socket) -> int | None:
    """Return how many connections a listening TCP socket queues; None where none can be asked.

    Linux alone tells: for a listening socket, `tcpi_sacked` of TCP_INFO is the limit.
    """
    if sys.platform != "linux" or listener.family == socket.AF_UNIX:
        return None
    with contextlib.suppress(OSError):
        told = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
        return int.from_bytes(told[28:32], sys.byteorder)
    return None


def _stop_listening(reactor: Any, loop: asyncio.AbstractEventLoop) -> list[asyncio.Future[Any]]:
    """Close the listening sockets and what could bring a new client: idle HTTP connections.

    Returns:
        What is done when the sockets are closed.
    """
    ports = _ports(reactor)
    for server in {_server_of(port) for port in ports}:
        for request in list(server.connections):
            channel = getattr(request, "channel", None)  # a request that is answered has none
            if isinstance(request, WebRequest) and channel is not None:
                channel.persistent = False  # closes when its answer is sent
    for transport, channel in _http_channels(reactor):
        if not channel.requests:
            transport.loseConnection()
    closing = [port.stopListening() for port in ports]
    return [done.asFuture(loop) for done in closing if done is not None]


def _server_of(port: Any) -> Any:
    """Return the server that accepts from a socket; over TLS its factory is wrapped."""
    return getattr(port.factory, "wrappedFactory", port.factory).server


def _http_channels(reactor: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each HTTP connection that is being read, and Twisted's state of its requests."""
    for transport in reactor.getReaders():
        protocol = getattr(transport, "protocol", None)
        protocol = getattr(protocol, "wrappedProtocol", protocol)  # over TLS
        channel = getattr(protocol, "_channel", None)
        if hasattr(channel, "requests"):
            yield transport, channel
