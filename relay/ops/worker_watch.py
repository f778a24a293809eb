"""Whether upstream workers serve this web process, for the log.

Without `REDIS_URL` the worker runs inside the web process. With it, it is a process of its own
that an operator must start, and without one readers wait for data that never comes.
"""

from __future__ import annotations

from collections.abc import Collection

from relay.bybit.topics import Category
from relay.lib import timing


class WorkerWatch:
    """Says what is missing, once each time, and when it is there.

    Attributes:
        is_missing: Whether the last thing that was said is that no worker runs.
    """

    def __init__(self, now: float) -> None:
        self.is_missing = False
        self._served_at = now  # when a worker reported last
        self._led_at: dict[Category, float] = {}  # the same for categories that are wanted
        self._leaderless: set[Category] = set()  # what was said to be

    def look(
        self,
        workers: Collection[str],
        led: Collection[str],
        wanted: Collection[Category],
        now: float,
    ) -> list[tuple[bool, str]]:
        """Return what there is to say, each as (is a fault, words).

        Args:
            workers: The names of those that report.
            led: The categories that one of them leads.
            wanted: The categories of which this process has topics.
        """
        said: list[tuple[bool, str]] = []
        if workers:
            self._served_at = now
            if self.is_missing:
                said.append((False, f"upstream worker {', '.join(sorted(workers))} reports"))
            self.is_missing = False
        elif not self.is_missing and now - self._served_at > timing.WORKER_MISSED_AFTER:
            self.is_missing = True
            said.append(
                (
                    True,
                    "no upstream worker reports, so readers get no data: start one with "
                    "`python manage.py run_upstream` and the same REDIS_URL",
                )
            )
        self._led_at = {c: now if c in led else self._led_at.get(c, now) for c in wanted}
        self._leaderless &= {c for c in wanted if c not in led}
        if self.is_missing:
            self._led_at.clear()  # said already; what a new worker does not lead is said later
            return said
        for category, led_at in self._led_at.items():
            if category not in self._leaderless and now - led_at > timing.WORKER_MISSED_AFTER:
                self._leaderless.add(category)
                said.append(
                    (
                        True,
                        f"{category}: topics are wanted and no upstream worker leads it: start "
                        f"`python manage.py run_upstream --category {category}`",
                    )
                )
        return said
