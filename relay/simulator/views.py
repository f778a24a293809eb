"""What a market looks like through one topic, in the exchange's own words.

Key order, number strings and the rules of each category follow the Bybit v5 reference. A
view belongs to one market, is asked once after every step of it, and keeps what its readers
have been told, so that a delta holds exactly the difference: what left the window is
deleted, what entered is sent, nothing else is mentioned.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from relay.core.topics import Category, Feed, Topic
from relay.simulator.instruments import padded, stripped
from relay.simulator.market import Moment, Side, SymbolMarket, Trade

BOOK_INTERVALS = {25: 20, 50: 20, 100: 100, 200: 100, 500: 100, 1000: 200}  # ms, by depth
SPOT_TICKER_INTERVAL = 50  # ms
TICKER_INTERVAL = 100  # ms
REPUSH_AFTER = 3000  # ms: a quiet level 1 says its last state again
DAY_MS = 86_400_000

_PAIRS = {
    "bid1Price": "bid1Size",
    "bid1Size": "bid1Price",
    "ask1Price": "ask1Size",
    "ask1Size": "ask1Price",
}
_FUTURES = (Category.LINEAR, Category.INVERSE)


class View(ABC):
    """One topic of one market."""

    def __init__(self, topic: Topic, market: SymbolMarket) -> None:
        self.topic = topic
        self.market = market

    @abstractmethod
    def advance(self) -> bytes | None:
        """Return the message that the market's last step calls for, if any."""

    @abstractmethod
    def greeting(self) -> list[bytes]:
        """Return what a new subscriber gets first."""

    def state(self) -> dict[str, object]:
        """Return what the exchange believes its readers know now, as plain values."""
        return {}

    def restart(self) -> bytes | None:
        """Start the topic over, as a restarted service does; None if it has no state."""
        return None


def view_of(topic: Topic, market: SymbolMarket, rate: float) -> View:
    """Return the view of `market` that `topic` names.

    Args:
        rate: Steps of the market in a second; a topic pushed less often joins several.
    """
    if topic.depth == 1:
        return LevelOneView(topic, market)
    if topic.depth is not None:
        return DepthView(topic, market, _steps(BOOK_INTERVALS[topic.depth], rate))
    if topic.feed is Feed.TRADES:
        return TradesView(topic, market)
    match topic.category:
        case Category.SPOT:
            return SpotTickerView(topic, market, _steps(SPOT_TICKER_INTERVAL, rate))
        case Category.OPTION:
            return OptionTickerView(topic, market, _steps(TICKER_INTERVAL, rate))
        case _:
            return FuturesTickerView(topic, market, _steps(TICKER_INTERVAL, rate))


def _steps(interval_ms: int, rate: float) -> int:
    return max(1, round(interval_ms * rate / 1000))


class _BookView(View):
    """What the book topics share: how a message and its levels are written."""

    def __init__(self, topic: Topic, market: SymbolMarket) -> None:
        super().__init__(topic, market)
        instrument = market.instrument
        # Linear and inverse pad their numbers, but not on level 1.
        form = padded if topic.category in _FUTURES and topic.depth != 1 else stripped
        self._price = form(instrument.price_digits)
        self._size = form(instrument.size_digits)
        self._tick = instrument.tick

    def _levels(self, levels: Iterable[tuple[int, int]]) -> list[tuple[str, str]]:
        price, size, tick = self._price, self._size, self._tick
        return [(price(abs(key) * tick), size(amount) if amount else "0") for key, amount in levels]

    def _message(
        self,
        kind: str,
        bids: Iterable[tuple[int, int]],
        asks: Iterable[tuple[int, int]],
        update_id: int,
        moment: Moment,
        *,
        ts: int | None = None,
    ) -> bytes:
        """Write one message; `ts` differs from the moment's only on a re-push."""
        ts = moment.ts if ts is None else ts
        topic, category = self.topic.text, self.topic.category
        if category is Category.OPTION:
            head = f'"ts":{ts},"type":"{kind}","id":"{topic}-{moment.seq}-{ts}"'
        elif category is Category.SPOT or self.topic.depth == 1:
            head = f'"ts":{ts},"type":"{kind}"'
        else:
            head = f'"type":"{kind}","ts":{ts}'
        b = ",".join([f'["{price}","{size}"]' for price, size in self._levels(bids)])
        a = ",".join([f'["{price}","{size}"]' for price, size in self._levels(asks)])
        return (
            f'{{"topic":"{topic}",{head},"data":{{"s":"{self.topic.symbol}","b":[{b}],"a":[{a}],'
            f'"u":{update_id},"seq":{moment.seq}}},"cts":{moment.cts}}}'
        ).encode()


