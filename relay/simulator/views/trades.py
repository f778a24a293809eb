"""Trades: rows of one message, in the words of their category."""

from __future__ import annotations

from relay.simulator.market import Moment, Trade
from relay.simulator.topics import Category
from relay.simulator.views.base import View


class TradesView(View):
    """Fills as they happen; nothing is said on subscribing and nothing is said again."""

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
