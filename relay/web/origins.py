"""Which web pages may connect.

A browser names the page's origin; bots and command lines name none, and are always welcome.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from relay import conf
from relay.lib.pacing import Seldom

logger = logging.getLogger(__name__)

NO_ORIGIN = "null"  # of files and sandboxed frames; some web views write file:// instead
_refusals = Seldom(seconds=60.0, keys=20)


def is_welcome(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a handshake with these headers may go on."""
    origin = headers.get(b"origin", b"").decode("latin1")
    return not origin or is_allowed(origin) or _is_of_host(origin, headers)


def log_refusal(headers: Mapping[bytes, bytes], now: float) -> None:
    """Log that a page was refused: once a minute for each origin, and for few of them."""
    origin = headers.get(b"origin", b"").decode("latin1")
    if _refusals.take(origin, now):
        logger.warning(
            "Refused a page of %r: it is neither of this host nor in RELAY_ALLOWED_ORIGINS. Logged "
            "once a minute for each origin.",
            origin[:80],
        )


def is_allowed(origin: str) -> bool:
    """Return whether `RELAY_ALLOWED_ORIGINS` has the origin of a foreign page."""
    allowed = conf.current().allowed_origins
    if not allowed or not origin:
        return False
    if "*" in allowed:
        return True
    if origin in (NO_ORIGIN, "file://"):
        return NO_ORIGIN in allowed
    try:
        origin = conf.normal_origin(origin)
    except ValueError:
        return False
    return origin in allowed or any(_covers(one, origin) for one in allowed)


def is_own_page(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a handshake comes from a page of this very host, as a cookie demands."""
    domain, _ = split_domain_port(_host(headers))
    origin = headers.get(b"origin", b"").decode("latin1")
    is_known = bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)
    return is_known and _is_of_host(origin, headers)


def _covers(allowed: str, origin: str) -> bool:
    """Return whether `https://*.example.com` stands for an origin."""
    scheme, separator, domain = allowed.partition("://*.")
    return bool(separator) and origin.startswith(f"{scheme}://") and origin.endswith(f".{domain}")


def _is_of_host(origin: str, headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a page was served under the name by which it now calls this relay."""
    scheme, _, _ = origin.partition("://")
    try:
        return conf.normal_origin(origin) == conf.normal_origin(f"{scheme}://{_host(headers)}")
    except ValueError:
        return False


def _host(headers: Mapping[bytes, bytes]) -> str:
    return headers.get(b"host", b"").decode("latin1").lower()