class _Window:
    """The levels of one side that the readers of a topic hold."""

    __slots__ = ("_depth", "_pending", "_side", "_worst", "held", "undo")

    def __init__(self, side: Side, depth: int) -> None:
        self._side = side
        self._depth = depth
        self._pending: set[int] = set()
        self.held = side.earlier(depth)
        self._worst = max(self.held)
        self.undo: dict[int, int] = {}

    def note(self) -> None:
        """Remember what the last step touched."""
        self._pending.update(self._side.before)

    def changes(self) -> list[tuple[int, int]]:
        """Return what the readers must be told, best first, and count it as told."""
        keys, sizes, held = self._side.keys, self._side.sizes, self.held
        old_worst, new_worst = self._worst, keys[min(self._depth, len(keys)) - 1]
        doubtful = self._pending
        if old_worst != new_worst:  # the window's edge moved over what lies between
            low, high = min(old_worst, new_worst), max(old_worst, new_worst)
            doubtful.update(keys[bisect_left(keys, low) : bisect_right(keys, high)])
            self._worst = new_worst
        self.undo = {}
        changed = []
        for key in doubtful:
            size = sizes.get(key, 0) if key <= new_worst else 0
            old = held.get(key, 0)
            if size != old:
                changed.append((key, size))
                self.undo[key] = old
                if size:
                    held[key] = size
                else:
                    del held[key]
        doubtful.clear()
        changed.sort()
        return changed

    def levels(self) -> list[tuple[int, int]]:
        """Return what the readers hold, best first."""
        return sorted(self.held.items())

    def earlier(self) -> list[tuple[int, int]]:
        """Return what they held before the last changes, best first."""
        return sorted((key, size) for key, size in (self.held | self.undo).items() if size)


class DepthView(_BookView):
    """A book topic deeper than level 1: a snapshot, then deltas with `u` rising by one."""

    def __init__(self, topic: Topic, market: SymbolMarket, every: int) -> None:
        super().__init__(topic, market)
        assert topic.depth is not None
        self._depth = topic.depth
        self._every = every
        self._bids = _Window(market.bids, topic.depth)
        self._asks = _Window(market.asks, topic.depth)
        self._moment = market.earlier
        self._before = market.earlier
        self._delta: bytes | None = None
        self.u = self._counted() - 1
        self._note()
        self._push()

    def _counted(self) -> int:
        return self.market.origins[self._depth] + self.market.steps // self._every

    def _note(self) -> None:
        self._bids.note()
        self._asks.note()

    def advance(self) -> bytes | None:
        self._note()
        return None if self.market.steps % self._every else self._push()

    def _push(self) -> bytes | None:
        bids, asks = self._bids.changes(), self._asks.changes()
        if not bids and not asks:  # it all cancelled out: Bybit sends no empty delta
            self.market.origins[self._depth] -= 1
            return None
        self.u += 1
        self._before, self._moment = self._moment, self.market.now
        self._delta = self._message("delta", bids, asks, self.u, self._moment)
        return self._delta

    def snapshot(self, kind: str = "snapshot") -> bytes:
        """Return the whole book as the readers hold it."""
        levels = self._bids.levels(), self._asks.levels()
        return self._message(kind, *levels, self.u, self._moment)

    def greeting(self) -> list[bytes]:
        """Return a snapshot; on linear and inverse an older one and the delta since."""
        if self._delta is None or self.topic.category not in _FUTURES:
            return [self.snapshot()]
        levels = self._bids.earlier(), self._asks.earlier()
        old = self._message("snapshot", *levels, self.u - 1, self._before)
        return [old, self._delta]

    def restart(self, kind: str = "snapshot") -> bytes:
        """Begin again at `u` = 1 with the whole book."""
        self.market.origins[self._depth] = 1 - self.market.steps // self._every
        self.u = 1
        self._delta = None
        return self.snapshot(kind)

    def crossed(self) -> bytes:
        """Return a delta that puts a bid above the best ask; the true book stays as it is."""
        self.market.origins[self._depth] += 1
        self.u += 1
        self._delta = None
        key = -min(self._asks.held) - 1
        bid = (key, self.market.instrument.size)
        return self._message("delta", [bid], [], self.u, self._moment)

    def state(self) -> dict[str, object]:
        return {
            "b": self._levels(self._bids.levels()),
            "a": self._levels(self._asks.levels()),
            "u": self.u,
            "seq": self._moment.seq,
        }


