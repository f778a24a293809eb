"""Backoff between tries, and rate limiters. Callers give the time and the chance."""

from __future__ import annotations

from collections import OrderedDict


class Backoff:
    """Delays that double from `first` to `ceiling` seconds, spread by jitter after the first."""

    def __init__(self, first: float, ceiling: float) -> None:
        self._first = first
        self._ceiling = ceiling
        self._tries = 0

    def next(self, fraction: float) -> float:
        """Return the next delay in seconds.

        Args:
            fraction: A random number in [0, 1), which takes up to a third off the delay, so
                that many that failed together do not return together.
        """
        delay = min(self._ceiling, self._first * 2.0 ** min(self._tries, 30))
        if self._tries:
            delay = max(self._first, delay * (1 - fraction / 3))
        self._tries += 1
        return delay

    def reset(self) -> None:
        """Start over: the last try succeeded."""
        self._tries = 0


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


class Buckets:
    """A token bucket for each key. Above `keys` of them, the one longest unused is forgotten."""

    def __init__(self, rate: float, burst: float, keys: int) -> None:
        self._rate = rate
        self._burst = burst
        self._keys = keys
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        """Return how many keys are known."""
        return len(self._buckets)

    def take(self, key: str | None, price: float, now: float) -> float:
        """Use up `price` events of a key; None has no limit.

        Returns:
            0, or the seconds until the key may use events: then it has used none.
        """
        if key is None:
            return 0.0
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._rate, self._burst, now)
            if len(self._buckets) > self._keys:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return 0.0 if bucket.take(now, price) else bucket.available_at(now) - now


class Seldom:
    """Allows an event once in `seconds` for each key, and `keys` different ones in that time.

    For logs of what strangers do: neither one that repeats itself nor one that always says
    something new can fill them.
    """

    def __init__(self, seconds: float, keys: int) -> None:
        self._seconds = seconds
        self._keys = keys
        self._last: dict[str, float] = {}  # when each was allowed, oldest first

    def take(self, key: str, now: float) -> bool:
        """Count an event; return False, and count nothing, when it is not allowed now."""
        for oldest, at in list(self._last.items()):
            if at > now - self._seconds:
                break
            del self._last[oldest]
        if key in self._last or len(self._last) >= self._keys:
            return False
        self._last[key] = now
        return True
