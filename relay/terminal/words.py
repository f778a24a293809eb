"""How numbers, times and whatever came over the wire are written for people."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

NOTHING = "-"
MOST_DIGITS = 40  # before or after the point


def printable(text: str) -> str:
    """Return what may reach a terminal: nothing that could command it."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def decimal(text: str) -> Decimal:
    """Return a number of the exchange, 0 where it is none, or none that can be written out."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return Decimal()
    return number if number.is_finite() and abs(number.adjusted()) < MOST_DIGITS else Decimal()


def places(texts: Iterable[str]) -> int:
    """Return the most digits after the point."""
    return max((len(text.partition(".")[2]) for text in texts), default=0)


def fixed(text: str, digits: int) -> str:
    """Write a decimal number with so many digits after the point, adding zeros."""
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.ljust(digits, '0')}" if digits else whole


def percent(text: str, digits: int = 2) -> str:
    """Write a share as a percentage with its sign, exactly, with at least so many digits."""
    if not text:
        return NOTHING
    value = decimal(text) * 100
    own = len(f"{value.normalize():f}".partition(".")[2])
    return f"{value:+.{max(own, digits)}f} %"


def clock(ms: int) -> str:
    """Write the time of day of a Unix time, UTC."""
    return moment(ms)[11:-1]


def moment(ms: int) -> str:
    """Write a Unix time as ISO 8601, UTC; as it is where that is not possible."""
    try:
        at = datetime.fromtimestamp(ms // 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return str(ms)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03}Z"


def countdown(seconds: float) -> str:
    """Write a span as hours, minutes and seconds."""
    whole = max(0, int(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def spread(bid: str, ask: str) -> Decimal:
    """Return the best ask less the best bid."""
    return decimal(ask) - decimal(bid)
