"""Bybit's rules for whoever follows a topic, written from its documentation alone.

Shares nothing with the relay: it is what the relay is compared with. Prices are compared as
decimals. A reader here is as strict as the strictest client: it holds every breach of the rules
against the sender. Source: `bybit-v5-public.md`, sections 4 to 7.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

Sides = tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]


class Breach(AssertionError):
    """A message that a client of Bybit must never be sent."""


class Book:
    """An order book; `history` holds it as it was after each `u`.

    On linear and inverse Bybit greets with an older snapshot and the deltas since, so that who
    is subscribed anew may be set back: where that can happen, `setback` says by how many `u`.
    `may_cross` is for those to whom the exchange publishes the two sides of a book apart.
    """

    setback = 0
    may_cross = False

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.sides: Sides = ({}, {})
        self.u: int | None = None
        self.seq = -1
        self.history: dict[int, Sides] = {}

    @property
    def position(self) -> int | None:
        return self.u

    def apply(self, body: dict[str, Any]) -> None:
        data = body["data"]
        u, seq = data["u"], data.get("seq", self.seq)
        starts = body["type"] == "snapshot" or u == 1
        if not starts and self.u is None:
            raise Breach(f"a delta with u {u} before the snapshot")
        if not starts and self.depth > 1 and u != (self.u or 0) + 1:
            raise Breach(f"u {u} follows {self.u}")
        is_set_back = body["type"] == "snapshot" and u >= (self.u or 0) - self.setback
        if seq < self.seq and not (self.setback and is_set_back):
            raise Breach(f"seq went back from {self.seq} to {seq}")
        if starts:
            self._check_snapshot(data)
            self.sides = ({}, {})
        for side, levels in zip(self.sides, (data["b"], data["a"]), strict=True):
            for price, size in levels:
                key, amount = Decimal(price), Decimal(size)
                if amount:
                    side[key] = amount
                elif side.pop(key, None) is None:
                    raise Breach(f"u {u} deletes {price}, which is not in the book")
        self.u, self.seq = u, seq
        has_sides = self.sides[0] and self.sides[1]
        if has_sides and not self.may_cross and max(self.sides[0]) >= min(self.sides[1]):
            raise Breach(f"crossed at u {u}")
        self.history[u] = (dict(self.sides[0]), dict(self.sides[1]))

    def _check_snapshot(self, data: dict[str, Any]) -> None:
        bids, asks = ([Decimal(price) for price, _ in data[side]] for side in "ba")
        if bids != sorted(bids, reverse=True) or asks != sorted(asks):
            raise Breach("a snapshot that is not sorted from the best price on")
        if max(len(bids), len(asks)) > self.depth:
            raise Breach(f"{len(bids)} bids and {len(asks)} asks in a book of {self.depth}")


class Ticker:
    """A ticker; on spot and option every message is the whole. `setback`: as with `Book`."""

    setback = 0

    def __init__(self) -> None:
        self.fields: dict[str, Any] | None = None
        self.cs = -1
        self.history: dict[int, dict[str, Any]] = {}

    @property
    def position(self) -> int | None:
        return None if self.fields is None else self.cs

    def apply(self, body: dict[str, Any]) -> None:
        cs = body.get("cs", self.cs + 1)
        if body["type"] == "snapshot":
            self.fields = {}
        elif self.fields is None:
            raise Breach("a ticker delta before the snapshot")
        if cs < self.cs and not (self.setback and body["type"] == "snapshot"):
            raise Breach(f"cs went back from {self.cs} to {cs}")
        self.fields = self.fields | body["data"]
        self.cs = cs
        self.history[cs] = self.fields


class Trades:
    """The trades of a topic, each once."""

    def __init__(self) -> None:
        self.ids: dict[str, None] = {}

    @property
    def position(self) -> int | None:
        return len(self.ids) or None

    def apply(self, body: dict[str, Any]) -> None:
        if body["type"] != "snapshot":
            raise Breach("trades are always of type snapshot")
        for row in body["data"]:
            if row["i"] in self.ids:
                raise Breach(f"trade {row['i']} came twice")
            self.ids[row["i"]] = None


class Candles:
    """The candles of a topic by their start: each message replaces one, and closes it once."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, Any]] = {}

    @property
    def position(self) -> int | None:
        return len(self.rows) or None

    def apply(self, body: dict[str, Any]) -> None:
        for row in body["data"]:
            held = self.rows.get(row["start"])
            if held is None and self.rows and row["start"] < max(self.rows):
                raise Breach(f"candle {row['start']} after a later one")
            if held is not None and held["confirm"]:
                raise Breach(f"candle {row['start']} moves after it has closed")
            self.rows[row["start"]] = row


class Messages:
    """A feed whose messages are only counted."""

    def __init__(self) -> None:
        self.count = 0

    @property
    def position(self) -> int | None:
        return self.count or None

    def apply(self, body: dict[str, Any]) -> None:
        self.count += 1


class Follower:
    """One topic as one reader got it: every message, and what they add up to."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.texts: list[str] = []
        self.types: list[str] = []
        feed, *rest = topic.split(".", 2)
        self.state: Book | Ticker | Trades | Candles | Messages
        if feed == "orderbook":
            self.state = Book(int(rest[0]))
        elif feed == "kline":
            self.state = Candles()
        elif feed in ("tickers", "publicTrade"):
            self.state = Ticker() if feed == "tickers" else Trades()
        else:
            self.state = Messages()

    def take(self, text: str, body: dict[str, Any]) -> None:
        self.texts.append(text)
        self.types.append(body.get("type", ""))
        try:
            self.state.apply(body)
        except Breach as breach:
            raise Breach(f"{self.topic}, message {len(self.texts)}: {breach}") from None

    @property
    def position(self) -> int | None:
        """`u` of a book, `cs` of a ticker, a number of trades or candles; None at first."""
        return self.state.position


def follow(topic: str, texts: list[str]) -> Follower:
    """Return a reader that was sent `texts`."""
    follower = Follower(topic)
    for text in texts:
        follower.take(text, json.loads(text))
    return follower


def levels(pairs: list[list[str]]) -> dict[Decimal, Decimal]:
    """Return one side of a book from the pairs that a message writes."""
    return {Decimal(price): Decimal(size) for price, size in pairs}
