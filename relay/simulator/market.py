"""A market of one symbol that moves by itself, the same way for the same seed.

It works as a matching engine does: orders are placed, changed and cancelled on a deep book,
and a taker's order eats the best levels and leaves trades at their prices. Every symbol has
its own random numbers, so what it does never depends on what else is looked at. No clock,
no socket: the time is a parameter.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass, replace
from itertools import accumulate
from random import Random

from relay.simulator.instruments import Instrument
from relay.simulator.topics import DEPTHS

WARM_UP = 3  # steps taken before the market is first shown, so that it has a past
SPARE = 200  # levels a side may outgrow its instrument by before its far end is cut
TAKER_CHANCE = 0.3  # of a step to end with a taker's order
DRIFT_LIMIT = 0.02  # of the starting price: at this distance every taker pushes back
MINUTE = 60_000  # ms
MINUTES_KEPT = 8 * 24 * 60  # minute bars: the longest candle, a week, and a day
LEAST_CHANGED_RANK = 25  # every step changes a level that even the shallowest deep topic shows


class Side:
    """One side of a book.

    A key is a price in ticks, negated on the bid side, so that the best level always sorts
    first and both sides share their code.

    Attributes:
        keys: Sorted, best first.
        sizes: By key, in units.
        before: The sizes that the current step changed, as they were before it (0: none).
    """

    __slots__ = ("before", "keys", "sizes")

    def __init__(self) -> None:
        self.keys: list[int] = []
        self.sizes: dict[int, int] = {}
        self.before: dict[int, int] = {}

    def put(self, key: int, size: int) -> None:
        """Set the size at a price; 0 removes the level."""
        old = self.sizes.get(key, 0)
        self.before.setdefault(key, old)
        if size:
            if not old:
                insort(self.keys, key)
            self.sizes[key] = size
        elif old:
            del self.sizes[key]
            del self.keys[bisect_left(self.keys, key)]

    def earlier(self, depth: int) -> dict[int, int]:
        """Return the best `depth` levels as they were before the current step."""
        changed = self.before
        near = [key for key in self.keys[: depth + len(changed)] if key not in changed]
        near += [key for key, size in changed.items() if size]
        near.sort()
        sizes = self.sizes
        return {key: changed[key] if key in changed else sizes[key] for key in near[:depth]}


@dataclass(frozen=True, slots=True)
class Trade:
    """One fill, in units; `direction` is Bybit's tick direction."""

    trade_id: int
    buys: bool
    price: int
    size: int
    direction: str
    is_rpi: bool


@dataclass(slots=True)
class Bar:
    """What was traded in a stretch of time, in units; `turnover` in units of price and size.

    Attributes:
        start: Unix ms.
        traded_at: When the last trade was matched, Unix ms; `start` if there was none.
    """

    start: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    turnover: int
    traded_at: int

    @classmethod
    def flat(cls, start: int, price: int) -> Bar:
        """Return a bar in which nothing has been traded yet: it opens where the last one closed."""
        return cls(start, price, price, price, price, 0, 0, start)

    def add(self, price: int, size: int, at: int) -> None:
        """Count one trade."""
        self.high, self.low = max(self.high, price), min(self.low, price)
        self.close = price
        self.volume += size
        self.turnover += price * size
        self.traded_at = at


@dataclass(frozen=True, slots=True)
class Moment:
    """When a state held: cross sequence, time of sending and of matching in Unix ms."""

    seq: int
    ts: int
    cts: int


