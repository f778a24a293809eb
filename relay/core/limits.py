"""How much of something may happen in a time."""

from __future__ import annotations

from collections import deque


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


class Window:
    """Counts events in the last `seconds`, and says when a further one fits under `limit`."""

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._times: deque[float] = deque()

    def add(self, now: float) -> None:
        """Count one event."""
        self._times.append(now)

    def available_at(self, now: float) -> float:
        """Return `now`, or the time when enough events have left the window."""
        while self._times and self._times[0] <= now - self._seconds:
            self._times.popleft()
        return now if len(self._times) < self._limit else self._times[-self._limit] + self._seconds
