"""How long to wait before the next try."""

from __future__ import annotations


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
