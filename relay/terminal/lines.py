"""Topics as plain lines, for pipes and files: one a message, one a trade.

    2026-11-23T21:18:59.123Z linear:orderbook.50.BTCUSDT bid 80681.90 x 3.684 ask 80682.00 x ...

Nothing is left out or averaged. A reader that is slow makes the relay wait, which then withholds
updates of books and tickers and counts the trades that it drops.
"""

from __future__ import annotations

import asyncio
import os
import select

from relay.bybit.frames import Frame
from relay.bybit.topics import Shape
from relay.terminal.followed import CandleRow, Followed, Trade, read_candles, read_rows
from relay.terminal.words import NOTHING, moment, percent, printable, spread

TICKER_WORDS = {
    "lastPrice": "last",
    "markPrice": "mark",
    "indexPrice": "index",
    "bid1Price": "bid",
    "ask1Price": "ask",
    "bidPrice": "bid",
    "askPrice": "ask",
    "highPrice24h": "high",
    "lowPrice24h": "low",
    "volume24h": "volume",
    "openInterest": "oi",
    "buyLmt": "buys up to",
    "sellLmt": "sells from",
}
"""Bybit's keys, with what they are called in a line; those that a ticker lacks are left out."""


class ReaderGone(Exception):
    """The program that read the lines reads no more (`| head`)."""


def lines(followed: Followed, frame: Frame, trades: list[Trade]) -> list[str]:
    """Return the lines for one message that was folded in."""
    match followed.topic.feed.shape:
        case Shape.TRADES:
            return [
                _line(trade.time, followed, f"{trade.side} {trade.size} @ {trade.price}")
                for trade in trades
            ]
        case Shape.LEVELS:
            words = _best(followed)
        case Shape.FIELDS:
            words = _ticker(followed)
        case Shape.CANDLES:
            return [
                _line(candle.start, followed, _candle(candle)) for candle in read_candles(frame)
            ]
        case Shape.ROWS:
            return [_line(frame.ts or 0, followed, row) for row in read_rows(frame)]
    return [_line(frame.cts or frame.ts or 0, followed, words)]


def _line(ms: int, followed: Followed, words: str) -> str:
    return printable(f"{moment(ms)} {followed.topic} {words}")


def _best(followed: Followed) -> str:
    bids, asks = followed.levels(1)
    words = [
        f"{name} {levels[0][0]} x {levels[0][1]}" if levels else f"{name} {NOTHING}"
        for name, levels in (("bid", bids), ("ask", asks))
    ]
    if bids and asks:
        words.append(f"spread {spread(bids[0][0], asks[0][0])}")
    return " ".join(words)


def _candle(candle: CandleRow) -> str:
    closed = " closed" if candle.confirm else ""
    return (
        f"open {candle.open} high {candle.high} low {candle.low} close {candle.close} "
        f"volume {candle.volume}{closed}"
    )


def _ticker(followed: Followed) -> str:
    fields = followed.fields()
    words = [f"{name} {fields[key]}" for key, name in TICKER_WORDS.items() if fields.get(key)]
    if change := fields.get("price24hPcnt") or fields.get("change24h"):
        words.insert(1, f"24h {percent(change).replace(' ', '')}")
    if funding := fields.get("fundingRate"):
        words.append(f"funding {percent(funding, 4).replace(' ', '')}")
    return " ".join(words)


class Output:
    """Writes to a descriptor without ever standing still in the system.

    A pipe that says it can be written takes `PIPE_BUF` bytes at least.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def write(self, text: str) -> None:
        """Write all of the text, as fast as it is read.

        Raises:
            ReaderGone: the reader has closed its end.
        """
        left = text.encode(errors="replace")
        try:
            while left:
                await self._writable()
                left = left[os.write(self._descriptor, left[: select.PIPE_BUF]) :]
        except BrokenPipeError:
            raise ReaderGone from None

    async def _writable(self) -> None:
        if select.select((), (self._descriptor,), (), 0)[1]:
            return
        loop = asyncio.get_running_loop()
        is_writable = asyncio.Event()
        loop.add_writer(self._descriptor, is_writable.set)
        try:
            await is_writable.wait()
        finally:
            loop.remove_writer(self._descriptor)
