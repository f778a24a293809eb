"""An upstream worker and two web processes as programs of their own, over a real Redis."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from random import Random

import pytest

from tests.e2e.client import Client, client
from tests.e2e.house import House
from tests.e2e.reference import follow
from tests.e2e.stand_in import BookFeed, StandIn, TickerFeed, TradesFeed
from tests.e2e.steps import QUICK, assert_forwarded, assert_right, listed, moves, statuses
from tests.processes import PATIENCE, Programs, until
from tests.stopwatch import Stopwatch

LEASE = 6.0  # seconds until a web process that says nothing is forgotten


@pytest.fixture
async def house(exchange: StandIn, programs: Programs, redis_url: str) -> House:
    worker = programs.upstream(exchange.url, redis_url, **QUICK)
    webs = await asyncio.gather(
        *(programs.daphne(exchange.url, REDIS_URL=redis_url, **QUICK) for _ in range(2))
    )
    return House(worker, list(webs))


async def test_clients_of_two_web_processes_hold_one_book_over_one_subscription(
    house: House, exchange: StandIn
) -> None:
    book, ticker, trades = BookFeed("BTCUSDT"), TickerFeed("BTCUSDT"), TradesFeed("BTCUSDT")
    listed(exchange, "linear", book, ticker)
    topics, random = [book.topic, ticker.topic, trades.topic], Random(5)
    doors = ("/ws?category=linear", "/v5/public/linear")
    async with AsyncExitStack() as stack:
        clients: list[Client] = []
        for number in range(8):
            url = house.webs[number % 2].url(doors[number // 2 % 2])
            one = await stack.enter_async_context(client(url))
            clients.append(one)
            joining = asyncio.create_task(one.subscribe(*topics))
            if number == 0:
                await exchange.until_followed("linear", *topics)
            for _ in range(random.randrange(10, 30)):
                await moves(exchange, "linear", book, 1)
                await moves(exchange, "linear", ticker, 1)
                await exchange.say("linear", trades.topic, trades.trade())
            await joining
        await moves(exchange, "linear", book, 5)
        for one in clients:
            await assert_right(one, book)
            await one.until_at(ticker.topic, ticker.cs)
            assert_forwarded(one.followers[book.topic], exchange.said["linear", book.topic])
            assert_forwarded(one.followers[ticker.topic], exchange.said["linear", ticker.topic])
            assert one.notices == []
        said = exchange.said["linear", trades.topic]
        assert said[-1] == clients[0].followers[trades.topic].texts[-1]
        assert sorted(exchange.topics("linear")) == sorted(topics)
        for topic in topics:
            assert exchange.asked("subscribe", topic) == 1
        assert exchange.opened["linear"] == 1


async def test_a_symbol_that_no_group_can_be_named_after_crosses_redis(
    house: House, exchange: StandIn
) -> None:
    books = [BookFeed("SOLUSDT_SOL/USDT"), BookFeed("SOLUSDT/SOL_USDT")]
    listed(exchange, "linear", *books)
    async with client(house.webs[0].url("/v5/public/linear")) as one:
        await one.subscribe(*(book.topic for book in books))
        for book in books:
            await moves(exchange, "linear", book, 5)
        for book in books:
            await assert_right(one, book)


async def test_topics_of_a_killed_web_process_are_unsubscribed_after_its_lease(
    house: House, exchange: StandIn
) -> None:
    book, other = BookFeed("BTCUSDT"), BookFeed("ETHUSDT")
    listed(exchange, "linear", book, other)
    async with AsyncExitStack() as stack:
        doomed = await stack.enter_async_context(client(house.webs[0].url()))
        one = await stack.enter_async_context(client(house.webs[1].url()))
        await doomed.subscribe(book.topic, other.topic)
        await one.subscribe(other.topic)
        await assert_right(one, other)
        with Stopwatch(house.worker.process.pid) as watch:
            house.webs[0].program.kill()
            assert await doomed.until_closed() == 1006
            await exchange.until(lambda: exchange.topics("linear") == [other.topic], "unsubscribed")
        assert watch.seconds < LEASE + 6
        await moves(exchange, "linear", other, 3)
        await assert_right(one, other)
        assert exchange.asked("subscribe", other.topic) == 1
        assert one.notices == []


async def test_a_web_process_that_stops_takes_its_demand_back_at_once(
    house: House, exchange: StandIn
) -> None:
    async with client(house.webs[0].url()) as one:
        await one.subscribe("publicTrade.BTCUSDT")
        web = house.webs[0].program
        with Stopwatch(web.process.pid, house.worker.process.pid) as watch:
            web.signal(signal.SIGTERM)
            assert await one.until_closed() == 4200
            assert await web.end() == 0
            await exchange.until(lambda: exchange.topics("linear") == [], "unsubscribed")
        assert watch.seconds < LEASE


async def test_clients_outlive_a_killed_worker_and_get_fresh_snapshots_from_the_next(
    house: House, exchange: StandIn, programs: Programs, redis_url: str
) -> None:
    book, trades = BookFeed("BTCUSDT"), TradesFeed("BTCUSDT")
    listed(exchange, "linear", book)
    async with AsyncExitStack() as stack:
        native = await stack.enter_async_context(client(house.webs[0].url()))
        bybit = await stack.enter_async_context(client(house.webs[1].url("/v5/public/linear")))
        for one in (native, bybit):
            await one.subscribe(book.topic, trades.topic)
            await assert_right(one, book)
        await moves(exchange, "linear", book, 3)
        await assert_right(native, book)
        house.worker.kill()
        await native.until(lambda: statuses(native) == ["down"], "status down")
        late = await stack.enter_async_context(client(house.webs[0].url()))
        await late.subscribe(book.topic)
        await late.ask({"method": "ping"})
        assert late.followers[book.topic].texts == []
        for _ in range(3):
            book.delta()
        programs.upstream(exchange.url, redis_url, **QUICK)
        await native.until(lambda: statuses(native) == ["down", "live"], "status live")
        await exchange.until_followed("linear", book.topic, trades.topic)
        await moves(exchange, "linear", book, 3)
        await exchange.say("linear", trades.topic, trades.trade())
        for one in (native, bybit, late):
            await assert_right(one, book)
        for one in (native, bybit):
            assert one.followers[book.topic].types.count("snapshot") == 2
            await one.until(lambda o=one: o.followers[trades.topic].texts, "a trade")
        assert late.followers[book.topic].types[0] == "snapshot"
        assert bybit.notices == []
        assert exchange.opened["linear"] == 2


async def test_a_worker_that_is_restarted_in_a_blink_is_followed_as_well(
    house: House, exchange: StandIn, programs: Programs, redis_url: str
) -> None:
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    async with client(house.webs[0].url("/v5/public/linear")) as one:
        await one.subscribe(book.topic)
        for _ in range(2):
            await moves(exchange, "linear", book, 3)
            await assert_right(one, book)
            opened = exchange.opened["linear"]
            house.worker.kill()
            book.delta()
            house.worker = programs.upstream(exchange.url, redis_url, **QUICK)
            await exchange.until(lambda o=opened: exchange.opened["linear"] > o, "connected")
            await exchange.until_followed("linear", book.topic)
        await moves(exchange, "linear", book, 3)
        await assert_right(one, book)
        assert one.followers[book.topic].types.count("snapshot") == 3


async def test_a_gap_resyncs_one_topic_for_the_clients_of_both_web_processes(
    house: House, exchange: StandIn
) -> None:
    book, other = BookFeed("BTCUSDT"), BookFeed("ETHUSDT")
    listed(exchange, "linear", book, other)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client(web.url())) for web in house.webs]
        for one in clients:
            await one.subscribe(book.topic, other.topic)
            await assert_right(one, book)
        book.delta()
        await moves(exchange, "linear", book, 1)
        await exchange.until(lambda: exchange.asked("subscribe", book.topic) == 2, "a resync")
        await moves(exchange, "linear", book, 3)
        for one in clients:
            await assert_right(one, book)
            await assert_right(one, other)
            assert one.followers[book.topic].types.count("snapshot") == 2
            assert one.followers[other.topic].types == ["snapshot"]
        assert exchange.asked("unsubscribe", book.topic) == 1


async def test_a_refusal_reaches_the_askers_in_both_web_processes_and_nobody_else(
    house: House, exchange: StandIn
) -> None:
    bad, words = "tickers.NOPEUSDT", "error:handler not found,topic:tickers.NOPEUSDT"
    exchange.refused["linear", bad] = words
    request = {"method": "subscribe", "topic": "ticker", "symbol": "NOPEUSDT"}
    async with AsyncExitStack() as stack:
        bystander = await stack.enter_async_context(client(house.webs[0].url()))
        await bystander.subscribe("publicTrade.BTCUSDT")
        for web in house.webs:
            one = await stack.enter_async_context(client(web.url()))
            reply = await one.ask(request)
            assert reply["error"] == {"code": "refused_by_exchange", "message": words}
        assert len(bystander.replies) == 1
        assert exchange.asked("subscribe", bad) == 1


async def test_the_worker_without_redis_refuses_with_one_sentence(
    exchange: StandIn, programs: Programs
) -> None:
    worker = programs.upstream(exchange.url, "")
    assert await worker.end() == 2
    lines = worker.output.strip().splitlines()
    assert len(lines) == 1
    assert "REDIS_URL" in lines[0]
    assert exchange.opened.total() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_worker_with_status_0_and_readers_are_told(
    number: signal.Signals, house: House, exchange: StandIn
) -> None:
    async with client(house.webs[0].url()) as one:
        await one.subscribe("publicTrade.BTCUSDT")
        with Stopwatch(house.worker.process.pid) as watch:
            house.worker.signal(number)
            assert await house.worker.end() == 0
        assert watch.seconds < 5
        await one.until(lambda: statuses(one) == ["down"], "status down")
        assert house.worker.survivors() == []
        await until(lambda: not exchange.lines, PATIENCE, "the connection to the exchange is gone")


async def test_a_worker_without_an_exchange_still_stops_at_once(
    programs: Programs, redis_url: str
) -> None:
    worker = programs.upstream("ws://127.0.0.1:1/v5/public", redis_url)
    web = await programs.daphne("ws://127.0.0.1:1/v5/public", REDIS_URL=redis_url)
    async with client(web.url()) as one:
        await one.subscribe("publicTrade.BTCUSDT")
        with Stopwatch(worker.process.pid) as watch:
            worker.signal(signal.SIGTERM)
            assert await worker.end() == 0
        assert watch.seconds < 5


def test_the_feeds_of_these_tests_obey_the_reference() -> None:
    book = BookFeed("BTCUSDT")
    texts = [book.snapshot(), *(book.delta() for _ in range(200))]
    assert follow(book.topic, texts).position == book.u == 5200