class LevelOneView(_BookView):
    """The best bid and ask: always snapshots, said again after three quiet seconds."""

    def __init__(self, topic: Topic, market: SymbolMarket) -> None:
        super().__init__(topic, market)
        self._pushed = market.best_changed.ts
        self._u = market.best_u

    def _best(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        bids, asks = self.market.bids, self.market.asks
        bid, ask = bids.keys[0], asks.keys[0]
        return [(bid, bids.sizes[bid])], [(ask, asks.sizes[ask])]

    def _write(self, moment: Moment, ts: int | None = None) -> bytes:
        return self._message("snapshot", *self._best(), self.market.best_u, moment, ts=ts)

    def advance(self) -> bytes | None:
        if self.market.best_u == self._u:
            return None
        self._u = self.market.best_u
        self._pushed = self.market.now.ts
        return self._write(self.market.now)

    def greeting(self) -> list[bytes]:
        """Return the last push as it was, however old."""
        return [self._write(self.market.best_changed)]

    def repush(self, now_ms: int) -> bytes | None:
        """Return the same state with the same `u` if it has been quiet for long enough."""
        if now_ms - self._pushed < REPUSH_AFTER:
            return None
        self._pushed = now_ms
        return self._write(self.market.now, now_ms)

    def restart(self) -> bytes:
        self.market.best_u = self._u = 1
        return self._write(self.market.now)

    def state(self) -> dict[str, object]:
        bids, asks = self._best()
        return {
            "b": self._levels(bids),
            "a": self._levels(asks),
            "u": self.market.best_u,
            "seq": self.market.best_changed.seq,
        }


class TradesView(View):
    """Fills as they happen; nothing is said on subscribing and nothing is said again."""

    def __init__(self, topic: Topic, market: SymbolMarket) -> None:
        super().__init__(topic, market)
        instrument = market.instrument
        form = padded if topic.category in _FUTURES else stripped
        self._price = form(instrument.price_digits)
        self._size = form(instrument.size_digits)

    def advance(self) -> bytes | None:
        trades = self.market.trades
        if not trades:
            return None
        topic, moment = self.topic.text, self.market.now
        rows = ",".join([self._row(trade, moment) for trade in trades])
        match self.topic.category:
            case Category.SPOT:
                head = f'"ts":{moment.ts},"type":"snapshot"'
            case Category.OPTION:
                head = f'"ts":{moment.ts},"type":"snapshot","id":"{topic}-{moment.seq}-{moment.ts}"'
            case _:
                head = f'"type":"snapshot","ts":{moment.ts}'
        return f'{{"topic":"{topic}",{head},"data":[{rows}]}}'.encode()

    def greeting(self) -> list[bytes]:
        return []

    def _row(self, trade: Trade, moment: Moment) -> str:
        symbol = self.market.instrument.symbol
        price, size = self._price(trade.price), self._size(trade.size)
        taker = "Buy" if trade.buys else "Sell"
        rpi = "true" if trade.is_rpi else "false"
        match self.topic.category:
            case Category.SPOT:
                return (
                    f'{{"i":"{trade.trade_id}","T":{moment.cts},"p":"{price}","v":"{size}",'
                    f'"S":"{taker}","seq":{moment.seq},"s":"{symbol}","BT":false,"RPI":{rpi}}}'
                )
            case Category.OPTION:
                mark = self._price(self.market.mark_price)
                return (
                    f'{{"p":"{price}","v":"{size}","i":"{_uuid(trade.trade_id)}","T":{moment.cts},'
                    f'"BT":false,"s":"{symbol}","S":"{taker}","mP":"{mark}","iP":"80700.12",'
                    f'"mIv":"0.5421","iv":"0.5437","seq":{moment.seq}}}'
                )
            case _:
                return (
                    f'{{"T":{moment.cts},"s":"{symbol}","S":"{taker}","v":"{size}","p":"{price}",'
                    f'"L":"{trade.direction}","i":"{_uuid(trade.trade_id)}","BT":false,'
                    f'"RPI":{rpi},"seq":{moment.seq}}}'
                )


def _uuid(number: int) -> str:
    digits = f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}"
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"


