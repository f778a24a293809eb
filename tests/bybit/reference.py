"""The rules of Bybit's page in twenty lines that know nothing of the relay."""

from __future__ import annotations

from decimal import Decimal

Rows = list[tuple[str, str]]


class Reference:
    """The rules of Bybit's page, with a Decimal as the key of a level."""

    def __init__(self) -> None:
        self.sides: tuple[dict[Decimal, tuple[str, str]], ...] = ({}, {})

    def apply(self, kind: str, bids: Rows, asks: Rows) -> None:
        if kind == "snapshot":
            self.sides = ({}, {})
        for side, rows in zip(self.sides, (bids, asks), strict=True):
            for price, size in rows:
                if Decimal(size) == 0:
                    side.pop(Decimal(price), None)
                else:
                    side[Decimal(price)] = (price, size)

    def levels(self, depth: int) -> tuple[Rows, Rows]:
        bids, asks = self.sides
        falling = [bids[price] for price in sorted(bids, reverse=True)]
        return falling[:depth], [asks[price] for price in sorted(asks)][:depth]

    def is_crossed(self) -> bool:
        bids, asks = self.sides
        return bool(bids) and bool(asks) and max(bids) >= min(asks)
