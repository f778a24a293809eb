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
        for _ in range(5):
            await exchange.say("linear", trades.topic, trades.trade())
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
        for one in (short, bybit):  # those that Redis lost have been brought back
            await one.until(lambda o=one: o.followers[trades.topic].position == 6, "six trades")
        late = await stack.enter_async_context(client(relay.url("/ws")))
        await late.subscribe(book.topic)
        await assert_right(late, book)
        assert bybit.notices == []
        assert exchange.asked("subscribe", book.topic) == exchange.opened["linear"] == 1


async def test_trades_that_cannot_be_brought_back_are_counted(
    exchange: StandIn, programs: Programs, redis_server: RedisServer
) -> None:
    trades = TradesFeed("BTCUSDT")
    worker = programs.upstream(exchange.url, redis_server.url, **QUICK)
    relay = await programs.daphne(exchange.url, REDIS_URL=redis_server.url, **QUICK)
    worker.may_complain = relay.program.may_complain = True
    async with client(relay.url("/ws")) as one:
        await one.subscribe(trades.topic)
        await exchange.say("linear", trades.topic, trades.trade())
        await one.until(lambda: one.followers[trades.topic].position == 1, "a trade")
        await asyncio.to_thread(redis_server.kill)
        await one.until(lambda: statuses(one) == ["down"], "status down")
        for _ in range(40):
            await exchange.say("linear", trades.topic, trades.trade(rows=2))
        await asyncio.to_thread(redis_server.start)
        await one.until(lambda: statuses(one)[-1] == "live", "status live", 30)
        await exchange.say("linear", trades.topic, trades.trade())

        def accounted() -> int:
            dropped = [n["dropped"] for n in one.notices if n["type"] == "gap"]
            return (one.followers[trades.topic].position or 0) + sum(dropped)

        await one.until(lambda: accounted() >= 82, "82 trades or word of them")
        assert accounted() == 82
