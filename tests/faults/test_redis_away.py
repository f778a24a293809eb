"""Redis goes away and comes back under the relay."""

from __future__ import annotations

import asyncio

from tests.e2e.client import client
from tests.e2e.stand_in import StandIn, TradesFeed
from tests.e2e.steps import QUICK, statuses
from tests.processes import Programs
from tests.redis_server import RedisServer


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
        await one.until(lambda: statuses(one)[-1] == "live", "status live")
        await exchange.say("linear", trades.topic, trades.trade())

        def accounted() -> int:
            dropped = [n["dropped"] for n in one.notices if n["type"] == "gap"]
            return (one.followers[trades.topic].position or 0) + sum(dropped)

        await one.until(lambda: accounted() >= 82, "82 trades or word of them")
        assert accounted() == 82
