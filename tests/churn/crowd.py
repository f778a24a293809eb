"""A crowd: some visitors of every kind, each of which comes again when its visit has ended."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from random import Random

from tests.churn.house import House
from tests.churn.kinds import KINDS, OVERSTAY, Visit

GRACE = 30.0  # seconds in which a visit that is to end does; after that its socket is closed
PAUSE = (0.02, 0.3)  # seconds from a visit to the next of the same visitor


class Crowd:
    """The visitors of one round.

    Attributes:
        visits: How many there were, by kind.
        did: How many of them did what their kind is for.
        cut: How many the relay ended in the middle of what they did, by kind.
    """

    def __init__(self, house: House, random: Random, each: int, kinds: Iterable[str]) -> None:
        self.visits: Counter[str] = Counter()
        self.did: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        self._over = asyncio.Event()
        self._released = asyncio.Event()
        self._leaving: list[asyncio.Task[None]] = []
        self._staying: list[asyncio.Task[None]] = []
        for kind in kinds:
            for number in range(each):
                visit = Visit(
                    kind,
                    house.webs[number % len(house.webs)].port,
                    house.cookie,
                    Random(random.random()),
                    self._over,
                    self._released,
                    self.did,
                )
                task = asyncio.create_task(self._come_and_go(visit), name=f"{kind} {number}")
                (self._staying if kind in OVERSTAY else self._leaving).append(task)

    async def _come_and_go(self, visit: Visit) -> None:
        while not self._over.is_set():
            self.visits[visit.kind] += 1
            try:
                await KINDS[visit.kind](visit)
            except OSError:
                self.cut[visit.kind] += 1
            await visit.pause(*PAUSE)

    async def leave(self) -> None:
        """Have all leave but those who overstay; return when they have."""
        self._over.set()
        await _end(self._leaving)

    async def release(self) -> None:
        """Have those leave, too, that the relay should have let go by now."""
        self._over.set()
        self._released.set()
        await _end([*self._leaving, *self._staying])


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for visits to end; raise what broke one of them, other than the connection."""
    _, late = await asyncio.wait(tasks, timeout=GRACE)
    for task in late:
        task.cancel()
    for task, found in zip(
        tasks, await asyncio.gather(*tasks, return_exceptions=True), strict=True
    ):
        if isinstance(found, Exception):
            raise AssertionError(f"{task.get_name()} broke") from found
