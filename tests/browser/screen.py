"""What a visitor reads on the demo page, and what stands there if the page is right."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from playwright.async_api import Page

from tests.e2e.control import Control
from tests.processes import PATIENCE

READ = """
() => {
  const rows = (id) => [...document.querySelectorAll(`#${id} .row`)]
    .map((row) => [...row.children].map((cell) => cell.textContent))
    .filter(([price]) => price !== "");
  const text = (id) => document.getElementById(id).textContent;
  return {
    asks: rows("asks").reverse(),
    bids: rows("bids"),
    room: document.querySelectorAll("#bids .row").length,
    mid: text("mid"),
    spread: text("spread"),
  };
}
"""

Row = tuple[Decimal, Decimal, Decimal]
Level = tuple[Decimal, Decimal]


@dataclass(frozen=True, slots=True)
class Ladder:
    """The rows of the order book, best first, each price, size and running total.

    Attributes:
        room: How many rows a side there is room for.
    """

    room: int
    bids: list[Row]
    asks: list[Row]
    mid: Decimal
    spread: Decimal


async def read(page: Page) -> Ladder | None:
    """Return the ladder on the screen, None while there is none."""
    seen: dict[str, Any] = await page.evaluate(READ)
    if not seen["bids"] or not seen["asks"]:
        return None
    return Ladder(
        seen["room"],
        [_row(cells) for cells in seen["bids"]],
        [_row(cells) for cells in seen["asks"]],
        _number(seen["mid"]),
        _number(seen["spread"]),
    )


def expected(book: dict[str, Any], rows: int, step: str | None = None) -> Ladder:
    """Return the ladder of the exchange's book, in so many rows a side."""
    bids, asks = _levels(book["b"]), _levels(book["a"])
    (bid, _), (ask, _) = bids[0], asks[0]
    return Ladder(
        rows,
        _running(_joined(bids, step, ROUND_FLOOR), rows),
        _running(_joined(asks, step, ROUND_CEILING), rows),
        (bid + ask) / 2,
        ask - bid,
    )


async def until_exact(
    page: Page, exchange: Control, category: str, topic: str, step: str | None = None
) -> Ladder:
    """Stop the market and return the ladder once it is the exchange's own, number for number."""
    await exchange.do("pause")
    deadline = time.monotonic() + PATIENCE
    while True:
        book = await exchange.do("book", category=category, topic=topic)
        seen = await read(page)
        if seen is not None:
            right = expected(book, seen.room, step)
            if seen == right:
                return seen
        assert time.monotonic() < deadline, f"not the exchange's book: {seen}"
        await asyncio.sleep(0.1)


async def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
    """Return when an awaited condition holds."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.1)


def _levels(pairs: list[list[str]]) -> list[Level]:
    return [(Decimal(price), Decimal(size)) for price, size in pairs]


def _joined(levels: list[Level], step: str | None, rounding: str) -> list[Level]:
    if step is None:
        return levels
    sums: dict[Decimal, Decimal] = {}
    for price, size in levels:
        key = (price / Decimal(step)).to_integral_value(rounding) * Decimal(step)
        sums[key] = sums.get(key, Decimal(0)) + size
    return list(sums.items())


def _running(levels: list[Level], rows: int) -> list[Row]:
    total = Decimal(0)
    found = []
    for price, size in levels[:rows]:
        total += size
        found.append((price, size, total))
    return found


def _row(cells: list[str]) -> Row:
    price, size, total = map(_number, cells)
    return price, size, total


def _number(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))
