"""Churn for as long as wanted: `make soak`, or `python -m tests.churn.soak --seconds 600`.

Prints a line for each round and a table at the end. Ends with status 1 if anything did not come
back: an object, a task, a file, a group, a key, a subscription, or memory. Times are told and not
judged but for one: after any single fault every book is to be right within ten seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import re
import resource
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

from tests.churn import rooms
from tests.churn.faults import faults_of
from tests.churn.house import House, Mode, opened
from tests.churn.inside import Look
from tests.churn.readers import Readers
from tests.churn.rounds import Round, first_look, play, until_empty

RIGHT_WITHIN = 10.0  # seconds after a fault: the relay's promise
LONGEST_STOP = 0.25  # seconds: the aim
MEMORY_MAY_GROW = 0.10  # of what there was after the warm-up round, in which all faults occur
EACH = 4  # visitors of each kind at a time
FAULTS_OF_A_ROUND = 4
BETWEEN_FAULTS = 11.0  # seconds: a book that breaks twice within ten is asked for with pauses
ROUND = 60.0  # seconds that a crowd stays at least
PATIENCE = 150.0  # seconds: an idle stranger is let go after a minute, a stalled client after half
SHOWN = 40  # names of what did not come back
# What the table counts, and in which names of a look it is found. Readers stay until the end.
COUNTS = {
    "clients": r": clients\{",
    "subscriptions of clients": r": subscriptions$",
    "topics upstream": r"^exchange: ",
    "channels in Redis": r": redis channel",
    "keys in Redis": r": redis key",
    "objects of the relay": r": objects relay\.",
    "tasks": r": tasks ",
    "open files": r": files ",
}


@dataclass
class Totals:
    """What all rounds of one mode add up to."""

    mode: Mode
    rounds: int = 0
    clients: int = 0
    warm: dict[str, float] = field(default_factory=dict)
    end: dict[str, float] = field(default_factory=dict)
    stops: dict[str, float] = field(default_factory=dict)
    right_after: dict[str, float] = field(default_factory=dict)
    start: Look = field(default_factory=dict)
    last: Look = field(default_factory=dict)
    complaints: dict[str, str] = field(default_factory=dict)

    def add(self, found: Round) -> None:
        """Take what one round was."""
        self.rounds += 1
        self.last = found.end
        self.clients += found.clients
        for name, took in found.right_after.items():
            self.right_after[name] = max(took, self.right_after.get(name, 0.0))
        for role, longest in found.stops.items():
            self.stops[role] = max(longest, self.stops.get(role, 0.0))
        self.complaints |= found.complaints()

    def judge_memory(self) -> None:
        """Complain of processes that have grown since the warm-up round."""
        for role, end in self.end.items():
            if end > self.warm[role] * (1 + MEMORY_MAY_GROW):
                words = f"{end:.0f} MB instead of {self.warm[role]:.0f} MB"
                self.complaints[f"memory of a {role} process"] = words

    def judge_times(self) -> None:
        """Complain of faults that were not made good in time."""
        for name, took in self.right_after.items():
            if took > RIGHT_WITHIN:
                self.complaints[f"after {name}"] = f"a book was not right for {took:.1f} s"


async def soak(mode: Mode, seconds: float, random: Random, *, with_rooms: bool) -> Totals:
    """Have rounds take place for so many seconds, at least one after the warm-up."""
    totals = Totals(mode)
    ends = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        async with opened(mode, Path(folder), random.randrange(1000)) as house:
            async with Readers(house) as readers:
                await readers.until_right(PATIENCE)
                # Before the rooms: their many clients make the relay freeze what there is, and
                # Python shows no frozen object until something takes its place.
                start = totals.start = await first_look(house)
                if with_rooms:
                    await _rooms(house, totals)
                every = random.sample([*faults_of(mode)], len(faults_of(mode)))
                names = itertools.cycle(every)
                while totals.rounds < 2 or time.monotonic() < ends:
                    count = FAULTS_OF_A_ROUND if totals.rounds else len(every)
                    found = await play(
                        house,
                        readers,
                        start,
                        random,
                        each=EACH,
                        seconds=min(ROUND, seconds / 3),
                        faults=list(itertools.islice(names, count)),
                        patience=PATIENCE,
                        between=min(BETWEEN_FAULTS, seconds / 30),
                    )
                    totals.add(found)
                    totals.end = house.memory()
                    totals.warm = totals.warm or totals.end
                    _say(_round(totals, found))
                    for name, words in itertools.islice(found.complaints().items(), SHOWN):
                        _say(f"  not back: {name}: {words}")
            await until_empty(house)
    totals.judge_memory()
    totals.judge_times()
    return totals


async def _rooms(house: House, totals: Totals) -> None:
    grown = await rooms.growth(house, _say)
    _say(f"rooms: {grown:+.1%} of memory after the first {rooms.WARM_UP * rooms.ROOM} clients")
    if grown > rooms.MOST_GROWTH:
        totals.complaints["rooms"] = f"{grown:.1%} more, {rooms.MOST_GROWTH:.0%} allowed"


def _round(totals: Totals, found: Round) -> str:
    right = ", ".join(f"{name} {took:.1f} s" for name, took in found.right_after.items())
    memory = " ".join(f"{size:.0f}" for size in totals.end.values())
    stop = max(found.stops.values(), default=0.0) * 1000
    return (
        f"{totals.mode} {totals.rounds}: {found.clients} clients, right after {right}; "
        f"longest stop {stop:.0f} ms; settled in {found.settled_after:.0f} s; {memory} MB; "
        f"{len(found.complaints()) or 'none'} did not come back"
    )


def _table(totals: Totals) -> str:
    lines = [f"{totals.mode}: {totals.rounds} rounds, {totals.clients} clients"]
    for words, pattern in COUNTS.items():
        before, after = (
            sum(number for name, number in look.items() if re.search(pattern, name))
            for look in (totals.start, totals.last)
        )
        lines.append(f"  {words}: {before:g} at the start, {after:g} at the end")
    for role, end in totals.end.items():
        lines.append(
            f"  memory, {role}: {totals.warm[role]:.1f} MB after the warm-up, {end:.1f} at the end"
        )
    for role, longest in totals.stops.items():
        lines.append(
            f"  longest stop, {role}: {longest * 1000:.0f} ms (aim {LONGEST_STOP * 1000:.0f})"
        )
    for name, took in sorted(totals.right_after.items(), key=lambda item: -item[1]):
        lines.append(f"  right after {name}: {took:.1f} s at worst")
    complaints = list(totals.complaints.items())
    lines += [f"  NOT BACK {name}: {words}" for name, words in complaints[:SHOWN]]
    if len(complaints) > SHOWN:
        lines.append(f"  and {len(complaints) - SHOWN} more")
    return "\n".join(lines if complaints else [*lines, "  everything came back"])


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


async def _run(seconds: float, seed: int, modes: list[Mode], *, with_rooms: bool) -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    random = Random(seed)
    found = []
    for mode in modes:
        is_first = mode is Mode.ONE
        share = seconds / len(modes)
        found.append(await soak(mode, share, random, with_rooms=with_rooms and is_first))
    for totals in found:
        print(_table(totals), flush=True)
    return int(any(totals.complaints for totals in found))


def main() -> None:
    """Read the options, run, and end with a status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mode", type=Mode, action="append", choices=list(Mode))
    parser.add_argument("--no-rooms", action="store_true", help="leave out the rooms at the start")
    options = parser.parse_args()
    modes = options.mode or list(Mode)
    with_rooms = not options.no_rooms
    sys.exit(asyncio.run(_run(options.seconds, options.seed, modes, with_rooms=with_rooms)))


if __name__ == "__main__":
    main()
