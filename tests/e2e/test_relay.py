"""The whole way from an exchange's socket to a client's, in one process."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from random import Random

import pytest

from tests.e2e.client import Client, client
from tests.e2e.control import control
from tests.e2e.reference import Candles
from tests.e2e.stand_in import BookFeed, CandlesFeed, StandIn, TickerFeed, TradesFeed
from tests.e2e.steps import assert_continues, assert_forwarded, assert_same_as_exchange
from tests.processes import Programs

LATE_CLIENTS = 4
SYMBOLS = {
    "spot": "BTCUSDT",
    "linear": "BTCUSDT",
    "inverse": "BTCUSD",
    "option": "XRP-25JUN27-0.4-P-USDT",
}
DEPTHS = {"spot": (1, 50, 200, 1000), "linear": (1, 50, 200, 1000), "option": (25, 100)}
DOORS = {"ws": "/ws?category={}", "v5": "/v5/public/{}"}


def topics_of(category: str) -> list[str]:
    symbol = SYMBOLS[category]
    coin = symbol.split("-")[0] if category == "option" else symbol
    depths = DEPTHS.get(category, DEPTHS["linear"])
    books = [f"orderbook.{depth}.{symbol}" for depth in depths]
    candles = [] if category == "option" else [f"kline.1.{symbol}"]
    return [*books, f"publicTrade.{coin}", f"tickers.{symbol}", *candles]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("category", SYMBOLS)
async def test_every_client_holds_the_exchanges_book_and_ticker_whenever_it_joined(
    category: str, door: str, programs: Programs
) -> None:
    random = Random(f"{category} {door}")
    port = await programs.simulator("--rate", "40", "--seed", "7")
    relay = await programs.daphne(f"ws://127.0.0.1:{port}/v5/public")
    topics = topics_of(category)
    url = relay.url(DOORS[door].format(category))
    async with AsyncExitStack() as stack:
        exchange = await stack.enter_async_context(control(port))
        first = await stack.enter_async_context(client(url))
        clients = [first]
        await first.subscribe(*topics)
        for _ in range(LATE_CLIENTS):
            watched = first.followers[topics[0]].texts
            moment = len(watched) + random.randrange(1, 8)
            await first.until(lambda w=watched, m=moment: len(w) >= m, "the market moves")
            late = await stack.enter_async_context(client(url))
            clients.append(late)
            order = random.sample(topics, len(topics))
            await late.subscribe(*order)
        for follower in clients[-1].followers.values():
            await clients[-1].until(lambda f=follower: len(f.texts) > 2, f"{follower.topic} moves")
        await exchange.do("pause")
        for one in clients:
            for topic in topics:
                await assert_same_as_exchange(one, exchange, category, topic)
        for one in clients[1:]:
            for topic in topics:
                assert_continues(first.followers[topic], one.followers[topic])


@pytest.mark.parametrize("door", DOORS)
async def test_messages_are_forwarded_byte_for_byte_after_one_snapshot_that_they_continue(
    door: str, exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url)
    random = Random(door)
    book, ticker = BookFeed("BTCUSDT"), TickerFeed("BTCUSDT")
    odd = '{ "topic":"orderbook.1.BTCUSDT" , "type":"snapshot","ts":1,"n\\u00e9w":"\\u003e é",'
    odd += '"data":{"s":"BTCUSDT","b":[["9.0","1"]],"a":[],"u":%d,"seq":%d} }'
    for feed in (book, ticker):
        exchange.feeds["linear", feed.topic] = feed.greeting
    url = relay.url(DOORS[door].format("linear"))
    topics = [book.topic, ticker.topic, "orderbook.1.BTCUSDT"]
    async with AsyncExitStack() as stack:
        clients: list[Client] = []
        for round_ in range(6):
            one = await stack.enter_async_context(client(url))
            clients.append(one)
            joining = asyncio.create_task(one.subscribe(*topics))
            if round_ == 0:
                await exchange.until_followed("linear", *topics)
            for number in range(random.randrange(20, 60)):
                await exchange.say("linear", book.topic, book.delta())
                await exchange.say("linear", ticker.topic, ticker.delta())
                place = 100 * round_ + number
                await exchange.say("linear", topics[2], odd % (place, place))
            await joining
        for one in clients:
            await one.until_at(book.topic, book.u)
            await one.until_at(ticker.topic, ticker.cs)
            await one.until_at(topics[2], place)
            for topic in topics:
                assert_forwarded(one.followers[topic], exchange.said["linear", topic])


async def test_a_snapshot_for_a_late_reader_carries_the_moments_of_the_last_message(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url)
    book = BookFeed("BTCUSDT")
    exchange.feeds["spot", book.topic] = book.greeting
    url = relay.url("/v5/public/spot")
    async with client(url) as first, client(url) as late:
        await first.subscribe(book.topic)
        last = book.delta()
        await exchange.say("spot", book.topic, last)
        await first.until_at(book.topic, book.u)
        await late.subscribe(book.topic)
        await late.until_at(book.topic, book.u)
        made, came = json.loads(late.followers[book.topic].texts[0]), json.loads(last)
        keys = ("topic", "ts", "cts")
        assert {key: made[key] for key in keys} == {key: came[key] for key in keys}
        assert made["type"] == "snapshot"
        assert (made["data"]["u"], made["data"]["seq"]) == (book.u, book.seq)
        assert set(made) == set(came)
        assert set(made["data"]) == {"s", "b", "a", "u", "seq"}


async def test_trades_greet_with_the_last_fifty_on_ws_and_with_nothing_on_v5(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url)
    trades = TradesFeed("BTCUSDT")
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(client(relay.url("/v5/public/linear")))
        await first.subscribe(trades.topic)
        for _ in range(40):
            await exchange.say("linear", trades.topic, trades.trade(rows=2))
        await first.until(lambda: first.followers[trades.topic].position == 80, "80 trades")
        bybit = await stack.enter_async_context(client(relay.url("/v5/public/linear")))
        native = await stack.enter_async_context(client(relay.url("/ws")))
        await bybit.subscribe(trades.topic)
        await native.subscribe(trades.topic)
        await native.until(lambda: native.followers[trades.topic].texts, "the last trades")
        await exchange.say("linear", trades.topic, trades.trade())
        for one, count in ((first, 81), (bybit, 1), (native, 51)):
            follower = one.followers[trades.topic]
            await one.until(lambda f=follower, c=count: f.position == c, f"{count} trades")
        said = exchange.said["linear", trades.topic]
        assert first.followers[trades.topic].texts == said
        assert bybit.followers[trades.topic].texts == said[-1:]
        assert native.followers[trades.topic].texts[1:] == said[-1:]
        greeting = json.loads(native.followers[trades.topic].texts[0])
        assert greeting["data"] == [row for text in said[15:40] for row in json.loads(text)["data"]]


@pytest.mark.parametrize("door", DOORS)
async def test_candles_greet_with_their_last_message_and_go_on_byte_for_byte(
    door: str, exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url)
    candles = CandlesFeed("BTCUSDT")
    url = relay.url(DOORS[door].format("linear"))
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(client(url))
        await first.subscribe(candles.topic)
        early = first.followers[candles.topic].texts
        await exchange.say("linear", candles.topic, candles.push())
        await first.until(lambda: early, "the first message")
        for text in (candles.push(), candles.close(), candles.push()):
            await exchange.say("linear", candles.topic, text)
        await first.until(lambda: len(early) == 4, "four messages")
        late = await stack.enter_async_context(client(url))
        await late.subscribe(candles.topic)
        texts = late.followers[candles.topic].texts
        await late.until(lambda: texts, "the last message")
        for text in (candles.close(), candles.push()):
            await exchange.say("linear", candles.topic, text)
        for one, count in ((first, 6), (late, 3)):
            got = one.followers[candles.topic].texts
            await one.until(lambda g=got, c=count: len(g) == c, f"{count} messages")
        said = exchange.said["linear", candles.topic]
        assert (early, texts) == (said, said[3:])


def message(topic: str, data: object, **more: object) -> str:
    return json.dumps({"topic": topic, "data": data, **more, "ts": 1_700_000_600_782})


def liquidation(number: int) -> dict[str, object]:
    row = {"T": 1_700_000_300_992 + number, "s": "AUSDT", "S": "Buy", "v": f"{number}", "p": "9.8"}
    return dict(row)


LIMITS, ALERTS, POOLS, LIQUIDATIONS = (
    *("priceLimit.AUSDT", "adlAlert.USDT", "insurance.USDT", "allLiquidation.AUSDT"),
)


def pool(symbols: str, balance: str) -> dict[str, str]:
    return {"coin": "USDT", "symbols": symbols, "balance": balance, "updateTime": "1700000700000"}


def said_of(topic: str) -> list[str]:
    """Return four messages of a feed, as the exchange writes them."""
    numbers = range(1, 5)
    if topic == LIMITS:  # without a type
        return [
            message(topic, {"symbol": "AUSDT", "buyLmt": f"1{n}", "sellLmt": "9"}) for n in numbers
        ]
    if topic == ALERTS:
        return [
            message(topic, [{"c": "USDT", "s": "AUSDT", "b": n}], type="snapshot") for n in numbers
        ]
    if topic == LIQUIDATIONS:
        return [message(topic, [liquidation(n)], type="snapshot") for n in numbers]
    changes = [
        [pool("BUSDT", "7")],
        [pool("AUSDT", "-3"), pool("CUSDT", "1")],
        [pool("BUSDT", "8")],
    ]
    return [
        message(topic, [pool("AUSDT", "5"), pool("BUSDT", "6")], type="snapshot"),
        *(message(topic, rows, type="delta") for rows in changes),
    ]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("topic", [LIMITS, ALERTS, POOLS, LIQUIDATIONS])
async def test_what_is_no_book_trade_ticker_or_candle_is_carried_too(
    topic: str, door: str, exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url)
    url = relay.url(DOORS[door].format("linear"))
    *before, last = said_of(topic)
    async with client(url) as first, client(url) as late:
        await first.subscribe(topic)
        early = first.followers[topic].texts
        for count, text in enumerate(before, 1):
            await exchange.say("linear", topic, text)
            await first.until(lambda c=count: len(early) == c, "the message")
        await late.subscribe(topic)
        texts = late.followers[topic].texts
        greets = topic != LIQUIDATIONS or not url.endswith("/v5/public/linear")
        if greets:
            await late.until(lambda: texts, "the greeting")
        await exchange.say("linear", topic, last)
        await first.until(lambda: len(early) == 4, "the last message")
        await late.until(lambda: texts[-1:] == [last], "the last message")
    assert early == [*before, last]
    assert len(texts) == 1 + greets
    if topic == POOLS:
        rows = [pool("AUSDT", "-3"), pool("BUSDT", "7"), pool("CUSDT", "1")]
        assert json.loads(texts[0]) == json.loads(message(topic, rows, type="snapshot"))
    elif topic != LIQUIDATIONS:
        assert texts[0] == before[-1]
    elif greets:
        rows = [liquidation(n) for n in (1, 2, 3)]
        said = message(topic, rows, type="snapshot", generated=True)
        assert json.loads(texts[0]) == json.loads(said)


async def test_a_reader_that_stood_still_is_sent_every_candle_that_closed(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(
        exchange.url, RELAY_CLIENT_BUFFER="4096", RELAY_SEND_BUFFER="4096", RELAY_SLOW_TIMEOUT="120"
    )
    candles, trades = CandlesFeed("BTCUSDT"), TradesFeed("BTCUSDT")
    async with client(relay.url("/ws?category=linear")) as one:
        await one.subscribe(candles.topic, trades.topic)
        await exchange.say("linear", candles.topic, candles.push())
        await one.until(lambda: one.followers[candles.topic].texts, "the open candle")
        one.pause()
        for _ in range(40):  # more than the sockets between hold
            for _ in range(40):
                await exchange.say("linear", trades.topic, trades.trade(rows=20))
            await exchange.say("linear", candles.topic, candles.push())
            await exchange.say("linear", candles.topic, candles.close())
        await exchange.say("linear", candles.topic, candles.push())
        one.resume()
        last = exchange.said["linear", candles.topic][-1]
        got = one.followers[candles.topic]
        await one.until(lambda: got.texts[-1] == last, "the last message")
        assert isinstance(got.state, Candles)
        assert [row["confirm"] for row in got.state.rows.values()] == [True] * 40 + [False]
        assert len(got.texts) < len(exchange.said["linear", candles.topic]), "never behind"


async def test_two_hundred_subscribes_at_random_moments_are_each_one_snapshot_and_what_follows(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, RELAY_LINGER="0.2")
    book, random = BookFeed("BTCUSDT"), Random(3)
    exchange.feeds["linear", book.topic] = book.greeting
    url = relay.url("/v5/public/linear")
    joined = 0

    async def come_and_go() -> None:
        nonlocal joined
        async with client(url) as one:
            for _ in range(20):
                await one.subscribe(book.topic)
                follower = one.followers[book.topic]
                wanted = random.randrange(1, 6)
                await one.until(lambda f=follower, w=wanted: len(f.texts) >= w, "messages")
                joined += 1
                await one.unsubscribe(book.topic)
                said = exchange.said["linear", book.topic]
                forwarded = follower.texts[1:]
                assert follower.types[0] == "snapshot"
                if forwarded:
                    start = said.index(forwarded[0])
                    assert forwarded == said[start : start + len(forwarded)]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(come_and_go()) for _ in range(10)]
        while not all(task.done() for task in tasks):
            await exchange.say("linear", book.topic, book.delta())
            await asyncio.sleep(random.random() / 100)  # the market's own pace
    assert joined == 200


async def test_one_category_says_nothing_about_another_that_has_the_same_symbols(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url)
    feeds = {c: BookFeed("BTCUSDT", seed=n * 1000) for n, c in enumerate(("spot", "linear"))}
    async with AsyncExitStack() as stack:
        clients = {}
        for category, feed in feeds.items():
            exchange.feeds[category, feed.topic] = feed.greeting
            url = relay.url(f"/ws?category={category}")
            clients[category] = await stack.enter_async_context(client(url))
            await clients[category].subscribe(feed.topic)
        for category, feed in feeds.items():
            for _ in range(5):
                await exchange.say(category, feed.topic, feed.delta())
        for category, feed in feeds.items():
            follower = await clients[category].until_at(feed.topic, feed.u)
            assert_forwarded(follower, exchange.said[category, feed.topic])
