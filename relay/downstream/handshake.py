"""What a client offers in its handshake, and what the relay takes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from autobahn.websocket.compress import PERMESSAGE_COMPRESSION_EXTENSION

from relay.downstream.outbound.daphne import protocol_of

_TOKEN = re.compile(r"[!#$&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110's, but for % which Daphne decodes


def chosen_subprotocol(scope: Mapping[str, Any]) -> str | None:
    """Return the first subprotocol that the client offers, None if it offers none.

    Any will do: the path says which dialect is spoken. Browsers fail a connection whose offer is
    not answered.
    """
    return next((name for name in scope.get("subprotocols", ()) if _TOKEN.fullmatch(name)), None)


def decline_unknown_offers(send: Any) -> None:
    """Have Daphne go on without a compression whose parameters it cannot read.

    autobahn answers such an offer with HTTP 400; RFC 7692, section 7.1, wants it declined.

    Args:
        send: What the server handed to the application of a WebSocket, before it accepts.
    """
    protocol = protocol_of(send)
    if protocol is not None:
        offers = protocol.websocket_extensions
        protocol.websocket_extensions = [offer for offer in offers if _is_readable(*offer)]


def _is_readable(name: str, parameters: Any) -> bool:
    extension: Any = PERMESSAGE_COMPRESSION_EXTENSION.get(name)
    if extension is None:
        return True  # autobahn passes over it
    try:
        extension["Offer"].parse(parameters)
    except Exception:  # autobahn raises nothing narrower
        return False
    return True
