"""What HTTP meets before Django.

Django works in a thread, which takes the interpreter away from the event loop for milliseconds at
a time: with 200 anonymous requests a second the sockets' p99 rose from 4 ms to more than 100 ms.
So what anyone may ask is answered in the loop: probes, static files, paths that do not exist, and
pages that are the same for every client, of which one rendering is kept for seconds. The admin
alone reaches Django.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from django.conf import settings
from django.http.request import split_domain_port, validate_host
from django.urls import Resolver404, ResolverMatch, get_resolver

from marketfeed.answers import Answer, answer, come_back, wrong_method
from marketfeed.kept_pages import KeptPages
from marketfeed.probes import PROBES
from marketfeed.static_files import StaticFiles
from relay import conf
from relay.lib.pacing import Buckets, Seldom, TokenBucket
from relay.web.addresses import client_address, counted_as
from relay.web.paths import below_root

logger = logging.getLogger(__name__)

BURST = 10.0  # seconds' worth of requests that an address may send at once: a page has 40 files
COST_OF_DJANGO = 5.0  # requests as which one counts that Django answers
ADDRESSES = 10_000  # whose buckets are kept, 2 MB at most; then the one longest unused is forgotten
STRANGERS_PER_SECOND = 10.0  # requests to Django without a session, of all addresses together
STRANGERS_BURST = 30.0
LOGGED_EVERY = 60.0  # seconds
LOGGED_KEYS = 20

NOT_FOUND = answer(
    404, b"Nothing is here. WebSocket clients connect to /ws or /v5/public/{category}.\n"
)
TOO_LARGE = answer(413, b"The body of a request may have 64 KiB.\n")
UNKNOWN_HOST = answer(400, b"This relay does not answer by this name (see ALLOWED_HOSTS).\n")


class Front:
    """The ASGI application for HTTP, in front of Django's."""

    def __init__(self, django: Any) -> None:
        """Answer what can be answered without `django`, an ASGI application."""
        rate = conf.current().http_requests_per_second
        now = time.monotonic()
        self._django = django
        self._static_files = StaticFiles()
        self._pages = KeptPages(django)
        self._requests = Buckets(rate, rate * BURST, ADDRESSES)
        self._strangers = TokenBucket(STRANGERS_PER_SECOND, STRANGERS_BURST, now)
        self._logged = Seldom(LOGGED_EVERY, LOGGED_KEYS)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if not scope["path"].startswith("/"):  # a proxy may name the whole address
            scope = {**scope, "path": urlsplit(scope["path"]).path or "/"}
        headers = dict(scope["headers"])
        found = await self._answer(scope, headers)
        if found is None and not _announces_at_most(headers, conf.MAX_BODY):
            found = TOO_LARGE
        if found is None:
            await self._django(scope, _at_most(conf.MAX_BODY, receive), send)
        else:
            await found.send(scope["method"], send)

    async def _answer(self, scope: Any, headers: Mapping[bytes, bytes]) -> Answer | None:
        """Return the answer to a request; None if Django is to give it."""
        path, method = below_root(scope), scope["method"]
        probe = PROBES.get(path.rstrip("/"))
        if probe is not None:
            accept = headers.get(b"accept", b"").decode("latin1")
            return wrong_method(method) or await probe(accept)
        address, now = client_address(scope, headers), time.monotonic()
        if address is not None:
            address = counted_as(address)  # as connections are: an IPv6 network is one address
        if wait := self._requests.take(address, 1.0, now):
            return self._too_many(address, wait, now)
        if path.startswith(self._static_files.static_prefix):
            return await self._static_files.answer(path, method, headers) or NOT_FOUND
        match = _resolve(path)
        if match is None:
            return NOT_FOUND
        host = headers.get(b"host", b"").decode("latin1")
        if not _is_known_host(host):
            return self._unknown_host(host, now)
        if settings.SECURE_SSL_REDIRECT and scope["scheme"] != "https":
            return _to_https(scope, headers[b"host"])
        kept_for = getattr(match.func, "kept_for", None)
        if kept_for is not None:
            return wrong_method(method) or await self._pages.get(scope, headers, kept_for)
        if wait := self._requests.take(address, COST_OF_DJANGO - 1.0, now):
            return self._too_many(address, wait, now)
        is_stranger = settings.SESSION_COOKIE_NAME.encode() not in headers.get(b"cookie", b"")
        if is_stranger and not self._strangers.take(now):
            wait = self._strangers.available_at(now) - now
            return come_back(503, wait, b"Too many strangers ask at once.\n")
        return None

    def _too_many(self, address: str | None, wait: float, now: float) -> Answer:
        if self._logged.take(f"requests of {address}", now):
            logger.warning(
                "%s sends more HTTP requests than RELAY_HTTP_REQUESTS_PER_SECOND allows; those "
                "are answered 429. Logged once a minute.",
                address,
            )
        return come_back(429, wait, b"Too many requests from your address.\n")

    def _unknown_host(self, host: str, now: float) -> Answer:
        if self._logged.take(f"host {host}", now):
            logger.warning(
                "A request calls this relay %r, which is not in ALLOWED_HOSTS; it is answered 400. "
                "Logged once a minute.",
                host[:80],
            )
        return UNKNOWN_HOST


def _is_known_host(host: str) -> bool:
    domain, _ = split_domain_port(host)
    return bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)


def _announces_at_most(headers: Mapping[bytes, bytes], most: int) -> bool:
    """Whether a request says of its body that it is no longer than that, or says nothing."""
    length = headers.get(b"content-length", b"0")
    return length.isdigit() and int(length[:20]) <= most


def _at_most(most: int, receive: Any) -> Any:
    """Return `receive`, as if the client had left when more than `most` bytes of a body came.

    Django would write all of it to the disk, however long it is.
    """
    received = 0

    async def receive_some() -> Any:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        return message if received <= most else {"type": "http.disconnect"}

    return receive_some


def _resolve(path: str) -> ResolverMatch | None:
    """Return the view of a path, or of the path with the slash that Django appends."""
    for candidate in (path,) if path.endswith("/") else (path, f"{path}/"):
        try:
            return get_resolver().resolve(candidate)
        except Resolver404:
            continue
    return None


def _to_https(scope: Any, host: bytes) -> Answer:
    target = b"https://" + host + quote(scope["path"]).encode()
    if scope["query_string"]:
        target += b"?" + scope["query_string"]
    return answer(301, headers=[(b"location", target)])
