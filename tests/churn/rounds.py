"""A round of churn: a crowd comes, faults befall the relay, all leave, everything comes back."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from random import Random

from tests.churn.crowd import Crowd
from tests.churn.faults import faults_of
from tests.churn.house import House, until_so
from tests.churn.inside import Look, least, most, stayed
from tests.churn.kinds import KINDS, PAGES, Line
from tests.churn.readers import Readers

BETWEEN_LOOKS = 1.0
SETTLED_WITHIN = 90.0  # seconds from the end of a round until all is back; more is a leak
LOOKS_AT_START = 3


@dataclass
class Round:
    """What a round was, and what it left.

    Attributes:
        clients: How many came and went.
        missing: Kinds of which no visit did what it is for.
        right_after: Seconds from the end of each fault until every book was right, by its name.
        stayed: What there is more of than at the start, with both figures.
        settled_after: Seconds from the end of the round until all was back.
        stops: The longest stop of the event loop, in seconds, by role.
        end: How much there was of everything at the end.
    """

    clients: int = 0
    missing: list[str] = field(default_factory=list)
    right_after: dict[str, float] = field(default_factory=dict)
    stayed: dict[str, tuple[float, float]] = field(default_factory=dict)
    settled_after: float = 0.0
    stops: dict[str, float] = field(default_factory=dict)
    end: Look = field(default_factory=dict)

    def complaints(self) -> dict[str, str]:
        """Return what did not come back, and in words how much of it."""
        found = {
            name: f"{end:g} instead of {start:g}" for name, (start, end) in self.stayed.items()
        }
        return found | {f"visits: {kind}": "none did what it is for" for kind in self.missing}


async def first_look(house: House) -> Look:
    """Return how much there is of everything before a crowd comes.

    Each page has been asked for before: what a process imports with the first stays for good.
    """
    for web in house.webs:
        line = Line()
        try:
            await line.connect(web.port)
            for page in PAGES:
                await line.get(page)
        finally:
            line.close()
    looks = [await house.look(collect=True)]
    for _ in range(LOOKS_AT_START):
        await asyncio.sleep(BETWEEN_LOOKS)
        looks.append(await house.look(collect=False))
    looks.append(await house.look(collect=True))
    return most(looks)


async def play(
    house: House,
    readers: Readers,
    start: Look,
    random: Random,
    *,
    each: int,
    seconds: float,
    faults: Iterable[str],
    kinds: Collection[str] = tuple(KINDS),
    patience: float = SETTLED_WITHIN,
    between: float = 1.0,
) -> Round:
    """Have a round take place.

    Args:
        start: What is to be there afterwards.
        each: Visitors of each kind at a time.
        seconds: That the crowd stays at least.
        faults: What befalls the relay meanwhile, one after the other.
        patience: Seconds in which every book has to be right after a fault, and all has to be back
            after the round.
        between: Seconds before each fault.
    """
    found = Round()
    await house.stops()
    began = time.monotonic()
    crowd = Crowd(house, random, each, kinds)
    try:
        for name in faults:
            await asyncio.sleep(between)
            await faults_of(house.mode)[name](house, random)
            took = await readers.until_right(patience)
            found.right_after[name] = max(took, found.right_after.get(name, 0.0))
        await asyncio.sleep(began + seconds - time.monotonic())
        await crowd.leave()
        found.stops = await house.stops()
        found.clients = crowd.visits.total()
        await _settle(house, start, found, patience)
    finally:
        await crowd.release()
    found.missing = [kind for kind in kinds if not crowd.did[kind]]
    return found


async def _settle(house: House, start: Look, found: Round, patience: float) -> None:
    """Look until all is back: first as it is, then after the collector has run."""
    began = time.monotonic()
    for collect in (False, True):
        looks: list[Look] = []
        gives_up = time.monotonic() + patience
        while True:
            looks.append(await house.look(collect=collect))
            left = stayed(start, least(looks), found.clients)
            if not left or time.monotonic() > gives_up:
                break
            await asyncio.sleep(BETWEEN_LOOKS)
        found.stayed |= left
        found.end = least(looks)
    found.settled_after = time.monotonic() - began


async def until_empty(house: House) -> None:
    """Return when nothing is wanted of the exchange and nobody is connected.

    Call it when the last reader has left.
    """

    async def is_empty() -> bool:
        look = await house.look(collect=False)
        names = [name for name, number in look.items() if number]
        return not any(
            re.match(r"exchange: |web: (clients|subscriptions|topics)", n) for n in names
        )

    await until_so(is_empty, "nobody is connected and nothing is subscribed")
