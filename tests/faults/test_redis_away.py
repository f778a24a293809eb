"""Redis goes away and comes back under the relay."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.e2e.client import client
from tests.e2e.stand_in import BookFeed, StandIn, TradesFeed
from tests.e2e.test_upstream import QUICK, assert_right, listed, moves, statuses
from tests.processes import Programs
from tests.redis_server import RedisServer


@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_clients_outlive_a_redis_that_is_restarted_and_hold_the_right_book_again(
    way: str, exchange: StandIn, programs: Programs, redis_server: RedisServer
) -> None:
    book, trades = BookFeed("BTCUSDT"), TradesFeed("BTCUSDT")
    listed(exchange, "linear", book)
    worker = programs.upstream(exchange.url, redis_server.url, **QUICK)
    relay = await programs.daphne(exchange.url, REDIS_URL=redis_server.url, **QUICK)
    worker.may_complain = relay.program.may_complain = True  # of a layer that is away
    async with AsyncExitStack() as stack:
        short = await stack.enter_async_context(client(relay.url("/ws")))
        bybit = await stack.enter_async_context(client(relay.url("/v5/public/linear")))
        for one in (short, bybit):
            await one.subscribe(book.topic, trades.topic)
            await moves(exchange, "linear", book, 3)
            await assert_right(one, book)
        await asyncio.to_thread(getattr(redis_server, way))
        await moves(exchange, "linear", book, 5)
        request = {"method": "subscribe", "topic": "publicTrade", "symbol": "NEWUSDT"}
        await short.until(lambda: short.notices, "told that upstream is out of reach")
        reply = await short.ask(request)
        assert reply["error"]["code"] == "upstream_unavailable"
        await asyncio.to_thread(redis_server.start)

        await short.until(lambda: statuses(short)[-1] == "live", "status live", 30)
        for one in (short, bybit):
            await assert_right(one, book)  # without another message of the exchange
        await moves(exchange, "linear", book, 3)
        for one in (short, bybit):
            await assert_right(one, book)
        await exchange.say("linear", trades.topic, trades.trade())
        await bybit.until(lambda: bybit.followers[trades.topic].texts, "a trade")
        late = await stack.enter_async_context(client(relay.url("/ws")))
        await late.subscribe(book.topic)
        await assert_right(late, book)
        assert bybit.notices == []
        assert exchange.asked("subscribe", book.topic) == exchange.opened["linear"] == 1
