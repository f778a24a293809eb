"""Candles: each message is the whole candle so far; the last one of a candle is confirmed."""

from __future__ import annotations

from relay.simulator.instruments import stripped
from relay.simulator.market import Bar, SymbolMarket
from relay.simulator.topics import INTERVALS, Topic
from relay.simulator.views.base import View


class CandlesView(View):
    """One interval of one symbol: pushed when it changed, and once when it closed."""

    def __init__(self, topic: Topic, market: SymbolMarket, every: int) -> None:
        super().__init__(topic, market)
        assert topic.interval is not None
        instrument = market.instrument
        self._length = INTERVALS[topic.interval]
        self._every = every
        self._number = stripped(instrument.price_digits)
        self._volume = stripped(instrument.size_digits)
        self._turnover = stripped(instrument.price_digits + instrument.size_digits)
        self._start = self._start_of(market.now.cts)
        self._pushed: Bar | None = None

    def _start_of(self, ms: int) -> int:
        return ms - ms % self._length

    def _bar(self, start: int) -> Bar | None:
        return self.market.bar(start, start + self._length)

    def advance(self) -> bytes | None:
        now = self.market.now.cts  # the time by which trades are sorted into candles
        if self._start_of(now) != self._start:
            closed, start = self._bar(self._start), self._start
            self._start, self._pushed = self._start_of(now), None
            if closed is not None:
                return self._message(self._row(closed, start, is_confirmed=True))
        if self.market.steps % self._every:
            return None
        bar = self._bar(self._start)
        if bar is None or bar == self._pushed:
            return None
        self._pushed = bar
        return self._message(self._row(bar, self._start, is_confirmed=False))

    def greeting(self) -> list[bytes]:
        return []

    def state(self) -> dict[str, object]:
        bar = self._bar(self._start)
        return {} if bar is None else {"row": self._row(bar, self._start, is_confirmed=False)}

    def _message(self, row: str) -> bytes:
        ts = self.market.now.ts
        return (
            f'{{"topic":"{self.topic.text}","data":[{row}],"ts":{ts},"type":"snapshot"}}'.encode()
        )

    def _row(self, bar: Bar, start: int, *, is_confirmed: bool) -> str:
        price, end = self._number, start + self._length - 1
        return (
            f'{{"start":{start},"end":{end},"interval":"{self.topic.interval}",'
            f'"open":"{price(bar.open)}","close":"{price(bar.close)}","high":"{price(bar.high)}",'
            f'"low":"{price(bar.low)}","volume":"{self._volume(bar.volume)}",'
            f'"turnover":"{self._turnover(bar.turnover)}",'
            f'"confirm":{"true" if is_confirmed else "false"},"timestamp":{bar.traded_at}}}'
        )
