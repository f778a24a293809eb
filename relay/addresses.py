"""Under whose address a client is counted.

The address is the one the server reports. A proxy on this machine whose `X-Forwarded-For` the
server was not told to believe (Daphne's `--proxy-headers`) gives all clients its own: counted under
it, the limit of one address would shut everybody out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger(__name__)

_LOOPBACK = ("127.", "::1", "::ffff:127.")
_told = False


def client_address(scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> str | None:
    """Return a client's address; None where the server reports none, or but a local proxy's."""
    if not scope.get("client"):
        return None
    address: str = scope["client"][0]
    forwarded = headers.get(b"x-forwarded-for", b"").decode("latin1")
    if (
        forwarded
        and address.startswith(_LOOPBACK)
        and address not in (part.strip() for part in forwarded.split(","))
    ):
        _tell_once()
        return None
    return address


def _tell_once() -> None:
    global _told  # noqa: PLW0603 - once a process is enough
    if not _told:
        _told = True
        logger.warning(
            "A proxy on this machine tells clients' addresses and the server does not believe it: "
            "start daphne with --proxy-headers. Until then no limit per address applies."
        )