class SymbolMarket:
    """The book, the trades and the day's figures of one symbol.

    Attributes:
        steps: How often it has moved; whatever it shows is a function of the seed and this.
        now: The moment of the last step; `earlier`, of the one before.
        trades: What the last step traded, all of them with the sequence of that step.
        origins: By depth, the update id that depth would have had at step 0.
        minutes: The last bars of a minute each, without a gap; the last one is open.
        best_changed: When the best bid or ask last changed; `best_u` counts those changes.
    """

    def __init__(self, instrument: Instrument, seed: int, now_ms: int) -> None:
        self.instrument = instrument
        self._random = Random(f"{seed}:{instrument.category}:{instrument.symbol}")
        randrange = self._random.randrange
        self.steps = 0
        self.bids, self.asks = Side(), Side()
        self.trades: list[Trade] = []
        self._open(self.bids, 1 - instrument.price)
        self._open(self.asks, instrument.price + 1)
        opened = now_ms - 100 * (WARM_UP + 1)
        self.now = Moment(randrange(10**10, 10**12), opened, opened)
        self.earlier = self.now
        self.origins = {depth: randrange(10**6, 10**8) for depth in DEPTHS[instrument.category]}
        self.best_u = randrange(10**6, 10**8)
        self.best_changed = self.now
        self._trade_id = 2290000000000000000 + randrange(10**12)
        self._skew = 0
        self._day(instrument)
        self.minutes: deque[Bar] = deque(
            [Bar.flat(opened - opened % MINUTE, self.last_price)], maxlen=MINUTES_KEPT
        )
        for n in range(WARM_UP):
            self.step(opened + 100 * (n + 1))

    def _day(self, instrument: Instrument) -> None:
        """Invent the figures that a real market would have gathered before now."""
        ticks, tick = instrument.price, instrument.tick
        price = ticks * tick
        self.last_price, self.last_direction = price, "ZeroPlusTick"
        self.high_price, self.low_price = ticks * 102 // 100 * tick, ticks * 97 // 100 * tick
        self.price_day_ago = ticks * 98 // 100 * tick
        self.price_hour_ago = ticks * 1001 // 1000 * tick
        self.volume = instrument.size * 150_000
        self.turnover = self.volume * price  # in units of both price and size
        self.open_interest = instrument.size * 60_000

    @property
    def mark_price(self) -> int:
        """The middle of the book and a slow random distance from it, in units."""
        middle = (self.asks.keys[0] - self.bids.keys[0]) // 2 + self._skew
        return middle * self.instrument.tick

    def step(self, now_ms: int) -> None:
        """Let the market move once."""
        random = self._random.random
        self.steps += 1
        self.bids.before.clear()
        self.asks.before.clear()
        self.trades = []
        bids, asks = self.bids, self.asks
        best = (bids.keys[0], bids.sizes[bids.keys[0]], asks.keys[0], asks.sizes[asks.keys[0]])

        now_ms = max(self.now.ts, now_ms)  # a wall clock may be set back
        cts = max(self.now.cts, now_ms - int(random() * 8))
        self.earlier = self.now
        self.now = Moment(self.now.seq + 1 + int(random() * 90), now_ms, cts)
        self._begin_minutes(cts)
        if random() < TAKER_CHANCE:
            self._take()
        self._resize(bids if random() < 0.5 else asks, int(random() * LEAST_CHANGED_RANK))
        for _ in range(int(random() * 5)):
            self._quote(bids if random() < 0.5 else asks)
        room = asks.keys[0] + bids.keys[0] - 1  # free prices inside the spread
        if room and random() < 0.7:
            side = bids if random() < 0.5 else asks
            side.put(side.keys[0] - 1 - int(random() * room / 2), self._size())
        self._skew = max(-20, min(20, self._skew + int(random() * 3) - 1))
        self._fill(bids, bids.keys[-1] + 1)
        self._fill(asks, asks.keys[-1] + 1)
        if best != (bids.keys[0], bids.sizes[bids.keys[0]], asks.keys[0], asks.sizes[asks.keys[0]]):
            self.best_u += 1
            self.best_changed = self.now

    def _begin_minutes(self, cts: int) -> None:
        """Open the minute of `cts`, and flat ones for those in which the market stood still."""
        first = self.minutes[-1].start + MINUTE
        for start in range(max(first, cts - MINUTE * MINUTES_KEPT), cts + 1, MINUTE):
            self.minutes.append(Bar.flat(start - start % MINUTE, self.last_price))

    def bar(self, start: int, end: int) -> Bar | None:
        """Return what was traded from `start` to before `end`, Unix ms; None if it is not kept."""
        found: Bar | None = None
        for minute in reversed(self.minutes):
            if minute.start < start:
                break
            if minute.start >= end:
                continue
            if found is None:
                found = replace(minute)
                continue
            found.start, found.open = minute.start, minute.open
            found.high, found.low = max(found.high, minute.high), min(found.low, minute.low)
            found.volume += minute.volume
            found.turnover += minute.turnover
        return found

    def _size(self) -> int:
        return 1 + int(self._random.expovariate(1.0) * self.instrument.size)

    def _resize(self, side: Side, rank: int) -> None:
        key = side.keys[rank]
        size = self._size()
        side.put(key, size if size != side.sizes[key] else size + 1)

    def _quote(self, side: Side) -> None:
        """Change, place or cancel one order, mostly near the best price."""
        random = self._random.random
        rank = int(random() ** 4 * len(side.keys))
        what = random()
        if what < 0.6:
            self._resize(side, rank)
        elif what < 0.8:
            key = side.keys[rank] + 1
            side.put(key, side.sizes.get(key, 0) + self._size())
        else:
            side.put(side.keys[rank], 0)

    def _take(self) -> None:
        """Let a taker eat into the best levels of one side."""
        instrument = self.instrument
        away = (self.asks.keys[0] - instrument.price) / (instrument.price * DRIFT_LIMIT)
        buys = self._random.random() < 0.5 - away / 2
        side, sign = (self.asks, 1) if buys else (self.bids, -1)
        wanted = self._size()
        for _ in range(8):  # levels at most
            key = side.keys[0]
            there = side.sizes[key]
            size = min(wanted, there)
            side.put(key, there - size)
            self._trade(buys, sign * key * instrument.tick, size)
            wanted -= size
            if not wanted:
                break

    def _trade(self, buys: bool, price: int, size: int) -> None:
        if price > self.last_price:
            self.last_direction = "PlusTick"
        elif price < self.last_price:
            self.last_direction = "MinusTick"
        elif not self.last_direction.startswith("Zero"):
            self.last_direction = "Zero" + self.last_direction
        self.last_price = price
        self.high_price = max(self.high_price, price)
        self.low_price = min(self.low_price, price)
        self.volume += size
        self.turnover += size * price
        self.open_interest += (
            size if self._random.random() < 0.5 else -min(size, self.open_interest)
        )
        self.minutes[-1].add(price, size, self.now.cts)
        self._trade_id += 1
        is_rpi = self._random.random() < 0.02
        self.trades.append(Trade(self._trade_id, buys, price, size, self.last_direction, is_rpi))

    def _open(self, side: Side, best: int) -> None:
        """Lay out a whole side at once: two thousand markets may open in one request."""
        random, levels, size = self._random.random, self.instrument.levels, self.instrument.size
        gaps = self._random.choices((1, 1, 1, 1, 2, 2, 3), k=levels - 1)
        side.keys = list(accumulate(gaps, initial=best))
        side.sizes = {key: 1 + int(random() ** 3 * 5 * size) for key in side.keys}

    def _fill(self, side: Side, key: int) -> None:
        """Keep the side deep enough, from `key` outwards, and not much deeper."""
        random, levels = self._random.random, self.instrument.levels
        while len(side.keys) < levels:
            side.put(key, self._size())
            key += 1 + int(random() * random() * 4)
        if len(side.keys) > levels + SPARE:
            for far in side.keys[levels:]:
                side.put(far, 0)