class _TickerView(View):
    """What the ticker topics share: a set of strings, pushed when one of them changed."""

    def __init__(self, topic: Topic, market: SymbolMarket, every: int) -> None:
        super().__init__(topic, market)
        self._every = every
        instrument = market.instrument
        form = padded if topic.category in _FUTURES else stripped
        self._price = form(instrument.price_digits)
        self._size = form(instrument.size_digits)
        self._moment = market.now
        self._fields = self._read()

    @abstractmethod
    def _read(self) -> dict[str, str]:
        """Return every field as it is now, in the order of the category."""

    @abstractmethod
    def _message(self, kind: str, fields: dict[str, str], moment: Moment) -> bytes: ...

    def _due(self) -> bool:
        return self.market.steps % self._every == 0

    def advance(self) -> bytes | None:
        if not self._due():
            return None
        fields = self._read()
        if fields == self._fields:
            return None
        self._fields, self._moment = fields, self.market.now
        return self._message("snapshot", fields, self._moment)

    def greeting(self) -> list[bytes]:
        return [self._message("snapshot", self._fields, self._moment)]

    def restart(self) -> bytes | None:
        return self._message("snapshot", self._fields, self._moment)

    def state(self) -> dict[str, object]:
        return {"data": dict(self._fields), "cs": self._moment.seq}

    def _change(self) -> str:
        """The day's change as a fraction."""
        return f"{self.market.last_price / self.market.price_day_ago - 1:.6f}"

    def _body(self, fields: dict[str, str]) -> str:
        rest = "".join([f',"{name}":"{value}"' for name, value in fields.items()])
        return f'{{"symbol":"{self.topic.symbol}"{rest}}}'


class SpotTickerView(_TickerView):
    """The spot ticker: snapshots only, with no bid and no ask."""

    def __init__(self, topic: Topic, market: SymbolMarket, every: int) -> None:
        instrument = market.instrument
        self._turnover = stripped(instrument.price_digits + instrument.size_digits)
        super().__init__(topic, market, every)

    def _read(self) -> dict[str, str]:
        market, price = self.market, self._price
        return {
            "lastPrice": price(market.last_price),
            "highPrice24h": price(market.high_price),
            "lowPrice24h": price(market.low_price),
            "prevPrice24h": price(market.price_day_ago),
            "volume24h": self._size(market.volume),
            "turnover24h": self._turnover(market.turnover),
            "price24hPcnt": self._change()[:-2],
            "usdIndexPrice": price(market.mark_price),
        }

    def _message(self, kind: str, fields: dict[str, str], moment: Moment) -> bytes:
        return (
            f'{{"topic":"{self.topic.text}","ts":{moment.ts},"type":"{kind}","cs":{moment.seq},'
            f'"data":{self._body(fields)}}}'
        ).encode()


