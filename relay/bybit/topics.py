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
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto

from relay.bybit.errors import Code, Refusal


class Category(StrEnum):
    """Bybit's product types; each has a socket of its own."""

    SPOT = "spot"
    LINEAR = "linear"
    INVERSE = "inverse"
    OPTION = "option"


class Kind(Enum):
    """What the messages of a topic make up, and so what greets a late reader."""

    AMENDED = auto()  # a snapshot of price levels, then deltas that amend it
    MERGED = auto()  # a snapshot of fields, then deltas that say which of them changed
    REPLACED = auto()  # every message is the whole state
    CLOSING = auto()  # the same, but a state that is closed must reach every reader
    EVENTS = auto()  # rows of what happened; they have no state


class Shape(Enum):
    """What the `data` of a message looks like, and so how it is read and drawn."""

    LEVELS = auto()  # one object: price levels of both sides
    FIELDS = auto()  # one object: fields by name
    TRADES = auto()  # a list of trades
    CANDLES = auto()  # a list of candles, one as a rule
    ROWS = auto()  # a list of other rows


@dataclass(frozen=True, slots=True, eq=False)
class FeedSpec:
    """One row of the table of feeds.

    Attributes:
        name: What stands before the first dot of a topic, in Bybit's words.
        parameters: What may stand between the name and the symbol, by category; a category that
            is missing does not have the feed. `NO_PARAMETER` where nothing stands there.
        key: The native dialect's key for the parameter; empty if there is none.
        defaults: The parameter that a native request without `key` means, by category; where
            there is none the request is refused.
        is_numeric: Whether native requests write a parameter of digits as a number alone.
        bad_parameter: The code of a refusal of a parameter that is not among these.
        shape: Of the `data` of its messages.
        kind: Of most topics.
        kinds: Of the topics that differ, by category and parameter.
        by_coin: Categories in which the symbol is a coin, or another group of instruments,
            instead of one.
        generated: Whether messages that the relay makes of rows say so, with `"generated":true`:
            where the exchange never sends again what was.
    """

    name: str
    parameters: Mapping[Category, tuple[str, ...]]
    shape: Shape
    kind: Kind
    kinds: Mapping[tuple[Category, str], Kind] = field(default_factory=dict)
    key: str = ""
    defaults: Mapping[Category, str] = field(default_factory=dict)
    is_numeric: bool = False
    bad_parameter: Code = Code.BAD_REQUEST
    by_coin: frozenset[Category] = frozenset()
    generated: bool = False

    def kind_of(self, category: Category, parameter: str) -> Kind:
        """Return what the messages of such a topic make up."""
        return self.kinds.get((category, parameter), self.kind)

    def check(self, category: Category, parameter: str) -> None:
        """Refuse a parameter that this feed does not have in a category.

        Raises:
            Refusal: `unknown_topic` if the category lacks the feed, else `bad_parameter`.
        """
        allowed = self.parameters.get(category)
        if allowed is None:
            raise Refusal(Code.UNKNOWN_TOPIC, f"unknown topic: {category} has no {self.name}")
        if parameter not in allowed:
            raise Refusal(self.bad_parameter, self.words(category, parameter))

    def words(self, category: Category, parameter: str) -> str:
        """Say of a parameter, as it was written, that a category does not have it."""
        known = ", ".join(self.parameters.get(category, ()))
        return f"bad {self.key}: {truncate(parameter)}; {category} has {known}"


NO_PARAMETER = ("",)
# Depth 500 was retired in 2025 and lives on in recordings.
_DEPTHS: dict[Category, tuple[str, ...]] = {
    **dict.fromkeys(Category, ("1", "50", "200", "500", "1000")),
    Category.OPTION: ("25", "100"),
}

ORDERBOOK = FeedSpec(
    name="orderbook",
    parameters=_DEPTHS,
    key="levels",
    defaults={**dict.fromkeys(Category, "50"), Category.OPTION: "100"},
    is_numeric=True,
    bad_parameter=Code.BAD_LEVELS,
    shape=Shape.LEVELS,
    kind=Kind.AMENDED,
    kinds={(category, "1"): Kind.REPLACED for category in Category},
)
TRADES = FeedSpec(
    name="publicTrade",
    parameters=dict.fromkeys(Category, NO_PARAMETER),
    shape=Shape.TRADES,
    kind=Kind.EVENTS,
    by_coin=frozenset({Category.OPTION}),
)
TICKERS = FeedSpec(
    name="tickers",
    parameters=dict.fromkeys(Category, NO_PARAMETER),
    shape=Shape.FIELDS,
    kind=Kind.MERGED,
    kinds={(Category.SPOT, ""): Kind.REPLACED},
)
_INTERVALS = ("1", "3", "5", "15", "30", "60", "120", "240", "360", "720", "D", "W", "M")
CANDLES = FeedSpec(
    name="kline",
    # Option acknowledges candles and never sends one.
    parameters=dict.fromkeys((Category.SPOT, Category.LINEAR, Category.INVERSE), _INTERVALS),
    key="interval",
    shape=Shape.CANDLES,
    kind=Kind.CLOSING,
)
_CONTRACTS = (Category.LINEAR, Category.INVERSE)
LIQUIDATIONS = FeedSpec(
    name="allLiquidation",
    parameters=dict.fromkeys(_CONTRACTS, NO_PARAMETER),
    shape=Shape.ROWS,
    kind=Kind.EVENTS,
    generated=True,
)
PRICE_LIMITS = FeedSpec(
    name="priceLimit",
    parameters=dict.fromkeys((Category.SPOT, *_CONTRACTS), NO_PARAMETER),
    shape=Shape.FIELDS,
    kind=Kind.REPLACED,
)
INSURANCE = FeedSpec(
    name="insurance",
    parameters=dict.fromkeys(_CONTRACTS, NO_PARAMETER),
    shape=Shape.ROWS,
    kind=Kind.MERGED,
    by_coin=frozenset(_CONTRACTS),
)
ADL_ALERTS = FeedSpec(
    name="adlAlert",
    parameters=dict.fromkeys(_CONTRACTS, NO_PARAMETER),
    shape=Shape.ROWS,
    kind=Kind.REPLACED,
    by_coin=frozenset(_CONTRACTS),
)
FEEDS: dict[str, FeedSpec] = {
    feed.name: feed
    for feed in (
        *(ORDERBOOK, TRADES, TICKERS, CANDLES),
        *(LIQUIDATIONS, PRICE_LIMITS, INSURANCE, ADL_ALERTS),
    )
}
"""The feeds that this relay carries, by name. Source: Bybit v5 docs, WebSocket, Public."""

