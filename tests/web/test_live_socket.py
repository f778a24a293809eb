"""Whether a live page may be open: who looks after it, and what a database that fails means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError

from relay.downstream.close_codes import CloseCode
from relay.ops.service import MAX_WATCHERS
from relay.web import live_socket
from relay.web.live_socket import LiveTopicsConsumer
from tests.processes import PATIENCE

ORIGIN = {b"origin": b"http://localhost", b"host": b"localhost"}


class Page:
    """A live page, as far as the check of its user knows it."""

    def __init__(self) -> None:
        self.codes: list[int] = []

    def close(self, code: int, message: str = "") -> None:
        self.codes.append(code)


def answering(answers: list[Any]) -> Callable[[str | None], Any]:
    """Return a check that answers or raises each of these; the last one again and again."""

    async def may_view(key: str | None) -> bool:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    return may_view


@pytest.mark.parametrize("fault", [InterfaceError("connection already closed"), OperationalError()])
async def test_a_database_that_fails_once_leaves_the_page_open_and_the_check_alive(
    monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    page = Page()
    monkeypatch.setattr(live_socket, "LOOK_AGAIN", 0.0)
    monkeypatch.setattr(live_socket, "may_view", answering([True, fault, True, fault, False]))
    async with asyncio.timeout(PATIENCE):
        await live_socket._look_again(page, "key")  # type: ignore[arg-type]
    assert page.codes == [CloseCode.NOT_PERMITTED]


@pytest.mark.parametrize("fault", [InterfaceError("gone"), RuntimeError("a fault of the program")])
async def test_a_page_whose_user_cannot_be_checked_for_long_is_closed(
    monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    page = Page()
    monkeypatch.setattr(live_socket, "LOOK_AGAIN", 0.0)
    monkeypatch.setattr(live_socket, "UNCHECKED_LIMIT", 0.05)
    monkeypatch.setattr(live_socket, "may_view", answering([fault]))
    async with asyncio.timeout(PATIENCE):
        await live_socket._look_again(page, "key")  # type: ignore[arg-type]
    assert page.codes == [CloseCode.UNCHECKED]


async def test_a_database_that_never_answers_closes_the_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def may_view(key: str | None) -> bool:
        await asyncio.Event().wait()
        raise AssertionError

    page = Page()
    monkeypatch.setattr(live_socket, "LOOK_AGAIN", 0.0)
    monkeypatch.setattr(live_socket, "UNCHECKED_LIMIT", 0.05)
    monkeypatch.setattr(live_socket, "may_view", may_view)
    async with asyncio.timeout(PATIENCE):
        await live_socket._look_again(page, "key")  # type: ignore[arg-type]
    assert page.codes == [CloseCode.UNCHECKED]


def process(watchers: set[Any]) -> Any:
    live = SimpleNamespace(watchers=watchers, wish=lambda watcher: None)
    return SimpleNamespace(live=live, is_stopping=False)


async def test_pages_that_come_together_are_no_more_than_the_most_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    are_all_asked = asyncio.Event()

    async def may_view(key: str | None) -> bool:
        await are_all_asked.wait()
        return True

    monkeypatch.setattr(live_socket, "may_view", may_view)
    house = process(set())
    pages = [Page() for _ in range(MAX_WATCHERS + 20)]
    welcomes = [
        asyncio.create_task(
            LiveTopicsConsumer()._welcome(house, page, ORIGIN, "key")  # type: ignore[arg-type]
        )
        for page in pages
    ]
    await asyncio.sleep(0)  # each has begun, and waits for the database
    are_all_asked.set()
    async with asyncio.timeout(PATIENCE):
        welcomed = await asyncio.gather(*welcomes)
    assert len(house.live.watchers) == sum(welcomed) == MAX_WATCHERS
    assert [page.codes for page in pages].count([CloseCode.FULL]) == 20


async def test_a_page_is_not_let_in_while_the_database_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page, house = Page(), process(set())
    monkeypatch.setattr(live_socket, "may_view", answering([InterfaceError("gone")]))
    consumer = LiveTopicsConsumer()
    assert await consumer._welcome(house, page, ORIGIN, "key") is False  # type: ignore[arg-type]
    assert page.codes == [CloseCode.UNCHECKED]
    assert house.live.watchers == set()


async def test_a_page_that_came_while_the_process_began_to_stop_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page, house = Page(), process(set())

    async def may_view(key: str | None) -> bool:
        house.is_stopping = True
        return True

    monkeypatch.setattr(live_socket, "may_view", may_view)
    consumer = LiveTopicsConsumer()
    assert await consumer._welcome(house, page, ORIGIN, "key") is False  # type: ignore[arg-type]
    assert page.codes == [CloseCode.SHUTTING_DOWN]
