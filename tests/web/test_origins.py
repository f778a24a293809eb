"""relay/web/origins.py: whose pages may connect."""

from __future__ import annotations

from typing import Any

import pytest

from relay.web.origins import is_own_page, is_welcome

MALFORMED = [
    "http://[",
    "http://[::1",
    "http://a]b",
    "//[",
    "http://exa mple",
    "\xff\xfe",
    "https:",
]
APPS = ["null", "file://", "capacitor://localhost", "chrome-extension://abcdefghijklmnop"]


def headers(origin: str, host: str = "feed.example.com") -> dict[bytes, bytes]:
    return {b"origin": origin.encode("latin1"), b"host": host.encode()}


def allow(settings: Any, value: str) -> None:
    settings.RELAY = {"allowed_origins": value}


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://feed.example.com", "feed.example.com"),
        ("https://feed.example.com", "feed.example.com:443"),
        ("http://feed.example.com:8000", "feed.example.com:8000"),
        ("HTTPS://Feed.Example.com", "feed.example.com"),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_a_page_of_the_very_host_may_connect(origin: str, host: str) -> None:
    assert is_welcome(headers(origin, host))


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "https://feed.example.com:8443", "http://example.com", *APPS],
)
def test_no_other_page_may_connect_by_itself(origin: str) -> None:
    assert not is_welcome(headers(origin))


@pytest.mark.parametrize("allowed", ["", "https://*.example.com, null"])
@pytest.mark.parametrize("host", ["feed.example.com", "[", ""])
@pytest.mark.parametrize("origin", MALFORMED)
def test_what_is_no_origin_is_refused(settings: Any, origin: str, host: str, allowed: str) -> None:
    allow(settings, allowed)
    assert not is_welcome(headers(origin, host))
    assert not is_own_page(headers(origin, host))


@pytest.mark.parametrize(
    ("allowed", "origin", "expected"),
    [
        ("https://app.example", "https://app.example", True),
        ("https://app.example:443", "https://app.example", True),
        ("https://app.example", "https://app.example:443", True),
        ("https://app.example", "http://app.example", False),
        ("https://app.example", "https://app.example:8443", False),
        ("https://app.example:8443", "https://app.example:8443", True),
        ("https://*.app.example", "https://a.app.example", True),
        ("https://*.app.example", "https://b.a.app.example", True),
        ("https://*.app.example", "https://app.example", False),
        ("https://*.app.example", "https://evilapp.example", False),
        ("https://*.app.example", "https://a.app.example.evil", False),
        ("https://*.app.example", "https://a.app.example:8443", False),
        ("https://*.app.example:8443", "https://a.app.example:8443", True),
        ("https://*.app.example", "http://a.app.example", False),
        ("null", "null", True),
        ("null", "file://", True),
        ("file://", "null", True),
        ("capacitor://localhost", "capacitor://localhost", True),
        ("capacitor://localhost", "http://localhost", False),
        ("*", "https://anything.example", True),
        ("*", "null", True),
    ],
)
def test_pages_of_others_may_connect_as_they_are_allowed(
    settings: Any, allowed: str, origin: str, expected: bool
) -> None:
    allow(settings, allowed)
    assert is_welcome(headers(origin)) is expected
    assert not is_own_page(headers(origin))  # a cookie asks for more


@pytest.mark.parametrize("known", [True, False])
def test_a_cookie_asks_for_a_host_of_ours(settings: Any, known: bool) -> None:
    settings.ALLOWED_HOSTS = ["feed.example.com"] if known else ["other.example"]
    assert is_own_page(headers("https://feed.example.com")) is known
