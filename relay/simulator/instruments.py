"""What the simulated exchange lists: symbols, tick sizes and how their numbers are written.

Prices and sizes are whole numbers inside the simulator: a price counts units of the last
decimal its strings show, a size likewise. No float and no Decimal takes part in a book.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice, product

from relay.simulator.topics import Category

LEVELS = 1100  # a side: the deepest topic shows 1,000 and needs spare levels to draw in
OPTION_LEVELS = 130  # a side: the deepest option topic shows 100
MOST_SYMBOLS = 9999  # a category: the invented names have four digits

Formatter = Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Instrument:
    """One contract or pair.

    Attributes:
        price: Where the market starts, in ticks.
        tick: Price step, in units of the last of `price_digits` decimals.
        size: Typical size of an order, in units of the last of `size_digits` decimals.
    """

    category: Category
    symbol: str
    base_coin: str
    price: int
    tick: int
    price_digits: int
    size: int
    size_digits: int

    @property
    def levels(self) -> int:
        """How many price levels a side the market keeps."""
        return OPTION_LEVELS if self.category is Category.OPTION else LEVELS


def padded(digits: int) -> Formatter:
    """Return a writer of units with all their decimals: 480 -> `"4.80"`."""
    if digits == 0:
        return str
    unit = 10**digits
    form = f"%d.%0{digits}d"

    def write(value: int) -> str:
        text: str = form % divmod(value, unit)
        return text

    return write


def stripped(digits: int) -> Formatter:
    """Return a writer of units without closing zeros: 480 -> `"4.8"`."""
    if digits == 0:
        return str
    write_padded = padded(digits)

    def write(value: int) -> str:
        return write_padded(value).rstrip("0").rstrip(".")

    return write


# symbol, price in units, tick in units, price digits, typical size in units, size digits
_SPOT = (
    ("BTCUSDT", 8069430, 10, 2, 60000, 6),
    ("ETHUSDT", 250020, 1, 2, 150000, 5),
    ("SOLUSDT", 14237, 1, 2, 9000, 3),
    ("XRPUSDT", 23155, 1, 4, 60000, 2),
    ("DOGEUSDT", 21874, 1, 5, 90000, 1),
)
_LINEAR = (
    ("BTCUSDT", 8068200, 10, 2, 900, 3),
    ("ETHUSDT", 250061, 1, 2, 900, 2),
    ("SOLUSDT", 142360, 10, 3, 800, 1),
    ("XRPUSDT", 23154, 1, 4, 9000, 0),
    ("DOGEUSDT", 21873, 1, 5, 20000, 0),
)
_INVERSE = (
    ("BTCUSD", 8069000, 50, 2, 40000, 0),
    ("ETHUSD", 250060, 5, 2, 30000, 0),
    ("XRPUSD", 23155, 1, 4, 8000, 0),
)
_OPTION = (
    ("BTC-25JUN27-80000-C-USDT", 9500, 5, 0, 400, 2),
    ("BTC-25JUN27-80000-P-USDT", 8200, 5, 0, 400, 2),
    ("BTC-25JUN27-100000-C", 4700, 5, 0, 300, 2),
    ("ETH-25JUN27-2500-C-USDT", 3120, 1, 1, 900, 1),
    ("ETH-25JUN27-2500-P-USDT", 2870, 1, 1, 900, 1),
    ("XRP-25JUN27-0.4-P-USDT", 950, 1, 4, 9000, 0),
)
_KNOWN = {
    Category.SPOT: _SPOT,
    Category.LINEAR: _LINEAR,
    Category.INVERSE: _INVERSE,
    Category.OPTION: _OPTION,
}
_QUOTE = {Category.SPOT: "USDT", Category.LINEAR: "USDT", Category.INVERSE: "USD"}


def catalogue(category: Category, count: int | None = None) -> dict[str, Instrument]:
    """Return `count` instruments by symbol: the familiar ones, then invented ones.

    Invented symbols are `SIM0001USDT` and so on; on option, more strikes of the same coins.
    """
    known = _KNOWN[category]
    found = [
        Instrument(
            category,
            symbol,
            _base_coin(category, symbol),
            price // tick,
            tick,
            price_digits,
            size,
            size_digits,
        )
        for symbol, price, tick, price_digits, size, size_digits in known[:count]
    ]
    missing = 0 if count is None else count - len(found)
    if category is Category.OPTION:
        found += _more_strikes(missing)
    else:
        quote = _QUOTE[category]
        found += [
            Instrument(category, f"SIM{n:04}{quote}", f"SIM{n:04}", 20000 + 37 * n, 1, 4, 5000, 0)
            for n in range(1, missing + 1)
        ]
    return {instrument.symbol: instrument for instrument in found}


def _base_coin(category: Category, symbol: str) -> str:
    if category is Category.OPTION:
        return symbol.partition("-")[0]
    return symbol.removesuffix(_QUOTE[category])


def _more_strikes(count: int) -> list[Instrument]:
    strikes = product(range(20000, 20000 + 500 * count, 500), "CP")
    return [
        Instrument(
            Category.OPTION,
            f"BTC-31DEC27-{strike}-{kind}-USDT",
            "BTC",
            1000 + strike // 100,
            5,
            0,
            400,
            2,
        )
        for strike, kind in islice(strikes, count)
    ]
