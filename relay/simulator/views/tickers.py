"""Tickers: every field as a string, whole or what changed of it."""

from __future__ import annotations

from abc import abstractmethod

from relay.simulator.instruments import padded, stripped
from relay.simulator.market import Moment, SymbolMarket
from relay.simulator.topics import Category, Topic
from relay.simulator.views.base import View

DAY_MS = 86_400_000

_PAIRS = {
    "bid1Price": "bid1Size",
    "bid1Size": "bid1Price",
    "ask1Price": "ask1Size",
    "ask1Size": "ask1Price",
}


class _TickerView(View):
    """What the ticker topics share: a set of strings, pushed when one of them changed."""

    def __init__(self, topic: Topic, market: SymbolMarket, every: int) -> None:
        super().__init__(topic, market)
        self._every = every
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
