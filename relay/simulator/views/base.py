"""What every topic of a simulated market has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod

from relay.simulator.instruments import padded, stripped
from relay.simulator.market import SymbolMarket
from relay.simulator.topics import Category, Topic

FUTURES = (Category.LINEAR, Category.INVERSE)


class View(ABC):
    """One topic of one market."""

    def __init__(self, topic: Topic, market: SymbolMarket) -> None:
        self.topic = topic
        self.market = market
        # Linear and inverse pad their numbers, but not on level 1.
        form = padded if topic.category in FUTURES and topic.depth != 1 else stripped
        self._price = form(market.instrument.price_digits)
        self._size = form(market.instrument.size_digits)

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
