"""relay/web/reactor.py: what it says of a Daphne that believes what anyone can write."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from daphne.ws_protocol import WebSocketProtocol

from relay.web import reactor
from tests.e2e.client import client
from tests.e2e.conftest import programs
from tests.processes import Programs

__all__ = ["programs"]


@pytest.mark.parametrize(
    ("host", "own", "expected"),
    [
        ("127.0.0.1", ["9.9.9.9"], False),
        ("::1", [], False),
        ("10.1.2.3", ["9.9.9.9"], False),
        ("fd00::1", [], False),
        ("9.9.9.9", [], True),
        ("2620:fe::9", [], True),
        ("0.0.0.0", ["10.1.2.3"], False),  # a container, or a machine behind a router
        ("0.0.0.0", ["10.1.2.3", "2620:fe::9"], True),
        ("::", ["9.9.9.9"], True),
        ("0.0.0.0", [], False),
        ("", ["9.9.9.9"], False),  # a Unix socket
        ("feed.example.com", [], False),
    ],
)
def test_an_address_is_public_if_the_internet_may_reach_it(
    host: str, own: list[str], expected: bool
) -> None:
    assert reactor.is_public(host, own) is expected


@pytest.mark.parametrize(
    ("peer", "header", "warnings"),
    [
        ("9.9.9.9", "X-Forwarded-For", 1),
        ("9.9.9.9", None, 0),
        ("127.0.0.1", "X-Forwarded-For", 0),
        ("172.18.0.5", "X-Forwarded-For", 0),
    ],
)
def test_a_client_that_passes_the_believed_proxy_is_warned_of_once(
    peer: str,
    header: str | None,
    warnings: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(reactor, "_has_warned_of_forgery", False)
    protocol: Any = WebSocketProtocol()
    protocol.server = SimpleNamespace(proxy_forwarded_address_header=header)
    protocol.transport = SimpleNamespace(getPeer=lambda: SimpleNamespace(host=peer))
    for _ in range(2):
        reactor.note_peer(partial(print, protocol))
    assert [peer in record.message for record in caplog.records] == [True] * warnings


@pytest.mark.parametrize("options", [(), ("--proxy-headers",)])
async def test_a_daphne_on_loopback_may_believe_its_proxy(
    options: tuple[str, ...], programs: Programs
) -> None:
    relay = await programs.daphne("ws://127.0.0.1:1/v5/public", *options)
    async with client(relay.url("/ws")):
        assert "X-Forwarded-For" not in relay.program.output
