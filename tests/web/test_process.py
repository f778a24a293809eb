"""What a web process does about the memory of its clients, and about its own tasks."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from relay.bybit.requests import Endpoint
from relay.downstream.runner import HubRunner
from relay.downstream.session import ClientSession
from relay.lib.tasks import cancel_all
from relay.ops.service import LiveService
from relay.upstream.worker import UpstreamWorker
from relay.web import process as web_process
from relay.web.process import WebProcess
from tests.downstream.calls import RecordingOutbound
from tests.processes import PATIENCE, until


@pytest.fixture
def _thawed() -> Iterator[None]:
    """Leave the collector of the tests as it was."""
    yield
    gc.unfreeze()


class Cyclic(RecordingOutbound):
    """A way out that never lets go of its client, as if somebody had overlooked a cycle."""

    way = "fast"

    def __init__(self, client: ClientSession) -> None:
        super().__init__()
        self.client = client


def _come(process: WebProcess, count: int, *, address: str | None = None) -> list[ClientSession]:
    clients = [
        ClientSession(process.telemetry, process.runner, Endpoint.NATIVE, address=address)
        for _ in range(count)
    ]
    for client in clients:
        client.attach(Cyclic(client))
        process.add(client)
    return clients


def _is_visited(client: ClientSession) -> bool:
    """Whether the collector looks at a client."""
    return any(found is client for found in gc.get_objects())


@pytest.mark.parametrize(
    ("first", "second", "stranger"),
    [
        ("203.0.113.7", "203.0.113.7", "203.0.113.8"),
        ("2001:db8:1:2::7", "2001:db8:1:2:3::", "2001:db8:1:3::7"),
    ],
)
async def test_clients_of_one_address_share_places_and_give_them_back(
    first: str, second: str, stranger: str, settings: Any
) -> None:
    settings.RELAY = {"max_connections_per_address": 2}
    process = WebProcess()
    clients = [
        client for address in (first, second) for client in _come(process, 1, address=address)
    ]
    assert not process.has_place(first)
    assert not process.has_place(second)
    assert process.has_place(stranger)
    for client in clients:
        process.remove(client)
        assert process.has_place(first)
        assert process.has_place(second)
    assert not process._addresses


@pytest.mark.usefixtures("_thawed")
async def test_clients_that_stay_are_not_visited_by_the_collector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(web_process, "FREEZE_AFTER", 3)
    process = WebProcess()
    first, second, third = _come(process, 3)
    assert not any(map(_is_visited, (first, second, third)))
    [fourth] = _come(process, 1)
    assert _is_visited(fourth)
    process.remove(fourth)  # those who come and leave are not counted
    [_, fifth] = _come(process, 2)
    assert _is_visited(fifth)
    _come(process, 1)
    assert not _is_visited(fifth)


@pytest.mark.usefixtures("_thawed")
async def test_clients_that_left_but_are_in_a_cycle_are_collected_and_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(web_process, "FREEZE_AFTER", 3)
    monkeypatch.setattr(web_process, "LEFT_BEHIND", 2)
    process = WebProcess()
    clients = _come(process, 3)
    gone = weakref.WeakSet(clients)
    for client in clients:
        process.remove(client)
    del clients, client
    assert len(gone) == 3  # frozen, and in cycles
    process.look_after_the_gone()
    assert (len(gone), caplog.messages) == (3, [])  # they have just left
    process.look_after_the_gone()
    assert len(gone) == 0
    [record] = caplog.records
    assert (record.levelno, record.getMessage()[:14]) == (logging.ERROR, "3 clients left")


@pytest.mark.usefixtures("_thawed")
async def test_what_a_process_does_beside_its_clients_goes_on_after_a_fault(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun: Counter[str] = Counter()

    def failing_once(name: str) -> Callable[..., Coroutine[Any, Any, None]]:
        async def step(*_: object) -> None:
            begun[name] += 1
            if begun[name] == 1:
                raise ZeroDivisionError(name)
            await asyncio.Event().wait()

        return step

    monkeypatch.setattr(WebProcess, "_look_after_clients", failing_once("client care"))
    monkeypatch.setattr(web_process, "watch_loop", failing_once("loop watch"))
    monkeypatch.setattr(UpstreamWorker, "run", failing_once("worker"))
    monkeypatch.setattr(HubRunner, "start", lambda _: None)
    monkeypatch.setattr(LiveService, "start", lambda _: None)
    process = WebProcess()
    process.start()
    try:
        await until(lambda: set(begun.values()) == {2} and len(begun) == 3, PATIENCE, "all go on")
    finally:
        await cancel_all(process._tasks)
    assert sum(record.levelno == logging.ERROR for record in caplog.records) == 3
