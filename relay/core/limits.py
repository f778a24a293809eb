"""How much of something may happen in a time."""

from __future__ import annotations


class TokenBucket:
    """Allows `rate` events a second in the long run and `burst` at once."""

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._updated = now

    def take(self, now: float, price: float = 1.0) -> bool:
        """Use events up; False if there is none to use.

        Args:
            price: How many. Where there are fewer, the rest is owed, up to one burst, and the
                next event is allowed later.
        """
        if self.available_at(now) > now:
            return False
        self._tokens -= min(price, self._burst)
        return True

    def give_back(self) -> None:
        """Undo a `take` of one event."""
        self._tokens = min(self._burst, self._tokens + 1)

    def available_at(self, now: float) -> float:
        """Return when one event can be used: `now`, or the time when it will be allowed."""
        self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._rate)
        self._updated = now
        return now if self._tokens >= 1 else now + (1 - self._tokens) / self._rate
