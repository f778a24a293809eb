"""relay/conf.py: texts become typed values, or faults that name the variable."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from relay import conf

ADDRESS = "RELAY_METRICS_ADDRESS: expected a port of 127.0.0.1, or host:port, such as 0.0.0.0:9101"


def fault_of(field: str, given: Any) -> str:
    value, found = conf.read({field: given})
    assert value == conf.RelaySettings(), "a wrong value leaves the default"
    assert len(found) == 1, "the value was taken"
    return str(found[0])


def test_defaults_are_what_they_were() -> None:
    assert conf.read({}) == (
        conf.RelaySettings(
            upstream_url="wss://stream.bybit.com/v5/public",
            redis_urls=(),
            ping_interval=5.0,
            linger=10.0,
            max_topics=5_000,
            max_topics_per_connection=200,
            max_connections=20_000,
            max_connections_per_address=1_000,
            requests_per_second=20.0,
            client_buffer=262_144,
            send_buffer=131_072,
            slow_timeout=30.0,
            idle_timeout=60.0,
            compression=True,
            allowed_origins=(),
            metrics_address="",
            log_format="text",
        ),
        [],
    )


def test_defaults_pass_their_own_limits() -> None:
    defaults = {name: getattr(conf.RelaySettings(), name) for name in conf.VARIABLES}
    assert conf.read(defaults) == (conf.RelaySettings(), [])


@pytest.mark.parametrize(
    ("field", "given", "expected"),
    [
        ("linger", "2.5", 2.5),
        ("metrics_address", "9101", "127.0.0.1:9101"),
        ("metrics_address", "0.0.0.0:9101", "0.0.0.0:9101"),
        ("metrics_address", "[::]:9101", "[::]:9101"),
        ("linger", "0", 0.0),
        ("linger", 0.05, 0.05),
        ("ping_interval", 1, 1.0),
        ("requests_per_second", " 0.5 ", 0.5),
        ("max_topics", "5000.0", 5000),
        ("max_topics", 7.0, 7),
        ("client_buffer", "65536", 65536),
        ("compression", "OFF", False),
        ("compression", "1", True),
        ("compression", False, False),
        ("log_format", "json", "json"),
        ("upstream_url", "ws://127.0.0.1:9001/v5/public/", "ws://127.0.0.1:9001/v5/public"),
        ("redis_urls", "redis://:secret@a:1/0, unix:///r.sock", ("redis://:secret@a:1/0", "unix:///r.sock")),
        ("redis_urls", ("rediss://a",), ("rediss://a",)),
        ("allowed_origins", "*", ("*",)),
        ("allowed_origins", "https://a.example:443, http://b:80", ("https://a.example", "http://b")),
        ("allowed_origins", "https://*.A.example:443", ("https://*.a.example",)),
        ("allowed_origins", "http://[::1]:81", ("http://[::1]:81",)),
        ("allowed_origins", "capacitor://localhost, file://", ("capacitor://localhost", "null")),
        ("allowed_origins", "null", ("null",)),
        ("allowed_origins", "https://A.example/, http://b:81", ("https://a.example", "http://b:81")),
    ],
)  # fmt: skip
def test_a_value_is_read(field: str, given: Any, expected: Any) -> None:
    value, found = conf.read({field: given})
    assert found == []
    assert getattr(value, field) == expected
    assert type(getattr(value, field)) is type(expected)


@pytest.mark.parametrize("given", ["nan", "inf", "-1", "1e999", "ten", "0x10", "1,5", None, True])
@pytest.mark.parametrize(
    "field", ["ping_interval", "linger", "max_topics", "client_buffer", "requests_per_second"]
)  # fmt: skip
def test_a_number_that_is_none_is_a_fault(field: str, given: Any) -> None:
    assert fault_of(field, given).startswith(f"{conf.VARIABLES[field]}: expected a ")


@pytest.mark.parametrize(
    ("field", "given", "fault"),
    [
        (
            "max_topics",
            "2.5",
            "RELAY_MAX_TOPICS: expected a whole number from 1 to 10000000, found '2.5'",
        ),
        (
            "ping_interval",
            "0",
            "RELAY_PING_INTERVAL: expected a number of seconds from 0.01 to 86400, found '0'",
        ),
        (
            "slow_timeout",
            "86401",
            "RELAY_SLOW_TIMEOUT: expected a number of seconds from 0.01 to 86400, found '86401'",
        ),
        ("compression", "perhaps", "RELAY_COMPRESSION: expected on or off, found 'perhaps'"),
        ("metrics_address", "99999", f"{ADDRESS}, found '99999'"),
        ("metrics_address", "here", f"{ADDRESS}, found 'here'"),
        ("metrics_address", "here:", f"{ADDRESS}, found 'here:'"),
        ("metrics_address", "a b:1", f"{ADDRESS}, found 'a b:1'"),
        ("metrics_address", "http://x:1", f"{ADDRESS}, found 'http://x:1'"),
        ("metrics_address", "h:1/metrics", f"{ADDRESS}, found 'h:1/metrics'"),
        ("log_format", "xml", "RELAY_LOG_FORMAT: expected text or json, found 'xml'"),
        (
            "upstream_url",
            "https://stream.bybit.com/v5/public",
            "UPSTREAM_URL: expected a ws:// or wss:// address with a host, without a query "
            "and without the category, which is appended, "
            "found 'https://stream.bybit.com/v5/public'",
        ),
        (
            "allowed_origins",
            "a.example",
            "RELAY_ALLOWED_ORIGINS: expected * or origins such as https://example.com, "
            "https://*.example.com, capacitor://localhost or null, separated by commas, "
            "found 'a.example'",
        ),
    ],
)
def test_a_fault_says_what_was_expected_and_what_was_found(
    field: str, given: str, fault: str
) -> None:
    assert fault_of(field, given) == fault


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("upstream_url", "ws://"),
        ("upstream_url", "ws://h:99999"),
        ("upstream_url", "ws://h:port"),
        ("upstream_url", "ws://[::1"),
        ("upstream_url", "ws://h/v5?key=1"),
        ("upstream_url", "ws://h h/"),
        ("upstream_url", "wss://stream.bybit.com/v5/public/linear"),
        ("upstream_url", "wss://stream.bybit.com/v5/public/SPOT/"),
        ("upstream_url", "wss://stream.bybit.com/v5/public/misc/status"),
        ("upstream_url", "wss://stream.bybit.com/v5/public/{category}"),
        ("upstream_url", "wss://stream.bybit.com/v5/private"),
        ("redis_urls", "http://h"),
        ("redis_urls", "redis://"),
        ("redis_urls", "redis://h:0x/0"),
        ("redis_urls", "redis://h/zero"),
        ("redis_urls", "redis://good, bad"),
        ("redis_urls", "unix://"),
        ("allowed_origins", "*, https://a.example"),
        ("allowed_origins", "https://a.example/path"),
        ("allowed_origins", "https://user@a.example"),
        ("allowed_origins", "https://*example.com"),
        ("allowed_origins", "https://*.*.example.com"),
        ("allowed_origins", "https://a.*.example.com"),
        ("allowed_origins", "https://*."),
        ("allowed_origins", "*.example.com"),
        ("allowed_origins", "https://["),
        ("allowed_origins", "https://a.example:port"),
        ("allowed_origins", "a.example:443"),
    ],
)
def test_an_address_that_cannot_be_used_is_a_fault(field: str, given: str) -> None:
    assert fault_of(field, given).startswith(conf.VARIABLES[field])


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("redis_urls", "http://:secret@h"),
        ("redis_urls", "secret"),
        ("redis_urls", "secret://h"),
        ("upstream_url", "https://u:secret@h"),
        ("upstream_url", "ws://h?token=secret"),
    ],
)
def test_a_fault_shows_no_secret(field: str, given: str) -> None:
    assert "not shown" in fault_of(field, given)
    if not given.startswith("secret:"):
        assert "secret" not in fault_of(field, given)


def test_every_fault_is_found_not_only_the_first() -> None:
    _, found = conf.read({"linger": "x", "max_topics": "3", "send_buffer": "y"})
    assert [fault.variable for fault in found] == ["RELAY_LINGER", "RELAY_SEND_BUFFER"]
    assert conf.sentence(found) == (
        "marketfeed cannot start: "
        "RELAY_LINGER: expected a number of seconds from 0 to 86400, found 'x'; "
        "RELAY_SEND_BUFFER: expected a whole number of bytes from 4096 to 1073741824, found 'y'."
    )


def test_an_unknown_field_is_a_fault() -> None:
    assert fault_of("lingr", 1).startswith("RELAY['lingr']: expected one of upstream_url, ")


def test_current_follows_the_settings_in_force() -> None:
    before = conf.current()
    with override_settings(RELAY={"linger": 0.1, "max_topics": "3"}):
        assert conf.current() == conf.RelaySettings(linger=0.1, max_topics=3)
    assert conf.current() == before


def test_current_parses_once(settings: Any) -> None:
    settings.RELAY = {"linger": "1"}
    assert conf.current() is conf.current()


def test_current_refuses_what_the_checks_would_report(settings: Any) -> None:
    settings.RELAY = {"linger": "x"}
    with pytest.raises(ImproperlyConfigured, match="RELAY_LINGER"):
        conf.current()


def test_the_nearest_variable_is_named() -> None:
    assert conf.nearest("RELAY_LINGR") == "RELAY_LINGER"
    assert conf.nearest("RELAY_UPSTREAM_URL") == "UPSTREAM_URL"
    assert conf.nearest("X") == ""
