"""Which web pages may connect.

A browser names the page's origin; bots and command lines name none, and are always welcome.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from relay import conf


def is_welcome(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a handshake with these headers may go on."""
    origin = headers.get(b"origin", b"").decode("latin1")
    if not origin:
        return True
    allowed = conf.current().allowed_origins
    if "*" in allowed or origin in allowed:
        return True
    return _netloc(origin) == headers.get(b"host", b"").decode("latin1")


def is_own_page(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a handshake comes from a page of this very host, as a cookie demands."""
    host = headers.get(b"host", b"").decode("latin1").lower()
    origin = headers.get(b"origin", b"").decode("latin1").lower()
    domain, _ = split_domain_port(host)
    return (
        bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS) and _netloc(origin) == host
    )


def _netloc(origin: str) -> str | None:
    """Return the host and port of an origin; None where it has none that could be read."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:  # such as "http://["
        return None
