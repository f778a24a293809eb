"""Two relays of different `RELAY_PREFIX` on one Redis."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from tests.e2e.client import client
from tests.e2e.stand_in import BookFeed, StandIn
from tests.e2e.steps import QUICK, assert_right, listed, moves
from tests.processes import Programs

OTHER = "second-relay"


async def names(redis_url: str) -> set[str]:
    """Return what the groups and keys in a Redis begin with."""
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        groups = [name.partition("__group__") for name in await redis.pubsub_channels()]
        keys = await redis.keys()
    begin = {group.partition(".")[0] for _, marker, group in groups if marker}
    assert len(begin) == 2, groups
    return begin | {key.partition(":")[0] for key in keys}


async def test_two_relays_on_one_redis_do_not_hear_each_other(
    exchange: StandIn, programs: Programs, redis_url: str
) -> None:
    async with StandIn() as other:
        relays = ((exchange, {}), (other, {"RELAY_PREFIX": OTHER}))
        books = []
        for source, prefix in relays:
            programs.upstream(source.url, redis_url, **QUICK, **prefix)
            book = BookFeed("BTCUSDT")
            listed(source, "linear", book)
            await moves(source, "linear", book, 10 * (1 + len(books)))
            books.append(book)
        webs = await asyncio.gather(
            *(
                programs.daphne(source.url, REDIS_URL=redis_url, **QUICK, **prefix)
                for source, prefix in relays
            )
        )
        url = "/ws?category=linear"
        async with client(webs[0].url(url)) as one, client(webs[1].url(url)) as two:
            for reader, book in zip((one, two), books, strict=True):
                await reader.subscribe(book.topic)
                await assert_right(reader, book)
            assert books[0].u != books[1].u
            for number in (7, 3):
                for (source, _), book in zip(relays, books, strict=True):
                    await moves(source, "linear", book, number)
                for reader, book in zip((one, two), books, strict=True):
                    await assert_right(reader, book)
                    assert reader.notices == []
        for (source, _), book in zip(relays, books, strict=True):
            assert source.asked("subscribe", book.topic) == 1
        assert await names(redis_url) == {"marketfeed", OTHER}
