"""An order book by Bybit's rules.

Prices and sizes stay the strings that came; `Decimal` orders them, and never a float.
Equal prices may be spelt differently ("1.0", "1.00") and are one level all the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

from relay.bybit.errors import BadFrame, SequenceGap
from relay.bybit.frames import Level

# Exponents, leading zeros, spaces and digits of other scripts, all of which `Decimal` takes, would
# be further spellings of a price, and its key would no longer tell it.
_is_plain = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?").fullmatch


def _check(price: str) -> None:
    if _is_plain(price) is None:
        raise BadFrame(f"expected a decimal price, received {price[:80]!r}")


def _canonical(price: str) -> str:
    """Return the key of a price, whatever its spelling.

    Raises:
        BadFrame: it is not a decimal number.
    """
    _check(price)
    key = price.rstrip("0").rstrip(".") if "." in price else price
    return "0" if key == "-0" else key


def _number(price: str) -> Decimal:
    """Return the value of a price.

    Raises:
        BadFrame: it is not a decimal number.
    """
    _check(price)
    return Decimal(price)


class _SpeltDifferently(Exception):
    """A price has another number of decimals than those before."""


class _Side:
    """One side of a book. The best price is found when asked for, and kept while it lasts.

    Levels are found by the price as it is spelt, which holds as long as all prices have the same
    number of decimals, as they do in practice; the first that has not turns all keys canonical.
    Few objects matter here: with thousands of books, memory that is not in the processor's cache
    costs more than the work.
    """

    __slots__ = ("_best", "_is_bid", "_levels", "_point", "_spellings")

    def __init__(self, *, is_bid: bool) -> None:
        self._is_bid = is_bid
        self._levels: dict[str, str] = {}  # price -> size
        self._best: Decimal | None = None
        self._point: int | None = None  # index of the point in all prices, from the end; 0: none
        self._spellings: dict[str, str] | None = None  # canonical price -> price, once they differ

    def replace(self, levels: Sequence[Level]) -> None:
        self._levels = {}
        self._best = None
        self._point = None
        self._spellings = None
        self.amend(levels)

    def amend(self, levels: Sequence[Level]) -> None:
        if self._spellings is None and levels:
            try:
                self._amend_alike(levels)
                return
            except (IndexError, _SpeltDifferently):  # to do all again does no harm
                self._spellings = {_canonical(price): price for price in self._levels}
                self._levels = {_canonical(price): size for price, size in self._levels.items()}
        if self._spellings is not None:
            self._amend_canonical(levels, self._spellings)

    def _amend_alike(self, levels: Sequence[Level]) -> None:
        """Amend while all prices have the same number of decimals; most of what a message costs."""
        held, best = self._levels, self._best
        if self._point is None:
            price = levels[0][0]
            self._point = price.find(".") - len(price) if "." in price else 0
        point = self._point
        if not point and any("." in price for price, _ in levels):
            raise _SpeltDifferently
        for price, size in levels:
            if point and price[point] != ".":
                raise _SpeltDifferently
            if size != "0" and (size[0] != "0" or size.strip("0.")):
                if price not in held:
                    if price < "0":  # "-0" is another spelling of "0"
                        raise _SpeltDifferently
                    if best is not None:
                        number = _number(price)
                        if (number > best) if self._is_bid else (number < best):
                            best = number
                held[price] = size
            elif held.pop(price, None) is None:
                if price < "0":
                    raise _SpeltDifferently
            elif best is not None and _number(price) == best:
                best = None
        self._best = best

    def _amend_canonical(self, levels: Sequence[Level], spellings: dict[str, str]) -> None:
        """Amend whatever the spelling; `spellings` has the levels that are held, and no others."""
        self._best = None
        for price, size in levels:
            key = _canonical(price)
            if size.strip("0."):
                self._levels[key] = size
                spellings[key] = price
            else:
                self._levels.pop(key, None)
                spellings.pop(key, None)

    def best(self) -> Decimal | None:
        if self._best is None and self._levels:
            numbers = map(_number, self._levels)
            self._best = max(numbers) if self._is_bid else min(numbers)
        return self._best

    def __len__(self) -> int:
        return len(self._levels)

    def sorted(self, depth: int) -> list[Level]:
        spellings = self._spellings
        levels = [
            (price if spellings is None else spellings[price], size)
            for price, size in self._levels.items()
        ]
        levels.sort(key=lambda level: _number(level[0]), reverse=self._is_bid)
        return levels[:depth]


class OrderBook:
    """The levels of one symbol.

    Attributes:
        update_id: Bybit's `u` of the last message folded in; 0 before the first.
    """

    __slots__ = ("_asks", "_bids", "update_id")

    def __init__(self) -> None:
        self._bids = _Side(is_bid=True)
        self._asks = _Side(is_bid=False)
        self.update_id = 0

    def replace(self, bids: Sequence[Level], asks: Sequence[Level], update_id: int) -> None:
        """Start over from a snapshot; nothing of the old book stays."""
        self._bids.replace(bids)
        self._asks.replace(asks)
        self.update_id = update_id

    def amend(self, bids: Sequence[Level], asks: Sequence[Level], update_id: int) -> None:
        """Fold one delta into the book.

        Args:
            bids: Changed levels as (price, size) decimal strings, in quote and base units;
                size "0" deletes the level.
            asks: The same for the other side.
            update_id: Bybit's `u` of this message.

        Raises:
            SequenceGap: `update_id` does not follow the last one.

        Source: Bybit v5 docs, WebSocket, Public, Orderbook.
        """
        if update_id != self.update_id + 1:
            raise SequenceGap(self.update_id + 1, update_id)
        self._bids.amend(bids)
        self._asks.amend(asks)
        self.update_id = update_id

    def size(self) -> int:
        """Return how many levels the longer side has."""
        return max(len(self._bids), len(self._asks))

    def is_crossed(self) -> bool:
        """Whether the best bid is at least the best ask.

        Raises:
            BadFrame: a price is not a decimal number.
        """
        bid, ask = self._bids.best(), self._asks.best()
        return bid is not None and ask is not None and bid >= ask

    def levels(self, depth: int) -> tuple[list[Level], list[Level]]:
        """Return the best `depth` bids, falling, and asks, rising."""
        return self._bids.sorted(depth), self._asks.sorted(depth)
