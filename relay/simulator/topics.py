"""The topics of the simulated exchange.

The simulator has a grammar of its own: if it shared the relay's, a topic that the relay
misreads would be misread by both and no test would notice.
Source: Bybit v5 docs, WebSocket, Public.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Category(StrEnum):
    """The product types; each has a socket of its own."""

    SPOT = "spot"
    LINEAR = "linear"
    INVERSE = "inverse"
    OPTION = "option"


class Feed(StrEnum):
    """The kinds of topic that the simulator sends."""

    TRADES = "publicTrade"
    ORDERBOOK = "orderbook"
    TICKERS = "tickers"


_DEPTHS = (1, 50, 200, 500, 1000)  # 500 was retired in 2025 and lives on in recordings
DEPTHS: dict[Category, tuple[int, ...]] = {
    Category.SPOT: _DEPTHS,
    Category.LINEAR: _DEPTHS,
    Category.INVERSE: _DEPTHS,
    Category.OPTION: (25, 100),
}
"""The depths of order book topics, by category."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One stream of messages.

    Attributes:
        depth: Levels a side, for order books alone; else None.
        text: As a client writes it, such as `orderbook.50.BTCUSDT`.
    """

    category: Category
    feed: Feed
    symbol: str
    depth: int | None = None
    text: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        parts = (
            (self.feed, self.symbol) if self.depth is None else (self.feed, self.depth, self.symbol)
        )
        object.__setattr__(self, "text", ".".join(map(str, parts)))

    def __str__(self) -> str:
        return f"{self.category}:{self.text}"

    @classmethod
    def parse(cls, category: Category, text: str) -> Topic | None:
        """Return the topic that a client writes as `text`; None if no topic is written so.

        Whether the symbol is listed is not known here.
        """
        name, _, rest = text.partition(".")
        if name != Feed.ORDERBOOK:
            return cls(category, Feed(name), rest) if name in set(Feed) and rest else None
        for depth in DEPTHS[category]:
            symbol = rest.removeprefix(f"{depth}.")
            if symbol and symbol != rest:
                return cls(category, Feed.ORDERBOOK, symbol, depth)
        return None
