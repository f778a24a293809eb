"""relay/lib/proxies.py: proxies of the environment, and never for this machine."""

from __future__ import annotations

import pytest

from relay.lib.proxies import proxy_for, without_secrets

PROXY = "http://proxy.test:3128"


@pytest.mark.parametrize(
    ("url", "is_used"),
    [
        ("wss://stream.bybit.com/v5/public", True),
        ("ws://10.0.0.7:9001/v5/public", True),
        ("ws://localhost.example.com/", True),
        ("ws://localhost:9001/v5/public", False),
        ("ws://LOCALHOST./v5/public", False),
        ("ws://exchange.localhost/v5/public", False),
        ("ws://127.0.0.1:9001/v5/public", False),
        ("ws://127.8.9.1:9001/v5/public", False),
        ("ws://[::1]:9001/v5/public", False),
        ("ws://[::ffff:127.0.0.1]:9001/v5/public", False),
    ],
)
def test_a_proxy_is_used_for_other_machines_alone(
    url: str, is_used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("https_proxy", PROXY)
    assert proxy_for(url) == (PROXY if is_used else None)


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("http://user:secret@proxy.test:3128/", "http://proxy.test:3128"),
        ("socks5h://proxy.test", "socks5h://proxy.test"),
        ("http://user:secret@proxy.test:port", "http://proxy.test"),
        ("http://", "http://?"),
    ],
)
def test_a_log_shows_no_password(proxy: str, shown: str) -> None:
    assert without_secrets(proxy) == shown
