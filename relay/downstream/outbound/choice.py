"""Which way to a client is taken."""

from __future__ import annotations

from typing import Any

from relay.downstream.outbound import daphne, trial
from relay.downstream.outbound.base import Outbound, Peer
from relay.downstream.outbound.portable import PortableOutbound

WAYS = (daphne.DaphneOutbound.way, PortableOutbound.way)
"""The words by which operators know them."""


def make_outbound(
    send: Any, peer: Peer, *, message_limit: int, send_buffer: int, compression: bool
) -> Outbound:
    """Return the fastest way to one client, before its connection is accepted.

    Args:
        send: What the ASGI server handed to the application.
        peer: Who uses it.
        message_limit: Bytes of one message from the client; a longer one closes with 1009.
        send_buffer: Bytes of the kernel's buffer for this socket, where it can be set.
        compression: Whether to agree to permessage-deflate, where the server leaves it to us.
    """
    protocol = daphne.protocol_of(send)
    if protocol is None:
        return PortableOutbound(send, peer)
    if trial.passed():
        return daphne.DaphneOutbound(
            send,
            protocol,
            peer,
            message_limit=message_limit,
            send_buffer=send_buffer,
            compression=compression,
        )
    return PortableOutbound(send, peer, protocol.transport.abortConnection)
