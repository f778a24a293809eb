"""Rooms full of clients that come and go in turns, and the memory that they leave behind.

Two rooms overlap, so that each client lives through young runs of the garbage collector, as those
do that stay for minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from tests.churn import inside
from tests.churn.house import House, until_so
from tests.churn.kinds import Line, request

ROOM = 1_500  # clients
ROOMS = 16  # the first four are the warm-up: 6,000 clients, and 18,000 after them
WARM_UP = 4  # from there on 60,000 clients added 5 %, nearly all of it before the twelfth room
MOST_GROWTH = 0.10  # of what there was after the warm-up
PER_ADDRESS = 500  # clients: the relay's default lets a thousand in
AT_A_TIME = 50  # handshakes
STAY = 3.5  # seconds
TOPIC = "orderbook.50.BTCUSDT"


async def growth(house: House, say: Callable[[str], None]) -> float:
    """Return the share by which the memory of a web process grew after the first rooms.

    Args:
        say: Is told how it goes.
    """
    web = house.webs[0]
    before = await house.clients()
    start = now = 0.0

    async def is_left() -> bool:
        return await house.clients() <= before + ROOM

    async with contextlib.AsyncExitStack() as stack:
        previous = await stack.enter_async_context(contextlib.AsyncExitStack())
        for number in range(ROOMS):
            room = await stack.enter_async_context(contextlib.AsyncExitStack())
            await room.enter_async_context(_room(web.port, number))
            await asyncio.sleep(STAY)
            await previous.aclose()
            previous = room
            await until_so(is_left, "the relay has let go of the room before")
            now = inside.memory(web.program.process.pid)
            if number == WARM_UP - 1:
                start = now
            say(f"room {number + 1} of {ROOMS}: {(number + 1) * ROOM} have come, {now:.0f} MB")
    return now / start - 1


@contextlib.asynccontextmanager
async def _room(port: int, number: int) -> AsyncIterator[None]:
    """Clients that follow a topic; they are gone at the end."""
    places = asyncio.Semaphore(AT_A_TIME)
    lines = [Line() for _ in range(ROOM)]

    async def enter(place: int, line: Line) -> None:
        address = f"127.0.{1 + number % 100}.{1 + place // PER_ADDRESS}"
        async with places:
            await line.connect(port, address=address)
            await line.upgrade("/ws?category=linear")
            await line.say(request("/ws", "subscribe", TOPIC))
            await line.read()

    try:
        await asyncio.gather(*(enter(place, line) for place, line in enumerate(lines)))
        yield
    finally:
        for line in lines:
            line.close()
