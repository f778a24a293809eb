"""Readers that tell whether each book is right: by Bybit's rules, and as the exchange has it."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

from tests.churn.house import CATEGORIES, House
from tests.churn.kinds import SYMBOLS
from tests.e2e.client import Client, client
from tests.e2e.reference import Book, levels

DEPTHS = {"option": (25, 100)}
USUAL_DEPTHS = (50, 200)
LOOK = 0.1  # seconds between two comparisons
SET_BACK = 10**12  # a resync may set a reader back by any `u`: Bybit may have started over


class WrongBook(AssertionError):
    """A book was not what the exchange has, for too long."""


class Readers:
    """Calm readers of two books of each category, at both doors."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._stack = AsyncExitStack()
        self._clients: dict[Client, str] = {}  # with its category

    async def __aenter__(self) -> Readers:
        try:
            for category in CATEGORIES:
                for number, door in enumerate(("/ws?category={}", "/v5/public/{}")):
                    web = self._house.webs[number % len(self._house.webs)]
                    url = web.url(door.format(category))
                    one = await self._stack.enter_async_context(client(url))
                    await one.subscribe(*topics(category))
                    self._clients[one] = category
                    for follower in one.followers.values():
                        assert isinstance(follower.state, Book)
                        follower.state.setback = SET_BACK
                        follower.state.may_cross = True
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *fault: object) -> None:
        await self._stack.aclose()

    def __len__(self) -> int:
        return len(self._clients)

    async def until_right(self, seconds: float) -> float:
        """Wait until every book is the exchange's; return how many seconds that took.

        Nothing from before the call counts, not even what was on its way then: each reader must
        hold the exchange's book at another `u` than the exchange had at the call.

        Raises:
            WrongBook: one is not after so many seconds.
        """
        started = time.monotonic()
        books = [
            (one, category, topic)
            for one, category in self._clients.items()
            for topic in topics(category)
        ]
        for one, _, topic in books:
            follower = one.followers[topic]
            assert isinstance(follower.state, Book)
            follower.state.history.clear()
            follower.texts.clear()
            follower.types.clear()
        truths: dict[tuple[str, str], dict[str, Any]] = {}
        before: dict[tuple[str, str], int] = {}
        wrong: dict[tuple[Client, str], str] = {}
        while books:
            for category, topic in {(category, topic) for _, category, topic in books}:
                truths[category, topic] = await self._house.exchange.do(
                    "book", category=category, topic=topic
                )
            await asyncio.sleep(LOOK)
            for book in list(books):
                one, category, topic = book
                one.check()
                assert one.code is None, f"a calm reader was closed with {one.code}"
                truth = truths[category, topic]
                is_old = before.setdefault((category, topic), truth["u"]) == truth["u"]
                why = "has not moved" if is_old else _difference(one, topic, truth)
                if why is None:
                    books.remove(book)
                else:
                    wrong[one, topic] = f"{category}:{topic} {why}"
            if books and time.monotonic() - started > seconds:
                found = [wrong[one, topic] for one, _, topic in books]
                raise WrongBook(f"not right within {seconds:g} s: {'; '.join(found[:6])}")
        return time.monotonic() - started


def topics(category: str) -> list[str]:
    symbol = SYMBOLS[category][0]
    return [f"orderbook.{depth}.{symbol}" for depth in DEPTHS.get(category, USUAL_DEPTHS)]


def _difference(one: Client, topic: str, truth: dict[str, Any]) -> str | None:
    """Return in what a reader's book differs from the exchange's, None if in nothing."""
    state = one.followers[topic].state
    assert isinstance(state, Book)
    held = state.history.get(truth["u"])
    if held is None:
        return f"stands at {state.u}, the exchange at {truth['u']}"
    if held != (levels(truth["b"]), levels(truth["a"])):
        return f"differs at {truth['u']}"
    return None
