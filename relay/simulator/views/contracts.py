"""What the exchange says of a symbol besides its market: price limits, liquidations."""

from __future__ import annotations

from relay.simulator.market import SymbolMarket, Trade
from relay.simulator.topics import Topic
from relay.simulator.views.base import View

BAND = 20  # orders may be a twentieth away from the mark price
LIQUIDATED = 40  # one trade in so many closes a position by force


class PriceLimitView(View):
    """The highest price of a buy and the lowest of a sell; without a type, at fixed intervals."""

    def __init__(self, topic: Topic, market: SymbolMarket, every: int) -> None:
        super().__init__(topic, market)
        self._every = every

    def advance(self) -> bytes | None:
        return None if self.market.steps % self._every else self._message()

    def greeting(self) -> list[bytes]:
        return [self._message()]

    def _message(self) -> bytes:
        mark = self.market.mark_price
        buy, sell = self._price(mark + mark // BAND), self._price(mark - mark // BAND)
        return (
            f'{{"topic":"{self.topic.text}","data":{{"symbol":"{self.topic.symbol}",'
            f'"buyLmt":"{buy}","sellLmt":"{sell}"}},"ts":{self.market.now.ts}}}'
        ).encode()


class LiquidationsView(View):
    """Positions that were closed by force, collected for half a second; never said again."""

    def __init__(self, topic: Topic, market: SymbolMarket, every: int) -> None:
        super().__init__(topic, market)
        self._every = every
        self._rows: list[str] = []

    def advance(self) -> bytes | None:
        liquidated = [one for one in self.market.trades if not one.trade_id % LIQUIDATED]
        self._rows += map(self._row, liquidated)
        if self.market.steps % self._every or not self._rows:
            return None
        rows, self._rows = ",".join(self._rows), []
        return (
            f'{{"topic":"{self.topic.text}","type":"snapshot","ts":{self.market.now.ts},'
            f'"data":[{rows}]}}'
        ).encode()

    def greeting(self) -> list[bytes]:
        return []

    def _row(self, trade: Trade) -> str:
        side = "Sell" if trade.buys else "Buy"  # of the position: a long is closed by a sell
        price, size = self._price(trade.price), self._size(trade.size)
        return (
            f'{{"T":{self.market.now.cts},"s":"{self.topic.symbol}","S":"{side}","v":"{size}",'
            f'"p":"{price}"}}'
        )
