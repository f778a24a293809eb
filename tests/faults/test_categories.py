"""Categories spread over workers: each has a leader of its own, and falls alone."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from tests.e2e.client import client
from tests.e2e.stand_in import BookFeed, StandIn
from tests.e2e.steps import assert_right, listed, moves, statuses
from tests.faults.house import House, Web, opened, until
from tests.processes import PATIENCE

SHARES = (("linear", "inverse"), ("spot", "option"))


async def test_two_workers_serve_two_categories_each_and_fall_alone(
    exchange: StandIn, tmp_path: Path
) -> None:
    books = {"linear": BookFeed("BTCUSDT"), "spot": BookFeed("BTCUSDT", seed=3)}
    for category, book in books.items():
        listed(exchange, category, book)
    async with (
        opened(tmp_path, exchange.url, shares=SHARES) as house,
        AsyncExitStack() as stack,
    ):
        await house.repair()
        futures, spot = house.workers
        followers = {}
        for category, book in books.items():
            for web in house.webs:
                for door in (f"/ws?category={category}", f"/v5/public/{category}"):
                    one = await stack.enter_async_context(client(web.server.url(door)))
                    await one.subscribe(book.topic)
                    followers[one] = category

        async def all_are_right() -> None:
            for category, book in books.items():
                await moves(exchange, category, book, 3)
            for one, category in followers.items():
                await assert_right(one, books[category])

        await all_are_right()
        for web in house.webs:
            picture = (await house.picture(web))["upstream"]
            leaders = {category: known["worker"] for category, known in picture.items()}
            for worker in (futures, spot):
                for category in worker.categories:
                    assert leaders[category] == house.name(worker)
        opened_before = exchange.opened["linear"]
        spot.program.kill()
        native = [one for one in followers if not one.is_bybit]
        for one in native:
            if followers[one] == "spot":
                await one.until(lambda o=one: statuses(o) == ["down"], "status down")
        for _ in range(3):
            await moves(exchange, "linear", books["linear"], 1)
        await until(lambda: is_down(house), PATIENCE, "spot alone is down")
        await house.restart()
        for one in native:
            if followers[one] == "spot":
                await one.until(lambda o=one: statuses(o) == ["down", "live"], "status live")
        await exchange.until_followed("spot", books["spot"].topic)
        await all_are_right()
        for one, category in followers.items():
            assert one.notices == [] or (category == "spot" and not one.is_bybit)
        assert exchange.opened["linear"] == opened_before == 1
        for category, book in books.items():
            assert exchange.topics(category) == [book.topic]


async def is_down(house: House) -> bool:
    async def states(web: Web) -> dict[str, str]:
        picture = await house.picture(web)
        return {name: known["state"] for name, known in picture["upstream"].items()}

    found = [await states(web) for web in house.webs]
    return all(state["spot"] == "down" and state["linear"] == "live" for state in found)
