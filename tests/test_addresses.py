"""relay/addresses.py: under whose address a client is counted."""

from __future__ import annotations

import pytest

from relay.addresses import client_address


@pytest.mark.parametrize(
    ("reported", "forwarded", "counted"),
    [
        ("203.0.113.7", "", "203.0.113.7"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("203.0.113.7", "203.0.113.7", "203.0.113.7"),  # the server believed it
        ("127.0.0.2", "127.0.0.2", "127.0.0.2"),
        ("127.0.0.2", "127.0.0.2, 10.0.0.1", "127.0.0.2"),
        ("127.0.0.1", "203.0.113.7", None),  # the proxy's own
        ("::1", "203.0.113.7", None),
        ("::ffff:127.0.0.1", "203.0.113.7", None),
        ("203.0.113.7", "198.51.100.9", "203.0.113.7"),  # a client that forges to escape its limit
        ("10.0.0.1", "198.51.100.9", "10.0.0.1"),
    ],
)
def test_the_address_is_the_reported_one_unless_it_is_a_local_proxys(
    reported: str, forwarded: str, counted: str | None
) -> None:
    headers = {b"x-forwarded-for": forwarded.encode()} if forwarded else {}
    assert client_address({"client": [reported, 0]}, headers) == counted


@pytest.mark.parametrize("scope", [{}, {"client": None}])
def test_a_server_that_reports_no_address_counts_nobody(scope: dict[str, None]) -> None:
    assert client_address(scope, {b"x-forwarded-for": b"203.0.113.7"}) is None
