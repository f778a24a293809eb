"""Which topics anyone still wants, told by processes that may die unannounced.

Every web process repeats its whole interest at intervals. One that stops repeating
is forgotten when its lease runs out, so no count can leak.
"""

from __future__ import annotations

from collections.abc import Iterable

from relay.lib import timing


class DemandLeases:
    """The topics of one category that are wanted, by text.

    A topic lingers for `linger` seconds after a process last said to want it; a reader who
    comes back within that time costs the exchange nothing.
    """

    def __init__(self) -> None:
        self._wants: dict[str, set[str]] = {}  # process -> topics
        self._renewed: dict[str, float] = {}  # process -> time
        self._wanted_at: dict[str, float] = {}  # topic -> when a process last said so
        self._holders: dict[str, int] = {}  # topic -> processes that want it
        self._lingering: dict[str, None] = {}  # topics that no process wants, longest first

    def renew(self, process: str, topics: Iterable[str], now: float) -> None:
        """Take a process's whole interest; what it leaves out it no longer wants."""
        wanted = set(topics)
        self.drop(process, self._wants.get(process, set()) - wanted, now)
        self.add(process, wanted, now)
        if not wanted:
            self._forget(process)

    def add(self, process: str, topics: Iterable[str], now: float) -> None:
        """Take further topics that a process wants."""
        self._renewed[process] = now
        held = self._wants.setdefault(process, set())
        for topic in topics:
            self._wanted_at[topic] = now
            if topic not in held:
                held.add(topic)
                self._lingering.pop(topic, None)
                self._holders[topic] = self._holders.get(topic, 0) + 1

    def drop(self, process: str, topics: Iterable[str], now: float) -> None:
        """Take topics that a process no longer wants."""
        held = self._wants.get(process, set())
        for topic in list(topics):
            if topic in held:
                held.remove(topic)
                self._wanted_at[topic] = now
                self._release(topic)

    def extend_leases(self, now: float) -> None:
        """Begin every lease again: what processes say could not be received until now."""
        self._renewed = dict.fromkeys(self._renewed, now)

    def expire(self, now: float, linger: float) -> list[str]:
        """Forget processes whose lease ran out; return the topics that are wanted no more."""
        for process, renewed in list(self._renewed.items()):
            if now - renewed > timing.DEMAND_LEASE:
                self._forget(process)
        gone = [topic for topic in self._lingering if now - self._wanted_at[topic] >= linger]
        for topic in gone:
            self.let_go(topic)
        return gone

    def longest_lingering(self) -> tuple[float, str] | None:
        """Return the topic that has lingered longest, and when a process last wanted it."""
        topic = next(iter(self._lingering), None)
        return None if topic is None else (self._wanted_at[topic], topic)

    def let_go(self, topic: str) -> None:
        """Have a topic linger no longer."""
        if topic in self._lingering:
            del self._lingering[topic], self._wanted_at[topic]

    def wanted(self) -> int:
        """Return how many topics some process wants now."""
        return len(self._holders)

    def holders(self, topic: str) -> int:
        """Return how many processes want the topic now."""
        return self._holders.get(topic, 0)

    def __contains__(self, topic: str) -> bool:
        """Whether the topic is wanted or lingers."""
        return topic in self._wanted_at

    def __len__(self) -> int:
        return len(self._wanted_at)

    def _forget(self, process: str) -> None:
        for topic in self._wants.pop(process, set()):
            self._release(topic)
        self._renewed.pop(process, None)

    def _release(self, topic: str) -> None:
        self._holders[topic] -= 1
        if not self._holders[topic]:
            del self._holders[topic]
            self._lingering[topic] = None
