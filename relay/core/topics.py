"""What a client can follow: one feed of one symbol in one category.

A topic is unique only together with its category, because spot and linear share symbols.
It is written in three ways, all made here: Bybit's text (`orderbook.50.BTCUSDT`), the
channel-layer group (`marketfeed.linear.orderbook.50.BTCUSDT`), and on a command line
(`linear:orderbook.50.BTCUSDT`).

The relay checks the grammar of a topic. Which symbols exist is the exchange's decision.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from enum import StrEnum

from relay.core.errors import Code, Refusal


class Category(StrEnum):
    """Bybit's product types; each has a socket of its own."""

    SPOT = "spot"
    LINEAR = "linear"
    INVERSE = "inverse"
    OPTION = "option"


class Feed(StrEnum):
    """The kinds of topic this relay carries, in Bybit's words."""

    ORDERBOOK = "orderbook"
    TRADES = "publicTrade"
    TICKERS = "tickers"


_FUTURES_DEPTHS = (1, 50, 200, 500, 1000)  # 500 was retired in 2025 and lives on in recordings
DEPTHS: dict[Category, tuple[int, ...]] = {
    Category.SPOT: _FUTURES_DEPTHS,
    Category.LINEAR: _FUTURES_DEPTHS,
    Category.INVERSE: _FUTURES_DEPTHS,
    Category.OPTION: (25, 100),
}
"""Allowed order book depths. Source: Bybit v5 docs, WebSocket, Public, Orderbook."""

DEFAULT_DEPTH: dict[Category, int] = {
    Category.SPOT: 50,
    Category.LINEAR: 50,
    Category.INVERSE: 50,
    Category.OPTION: 100,
}

# Bybit's symbols: XRP-30OCT26-0.4-P-USDT is an option with a fractional strike,
# SOLUSDT_SOL/USDT a spread.
_SYMBOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,59}", re.ASCII)
_FEEDS = {feed.value: feed for feed in Feed}
_SHOWN = 80  # characters of what a client sent that are repeated to it or to a log


def shown(text: str) -> str:
    """Return what may be repeated of a client's words: at most 80 characters."""
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


@dataclass(frozen=True, slots=True)
class Topic:
    """One stream of messages of the exchange. Cheap to hash, whole to compare.

    Attributes:
        depth: Levels a side, for order books alone; else None.
        text: As Bybit writes it, such as `orderbook.50.BTCUSDT`.
        group: Its channel-layer group, `[A-Za-z0-9._-]` and under 100 characters. No other topic
            has the same one.
    """

    category: Category
    feed: Feed
    symbol: str
    depth: int | None = None
    text: str = field(init=False, compare=False, repr=False)
    group: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if _SYMBOL.fullmatch(self.symbol) is None:
            raise Refusal(Code.BAD_SYMBOL, f"bad symbol: {shown(self.symbol)}")
        if self.feed is Feed.ORDERBOOK:
            if self.depth not in DEPTHS[self.category]:
                allowed = ", ".join(map(str, DEPTHS[self.category]))
                raise Refusal(
                    Code.BAD_LEVELS,
                    f"bad levels: {shown(str(self.depth))}; {self.category} has {allowed}",
                )
            text = f"{self.feed}.{self.depth}.{self.symbol}"
        else:
            text = f"{self.feed}.{self.symbol}"
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "group", f"marketfeed.{self.category}.{_group_suffix(text)}")

    def __hash__(self) -> int:
        return hash(self.group)

    def __str__(self) -> str:
        return f"{self.category}:{self.text}"

    @property
    def is_amended(self) -> bool:
        """Whether messages of this topic build upon the ones before them."""
        if self.feed is Feed.ORDERBOOK:
            return self.depth != 1
        return self.feed is Feed.TICKERS and self.category is not Category.SPOT

    @classmethod
    def parse(cls, category: Category, text: str) -> Topic:
        """Return the topic that Bybit writes as `text` on the socket of `category`.

        Raises:
            Refusal: `unknown_topic`, `bad_levels` or `bad_symbol`.
        """
        name, digits, symbol = split_text(text)
        feed = _FEEDS.get(name)
        if feed is None or symbol is None:
            raise Refusal(Code.UNKNOWN_TOPIC, f"unknown topic: {shown(text)}")
        if feed is not Feed.ORDERBOOK:
            return cls(category, feed, symbol)
        # Only plain decimals: int() would also take "0050", "5_0" and digits of other scripts.
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 4) or digits[0] == "0":
            raise Refusal(Code.BAD_LEVELS, f"bad levels: {shown(digits)}")
        return cls(category, feed, symbol, int(digits))

    @classmethod
    def parse_qualified(cls, text: str, default: Category = Category.LINEAR) -> Topic:
        """Return the topic written as on a command line: `spot:orderbook.50.BTCUSDT`.

        Raises:
            Refusal: As `parse`, and `bad_category`.
        """
        name, colon, rest = text.partition(":")
        return cls.parse(parse_category(name), rest) if colon else cls.parse(default, text)


def split_text(text: str) -> tuple[str, str, str | None]:
    """Return the feed, the depth ("" except for order books) and the symbol of a topic's text.

    The text is split at its first dots only, because a symbol may contain dots. Nothing is
    checked; the symbol is None where the text has too few dots to name one.
    """
    feed, _, rest = text.partition(".")
    if feed != Feed.ORDERBOOK:
        return feed, "", rest or None
    depth, dot, symbol = rest.partition(".")
    return feed, depth, symbol if dot else None


def _group_suffix(text: str) -> str:
    """Return a topic's text in the characters that Channels allows in a group.

    A text that holds others becomes a digest behind "_", with which no feed begins. Escaped
    character by character, it could exceed the 99 characters of a group.
    """
    if "/" not in text:
        return text
    return "_" + hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


def parse_category(text: str) -> Category:
    """Return the category of that name.

    Raises:
        Refusal: `bad_category`.
    """
    try:
        return Category(text)
    except ValueError:
        raise Refusal(Code.BAD_CATEGORY, f"bad category: {shown(text)}") from None
