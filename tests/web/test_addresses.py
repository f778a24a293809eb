"""relay/web/addresses.py: under whose address a client is counted."""

from __future__ import annotations

import pytest

from relay.web.addresses import client_address, counted_as


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
        ("::1", "[::1]:5000", "::1"),
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


@pytest.mark.parametrize(
    ("reported", "address"),
    [
        ("203.0.113.7:50000", "203.0.113.7"),
        (" 203.0.113.7 ", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("[::FFFF:203.0.113.7]:50000", "203.0.113.7"),
        ("2001:DB8::7", "2001:db8::7"),
        ("2001:db8:0:0:0:0:0:7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:50000", "2001:db8::7"),
        ("fe80::7%eth0", "fe80::7"),
        ("203.0.113.7:", "203.0.113.7"),
        ("unknown", "unknown"),
        ("_hidden", "unknown"),
        ("203.0.113.7.8", "unknown"),
        ("[2001:db8::7", "2001:db8::7"),
        ("[", "unknown"),
        ("", "unknown"),
        ("x" * 8_000, "unknown"),
    ],
)
def test_every_spelling_of_an_address_is_that_address(reported: str, address: str) -> None:
    headers = {b"x-forwarded-for": reported.encode()}
    assert client_address({"client": [reported, 0]}, headers) == address


def test_a_server_that_reports_something_else_than_an_address_counts_nobody() -> None:
    assert client_address({"client": ["/run/relay.sock", 0]}, {}) is None


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::7", "2001:db8:1:3::/64"),
        ("unknown", "unknown"),
    ],
)
def test_a_network_of_64_bits_counts_as_one_address(address: str, counted: str) -> None:
    assert counted_as(address) == counted
