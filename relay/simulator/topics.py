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
    CANDLES = "kline"
    LIQUIDATIONS = "allLiquidation"
    PRICE_LIMITS = "priceLimit"
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

_MINUTE = 60_000  # ms
INTERVALS: dict[str, int] = {
    **{f"{n}": n * _MINUTE for n in (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)},
    "D": 1440 * _MINUTE,
    "W": 7 * 1440 * _MINUTE,
}
"""The lengths of candles in ms, by Bybit's name; the simulator has no candles of a month."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One stream of messages.

    Attributes:
        depth: Levels a side, for order books alone; else None.
        interval: Bybit's name of a candle's length, for candles alone; else None.
        text: As a client writes it, such as `orderbook.50.BTCUSDT`.
    """

    category: Category
    feed: Feed
    symbol: str
    depth: int | None = None
    interval: str | None = None
    text: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        parameter = self.interval if self.depth is None else self.depth
        parts = (
            (self.feed, self.symbol) if parameter is None else (self.feed, parameter, self.symbol)
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
        match name:
            case Feed.ORDERBOOK:
                for depth in DEPTHS[category]:
                    symbol = rest.removeprefix(f"{depth}.")
                    if symbol and symbol != rest:
                        return cls(category, Feed.ORDERBOOK, symbol, depth=depth)
                return None
            case Feed.CANDLES:
                interval, _, symbol = rest.partition(".")
                has_candles = category is not Category.OPTION and interval in INTERVALS
                known = cls(category, Feed.CANDLES, symbol, interval=interval)
                return known if has_candles and symbol else None
            case Feed.LIQUIDATIONS:
                is_had = category in (Category.LINEAR, Category.INVERSE) and rest
                return cls(category, Feed.LIQUIDATIONS, rest) if is_had else None
            case Feed.PRICE_LIMITS:
                is_had = category is not Category.OPTION and rest
                return cls(category, Feed.PRICE_LIMITS, rest) if is_had else None
            case Feed.TRADES | Feed.TICKERS:
                return cls(category, Feed(name), rest) if rest else None
            case _:
                return None
