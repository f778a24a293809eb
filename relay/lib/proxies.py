"""Which proxy a connection goes through.

Proxies are configured in the environment (HTTPS_PROXY, HTTP_PROXY, WSS_PROXY, NO_PROXY and more, in
either case), as websockets reads them. A proxy is never asked for an address of this machine: on
the proxy's own machine it would mean something else.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from websockets.exceptions import InvalidProxy
from websockets.proxy import get_proxy
from websockets.uri import parse_uri

PROXY_FAULTS = (InvalidProxy, ImportError)
"""What a proxy that cannot be used raises: a SOCKS proxy wants a library, which the words name."""


def proxy_for(url: str) -> str | None:
    """Return the address of the proxy for a ws:// or wss:// address; None for a direct connection.

    Raises:
        InvalidURI: `url` is neither.
    """
    uri = parse_uri(url)
    return None if is_loopback(uri.host) else get_proxy(uri)


def is_loopback(host: str) -> bool:
    """Whether a host name or address, without brackets, means this machine."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def without_secrets(proxy: str) -> str:
    """Return a proxy's address without user and password, for a log."""
    parts = urlsplit(proxy)
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    return f"{parts.scheme}://{parts.hostname or '?'}{port}"


def words_of(fault: Exception) -> str:
    """Return an exception's words, without the password of the proxy that it may name."""
    if isinstance(fault, InvalidProxy):
        return f"{without_secrets(fault.proxy)} isn't a valid proxy: {fault.msg}"
    return str(fault)