class OptionTickerView(_TickerView):
    """The option ticker: snapshots only; the greeks are plausible, not computed."""

    def _read(self) -> dict[str, str]:
        market, price, size = self.market, self._price, self._size
        bid, ask = market.bids.keys[0], market.asks.keys[0]
        tick = market.instrument.tick
        volume = size(market.volume)
        turnover = padded(2)(market.turnover // 10**market.instrument.price_digits)
        return {
            "bidPrice": price(-bid * tick),
            "bidSize": size(market.bids.sizes[bid]),
            "bidIv": "0.5379",
            "askPrice": price(ask * tick),
            "askSize": size(market.asks.sizes[ask]),
            "askIv": "0.5534",
            "lastPrice": price(market.last_price),
            "highPrice24h": price(market.high_price),
            "lowPrice24h": price(market.low_price),
            "markPrice": price(market.mark_price),
            "indexPrice": "80700.12",
            "markPriceIv": "0.5513",
            "underlyingPrice": "80755.40",
            "openInterest": size(market.open_interest),
            "turnover24h": turnover,
            "volume24h": volume,
            "totalVolume": volume,
            "totalTurnover": turnover,
            "delta": "0.4212",
            "gamma": "0.00003161",
            "vega": "82.65324199",
            "theta": "-51.54651685",
            "predictedDeliveryPrice": "0",
            "change24h": self._change(),
        }

    def _message(self, kind: str, fields: dict[str, str], moment: Moment) -> bytes:
        topic = self.topic.text
        return (
            f'{{"topic":"{topic}","ts":{moment.ts},"type":"{kind}",'
            f'"id":"{topic}-{moment.seq}-{moment.ts}","data":{self._body(fields)}}}'
        ).encode()


class FuturesTickerView(_TickerView):
    """The linear and inverse ticker: a snapshot, then deltas of what changed."""

    def __init__(self, topic: Topic, market: SymbolMarket, every: int) -> None:
        super().__init__(topic, market, every)
        self._before = self._fields
        self._before_moment = self._moment
        self._delta: bytes | None = None

    def _read(self) -> dict[str, str]:
        market, price, size = self.market, self._price, self._size
        instrument = market.instrument
        bid, ask, tick = market.bids.keys[0], market.asks.keys[0], instrument.tick
        mark = market.mark_price
        interest = market.open_interest
        two, four = padded(2), padded(4)
        if self.topic.category is Category.INVERSE:  # sizes are dollars, values are coins
            value = interest * 10 ** (instrument.price_digits + 2) // mark
            turnover = market.volume * 10 ** (instrument.price_digits + 4) // market.last_price
        else:
            digits = instrument.price_digits + instrument.size_digits
            value = interest * mark * 100 // 10**digits
            turnover = market.turnover * 10**4 // 10**digits
        volume = market.volume * 10**4 // 10**instrument.size_digits
        return {
            "tickDirection": market.last_direction,
            "price24hPcnt": self._change(),
            "lastPrice": price(market.last_price),
            "prevPrice24h": price(market.price_day_ago),
            "highPrice24h": price(market.high_price),
            "lowPrice24h": price(market.low_price),
            "prevPrice1h": price(market.price_hour_ago),
            "markPrice": price(mark),
            "indexPrice": price(mark + 3 * tick),
            "openInterest": size(interest),
            "openInterestValue": two(value),
            "turnover24h": four(turnover),
            "volume24h": four(volume),
            "fundingIntervalHour": "8",
            "fundingCap": "0.00333",
            "singleOpenInterest": size(interest // 2),
            "singleOpenInterestValue": two(value // 2),
            "nextFundingTime": str((market.now.ts // (DAY_MS // 3) + 1) * (DAY_MS // 3)),
            "fundingRate": "0.0001",
            "bid1Price": price(-bid * tick),
            "bid1Size": size(market.bids.sizes[bid]),
            "ask1Price": price(ask * tick),
            "ask1Size": size(market.asks.sizes[ask]),
            "preOpenPrice": "",
            "preQty": "",
            "curPreListingPhase": "",
        }

    def advance(self) -> bytes | None:
        if not self._due():
            return None
        fields, before = self._read(), self._fields
        if fields == before:
            return None
        changed = {
            name: value
            for name, value in fields.items()
            # Price and size of a side come together.
            if value != before[name]
            or (name in _PAIRS and fields[_PAIRS[name]] != before[_PAIRS[name]])
        }
        self._before, self._before_moment = before, self._moment
        self._fields, self._moment = fields, self.market.now
        self._delta = self._message("delta", changed, self._moment)
        return self._delta

    def greeting(self) -> list[bytes]:
        """Return an older snapshot and the delta since, as the gateway does."""
        if self._delta is None:
            return super().greeting()
        return [self._message("snapshot", self._before, self._before_moment), self._delta]

    def restart(self) -> bytes | None:
        self._delta = None
        return super().restart()

    def _message(self, kind: str, fields: dict[str, str], moment: Moment) -> bytes:
        return (
            f'{{"topic":"{self.topic.text}","type":"{kind}","data":{self._body(fields)},'
            f'"cs":{moment.seq},"ts":{moment.ts}}}'
        ).encode()
