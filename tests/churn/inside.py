"""What the relay's processes hold, and what of it did not come back.

A `Look` is taken of the whole installation: of its processes (through `hook/sitecustomize.py`), of
Redis and of the exchange. Looks are compared name by name, so that what stayed has a name.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HOOK = Path(__file__).with_name("hook")
ANSWER_WITHIN = 120.0  # seconds
MOST_ANSWER = 2**26  # bytes

Look = dict[str, float]
"""How much there is of each thing, by its name."""

# Of these not one more may stay than there was. Of all else, which Python and libraries keep for
# themselves, a few may: see `NOISE`.
EXACT = re.compile(
    r"(clients|visitors|upstream|redis|subscriptions|topics|unsent|collections|tasks|files|garbage)"
    r"|(objects|uncollected) (?!.*(Call|Handle)$)"  # timers that were cancelled stay for a while
    r"(relay|daphne|twisted|channels)\b"
)
ORDER = ("clients", "visitors", "upstream", "redis", "collections", "tasks", "files", "")
"""What is told first when it stayed."""

# What reference counting must free in a web process: what waits for the collector there may wait
# for long. Requests for pages and connections to the exchange are left to it: the first die young,
# the second are few. So are envelopes: the failures of a Redis that is away keep the last ones.
COUNTED = re.compile(
    r"(?!.*\.(_Request|_Socket|RedisLink)\b)(?!relay\.seam\.envelopes\.)"
    r"(relay|daphne\.ws_protocol)\."
)
NOISE = 0.1  # of the clients that came and went: how many objects of Python's own types may stay

# Collections of what happened, and of the data of books that go on: what each process may have in
# them, whatever there was at the start.
BOUNDED = {
    "EventLog._kept": 200,
    "EventLog._kept[]": 2_000,
    "EventLog._second": 20,
    "SharedLog._kept": 200,
    "SharedLog._seen": 200,
    "Overview._history": 40,
    "Overview._history[]": 40 * 300,
    "Counters.closes": 40,
    "Counters.connections": 4,
    "WebProcess.ways": 8,
    "Counters.refusals": 40,
    "CategoryUpstream._left_at": 4 * 20_000,
    "CategoryUpstream._refused": 4 * 10_000,
    "Seldom._last": 40,
    "Buckets._buckets": 10_000,
    "KeptPages._kept": 64,
    "_Roll._arrivals": 50,
    "_Roll._missing": 50,
    "urls.urlpatterns": 10,
    # redis-py opens one more connection for a command while the others are in use, and keeps it for
    # good, even when Redis has closed it. In a worker each of four categories asks for its lease,
    # and its connection to the exchange for a turn: they never ask for two things at once.
    "pooled connections": 8,
}
DATA = ("_Side._levels", "_Side._spellings", "BookImage._pending")
DATA_MAY_GROW = 4.0  # times: a book has more levels at one time than at another


async def ask(folder: Path, pid: int, what: str) -> dict[str, Any]:
    """Ask a process, once its event loop runs: see `hook/sitecustomize.py` for what."""
    socket = folder / str(pid)
    async with asyncio.timeout(ANSWER_WITHIN):
        while not (socket.exists() and (answer := await _ask(socket, what))):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert "fault" not in answer, f"process {pid}: {answer['fault']}"
    return answer


async def _ask(socket: Path, what: str) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(socket, limit=MOST_ANSWER)
    try:
        writer.write(what.encode() + b"\n")
        answer: dict[str, Any] = json.loads(await reader.readline())
        return answer
    finally:
        writer.close()
        await writer.wait_closed()


def flat(answer: Mapping[str, Any], *, is_collected: bool, is_counted: bool) -> Look:
    """Return what one process answered, by name.

    Args:
        is_collected: Whether the answer is that to `collect`: only then all objects count.
        is_counted: Whether reference counting has to free its objects.
    """
    look: Look = {
        "garbage": answer["garbage"],
        "timers": answer["timers"],
        "pooled connections": answer["pooled"],
    }
    for part in ("visitors", "tasks"):
        look |= {f"{part} {name}": number for name, number in answer[part].items()}
    for part, prefix in (("collections", "collections"), ("objects", "uncollected")):
        for name, number in answer[part].items():
            if is_collected:
                look[f"{part} {name}"] = number
            elif is_counted and COUNTED.match(name):
                look[f"{prefix} {name}"] = number
    return look


def files(pid: int, pooled: float) -> Look:
    """Return the open files of a process, by kind.

    Args:
        pooled: How many of its sockets are of pools of redis-py, which have a bound of their own.
    """
    found: Counter[str] = Counter()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            kind, colon, _ = os.readlink(entry.path).partition(":")
            found[f"files {kind if colon else 'regular'}"] += 1
        except FileNotFoundError:
            continue  # closed meanwhile
    return dict(found) | {"files socket": found["files socket"] - pooled}


def memory(pid: int) -> float:
    """Return the megabytes of a process that lie in memory."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) / 1024


def least(looks: Iterable[Look]) -> Look:
    """Return the least of each thing: what is on its way in one look is gone in another."""
    looks = list(looks)
    return {name: min(look.get(name, 0) for look in looks) for look in looks for name in look}


def most(looks: Iterable[Look]) -> Look:
    """Return the most of each thing."""
    looks = list(looks)
    return {name: max(look.get(name, 0) for look in looks) for look in looks for name in look}


def stayed(start: Look, end: Look, clients: int) -> dict[str, tuple[float, float]]:
    """Return what there is more of than at the start, with both figures.

    Args:
        clients: How many came and went in between.
    """
    found = {
        name: (start.get(name, 0), number)
        for name, number in end.items()
        if number > _most_allowed(name, start, end, clients)
    }
    return dict(sorted(found.items(), key=lambda item: _rank(item[0])))


def _most_allowed(name: str, start: Look, end: Look, clients: int) -> float:
    role, _, thing = name.partition(": ")
    before = start.get(name, 0)
    short = ".".join(thing.split(".")[-2:])
    if short in BOUNDED:
        return BOUNDED[short] * start[f"{role}: processes"]
    if short in DATA:
        return before * DATA_MAY_GROW
    if EXACT.match(thing):
        return before
    # Each entry of what happened is an object or two of Python's own.
    entries = sum(
        max(0, number - start.get(other, 0))
        for other, number in end.items()
        if other.startswith(f"{role}: ") and ".".join(other.split(".")[-2:]) in BOUNDED
    )
    return before + max(20, NOISE * clients) + entries


def _rank(name: str) -> tuple[int, str]:
    thing = name.partition(": ")[2]
    return next(place for place, word in enumerate(ORDER) if thing.startswith(word)), name