# Bybit's symbols: XRP-30OCT26-0.4-P-USDT is an option with a fractional strike,
# SOLUSDT_SOL/USDT a spread.
_SYMBOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,59}", re.ASCII)
_SHOWN = 80  # characters of what a client sent that are repeated to it or to a log


def truncate(text: str) -> str:
    """Return what may be repeated of a client's words: at most 80 characters."""
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


@dataclass(frozen=True, slots=True)
class Topic:
    """One stream of messages of the exchange. Cheap to hash, whole to compare.

    Attributes:
        parameter: What stands between feed and symbol, such as a book's depth; empty if nothing.
        text: As Bybit writes it, such as `orderbook.50.BTCUSDT`.
        group: Its channel-layer group, `[A-Za-z0-9._-]` and under 100 characters. No other topic
            has the same one.
        kind: What its messages make up.
    """

    category: Category
    feed: FeedSpec
    symbol: str
    parameter: str = ""
    text: str = field(init=False, compare=False, repr=False)
    group: str = field(init=False, compare=False, repr=False)
    kind: Kind = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if _SYMBOL.fullmatch(self.symbol) is None:
            raise Refusal(Code.BAD_SYMBOL, f"bad symbol: {truncate(self.symbol)}")
        self.feed.check(self.category, self.parameter)
        parts = (self.feed.name, self.parameter, self.symbol)
        text = ".".join(part for part in parts if part)
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "group", f"marketfeed.{self.category}.{_group_suffix(text)}")
        object.__setattr__(self, "kind", self.feed.kind_of(self.category, self.parameter))

    def __hash__(self) -> int:
        return hash(self.group)

    def __str__(self) -> str:
        return f"{self.category}:{self.text}"

    @property
    def native_parameter(self) -> int | str:
        """The parameter as a native request writes it: a depth is a number."""
        is_number = self.feed.is_numeric and self.parameter.isdigit()
        return int(self.parameter) if is_number else self.parameter

    @property
    def is_amended(self) -> bool:
        """Whether messages of this topic build upon the ones before them."""
        return self.kind in (Kind.AMENDED, Kind.MERGED)

    @property
    def is_events(self) -> bool:
        """Whether its messages are rows of what happened: counted one by one, never outdated."""
        return self.kind is Kind.EVENTS

    @property
    def has_history(self) -> bool:
        """Whether what was missed is not made up for by what follows: rows, or closed candles."""
        return self.kind in (Kind.EVENTS, Kind.CLOSING)

    @classmethod
    def parse(cls, category: Category, text: str) -> Topic:
        """Return the topic that Bybit writes as `text` on the socket of `category`.

        Raises:
            Refusal: `unknown_topic`, `bad_symbol`, or what the feed says of a bad parameter.
        """
        name, parameter, symbol = split_text(text)
        feed = FEEDS.get(name)
        if feed is None or symbol is None:
            raise Refusal(Code.UNKNOWN_TOPIC, f"unknown topic: {truncate(text)}")
        feed.check(category, parameter)  # before the symbol, as the text is read
        return cls(category, feed, symbol, parameter)

    @classmethod
    def parse_qualified(cls, text: str, default: Category = Category.LINEAR) -> Topic:
        """Return the topic written as on a command line: `spot:orderbook.50.BTCUSDT`.

        Raises:
            Refusal: As `parse`, and `bad_category`.
        """
        name, colon, rest = text.partition(":")
        return cls.parse(parse_category(name), rest) if colon else cls.parse(default, text)


def split_text(text: str) -> tuple[str, str, str | None]:
    """Return the feed, the parameter ("" where the feed has none) and the symbol of a topic's text.

    The text is split at its first dots only, because a symbol may contain dots. Nothing is
    checked; the symbol is None where the text has too few dots to name one.
    """
    name, _, rest = text.partition(".")
    feed = FEEDS.get(name)
    if feed is None or not feed.key:
        return name, "", rest or None
    parameter, dot, symbol = rest.partition(".")
    return name, parameter, symbol if dot else None


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
        raise Refusal(Code.BAD_CATEGORY, f"bad category: {truncate(text)}") from None
