"""Under whose address a client is counted.

The address is the one the server reports. Behind a proxy it comes from a header, in the spelling of
that proxy: with a port, in brackets, as IPv4 inside IPv6. All spellings of one address are one.

A proxy on this machine whose `X-Forwarded-For` the server was not told to believe (Daphne's
`--proxy-headers`) gives all clients its own address: counted under it, the limit of one address
would shut every client out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

logger = logging.getLogger(__name__)

UNKNOWN = "unknown"
"""Clients whose proxy names them by something that is not an address count as one."""

HOST_BITS = 64  # of an IPv6 address: a network of 64 bits belongs to one customer
_told = False


def client_address(scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> str | None:
    """Return a client's address; None where the server reports none, or only a local proxy's."""
    if not scope.get("client"):
        return None
    reported = _read(scope["client"][0])
    forwarded = headers.get(b"x-forwarded-for", b"").decode("latin1")
    if reported is None:
        # Without a proxy it is the server's own word, such as the path of a UNIX socket.
        return UNKNOWN if b"x-forwarded-for" in headers else None
    if (
        forwarded
        and reported.is_loopback
        and reported not in [_read(part) for part in forwarded.split(",")]
    ):
        _tell_once()
        return None
    return str(reported)


def counted_as(address: str) -> str:
    """Return what a client's address counts as: itself, of IPv6 its network of 64 bits."""
    found = _read(address)
    if isinstance(found, IPv6Address):
        return str(IPv6Network((int(found) >> HOST_BITS << HOST_BITS, 128 - HOST_BITS)))
    return address


def _read(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address that is written there, without port and zone; None if there is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


def _tell_once() -> None:
    global _told  # noqa: PLW0603 - once a process is enough
    if not _told:
        _told = True
        logger.warning(
            "X-Forwarded-For is present but not trusted: start daphne with --proxy-headers. Until "
            "then no limit per address applies."
        )
