"""What befalls the connection to the exchange, and what clients notice of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack

import pytest

from tests.e2e.client import client
from tests.e2e.reference import follow
from tests.e2e.stand_in import BookFeed, StandIn, TickerFeed, TradesFeed
from tests.e2e.steps import QUICK, assert_right, following, listed, moves, statuses
from tests.processes import PATIENCE, Programs, until
from tests.stopwatch import Stopwatch

# ---- the connection breaks ----


async def test_a_cut_connection_costs_no_client_its_socket_and_each_gets_one_fresh_snapshot(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, **QUICK)
    book, ticker = BookFeed("BTCUSDT"), TickerFeed("BTCUSDT")
    trades = TradesFeed("BTCUSDT")
    listed(exchange, "linear", book, ticker)
    topics = [book.topic, ticker.topic, trades.topic]
    async with (
        following(relay, *topics) as native,
        following(relay, *topics, path="/v5/public/linear") as bybit,
        following(relay, *topics, path="/v5/public/linear") as late,
    ):
        clients = [native, bybit, late]
        await moves(exchange, "linear", book, 10)
        for one in clients:
            await assert_right(one, book)
        before = time.time()
        exchange.of("linear")[0].cut()
        await native.until(lambda: statuses(native) == ["down"], "status down")
        for _ in range(5):
            book.delta()  # while nobody listens
        await native.until(lambda: statuses(native) == ["down", "live"], "status live")
        await exchange.until_followed("linear", *topics)
        await moves(exchange, "linear", book, 3)
        await moves(exchange, "linear", ticker, 3)
        await exchange.say("linear", trades.topic, trades.trade())
        for one in clients:
            await assert_right(one, book)
            await one.until_at(ticker.topic, ticker.cs)
            await one.until(lambda o=one: o.followers[trades.topic].texts, "a trade")
            assert one.followers[book.topic].types.count("snapshot") == 2
            assert one.followers[ticker.topic].types.count("snapshot") == 2
        assert bybit.notices == late.notices == []
        for notice in native.notices:
            assert set(notice) == {"type", "category", "upstream", "since"}
            assert notice["category"] == "linear"
            assert before * 1000 - 1 <= notice["since"] <= time.time() * 1000
        assert exchange.opened["linear"] == 2
        assert [heard.args for heard in exchange.heard if heard.line == 1]
        assert sorted(exchange.topics("linear")) == sorted(topics)


async def test_a_category_that_goes_down_is_no_news_to_the_others(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, **QUICK)
    book, other = BookFeed("BTCUSDT"), BookFeed("ETHUSDT")
    listed(exchange, "linear", book)
    listed(exchange, "spot", other)
    async with (
        following(relay, book.topic) as one,
        following(relay, other.topic, path="/ws?category=spot") as bystander,
    ):
        exchange.of("linear")[0].cut()
        await one.until(lambda: statuses(one) == ["down", "live"], "down and live")
        await moves(exchange, "spot", other, 3)
        await assert_right(bystander, other)
        assert bystander.notices == []
        assert exchange.opened["spot"] == 1


async def test_a_reader_who_comes_while_upstream_is_down_is_owed_the_snapshot_and_told(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, **QUICK)
    book, new = BookFeed("BTCUSDT"), BookFeed("ETHUSDT")
    listed(exchange, "linear", book, new)
    async with following(relay, book.topic) as first:
        await moves(exchange, "linear", book, 3)
        await assert_right(first, book)
        exchange.is_shut = True
        exchange.of("linear")[0].cut()
        await first.until(lambda: statuses(first) == ["down"], "status down")
        async with (
            following(relay, book.topic, new.topic) as late,
            following(relay, book.topic, path="/v5/public/linear") as bybit,
        ):
            await late.until(lambda: statuses(late) == ["down"], "told that upstream is down")
            pong = await late.ask({"method": "ping"})  # what was to be sent before it, has been
            assert pong == {"method": "pong"}
            await bybit.ask({"op": "ping"})
            stale = [f.texts for o in (late, bybit) for f in o.followers.values() if f.texts]
            assert stale == []
            for _ in range(4):
                book.delta()
            exchange.is_shut = False
            for one in (first, late, bybit):
                await assert_right(one, book)
            await assert_right(late, new)
            for one in (late, bybit):
                assert one.followers[book.topic].types == ["snapshot"]
            assert first.followers[book.topic].types.count("snapshot") == 2


async def test_a_relay_whose_exchange_was_never_there_agrees_and_pays_when_it_comes(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, **QUICK)
    exchange.is_shut = True
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    async with following(relay, book.topic) as one:
        await one.until(lambda: statuses(one) == ["down"], "told that upstream is down")
        assert one.followers[book.topic].texts == []
        exchange.is_shut = False
        await assert_right(one, book)
        assert statuses(one) == ["down", "live"]


async def test_everything_is_subscribed_again_in_batches_that_fit_the_category(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, **QUICK)
    topics = [f"publicTrade.T{n}USDT" for n in range(35)]
    async with AsyncExitStack() as stack:
        for category in ("spot", "linear"):
            one = await stack.enter_async_context(client(relay.url(f"/ws?category={category}")))
            await one.subscribe(*topics)
        assert sorted(exchange.topics("spot")) == sorted(exchange.topics("linear"))
        for line in list(exchange.lines):
            line.cut()
        await exchange.until(lambda: sum(exchange.opened.values()) == 4, "both connected anew")
        for category in ("spot", "linear"):
            await exchange.until_followed(category, *topics)
            assert sorted(exchange.topics(category)) == sorted(topics)
    spot = [heard for heard in exchange.heard if heard.category == "spot"]
    assert max(len(heard.args) for heard in spot) <= 10
    again = [heard for heard in exchange.heard if heard.line > 1 and heard.category == "linear"]
    assert [len(heard.args) for heard in again] == [35]
    for line in {heard.line for heard in exchange.heard}:
        ids = [json.loads(h.text)["req_id"] for h in exchange.heard if h.line == line]
        assert [int(name) for name in ids] == sorted({int(name) for name in ids})


async def test_a_half_open_connection_is_replaced_after_three_unanswered_pings(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, RELAY_PING_INTERVAL="0.5")
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    async with following(relay, book.topic) as one:
        await assert_right(one, book)
        await exchange.until(lambda: exchange.pings["linear"] >= 2, "pings")
        exchange.of("linear")[0].is_silent = True
        before = exchange.pings["linear"]
        with Stopwatch(relay.program.process.pid) as watch:
            await exchange.until(lambda: exchange.opened["linear"] == 2, "a new connection")
        assert exchange.pings["linear"] >= before + 2  # the third is not worth sending
        assert watch.seconds < 6  # three intervals of 0.5 s, and a pause
        await one.until(lambda: "live" in statuses(one), "status live")
        await moves(exchange, "linear", book, 3)
        await assert_right(one, book)


async def test_a_half_open_connection_is_replaced_within_fifteen_seconds_by_default(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url)
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    async with following(relay, book.topic) as one:
        await assert_right(one, book)
        await exchange.until(lambda: exchange.pings["linear"] >= 1, "a ping")
        exchange.of("linear")[0].is_silent = True
        with Stopwatch(relay.program.process.pid) as watch:
            await exchange.until(lambda: exchange.opened["linear"] == 2, "a new connection")
        assert watch.seconds < 15.5
        await one.until(lambda: statuses(one) == ["down", "live"], "down and live")
        await assert_right(one, book)


async def test_a_quiet_market_whose_pings_are_answered_is_left_alone(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, RELAY_PING_INTERVAL="1")
    async with following(relay, "publicTrade.BTCUSDT") as one:
        await exchange.until(lambda: exchange.pings["linear"] >= 5, "more than it would wait for")
        assert exchange.opened["linear"] == 1
        assert one.notices == []


# ---- one topic goes wrong ----


async def faulty(exchange: StandIn, feed: BookFeed, fault: str) -> None:
    """Have the exchange commit a fault in one topic."""
    last = feed.delta()
    await exchange.say("linear", feed.topic, last)
    match fault:
        case "gap":
            feed.delta()
            await exchange.say("linear", feed.topic, feed.delta())
        case "crossed":
            await exchange.say("linear", feed.topic, feed.crossed())
        case "repeated":
            await exchange.say("linear", feed.topic, last)
        case "reordered":
            early, late = feed.delta(), feed.delta()
            await exchange.say("linear", feed.topic, late)
            await exchange.say("linear", feed.topic, early)


@pytest.mark.parametrize("fault", ["gap", "crossed", "repeated", "reordered"])
async def test_a_faulty_topic_alone_is_subscribed_anew_and_its_readers_start_over(
    fault: str, exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, **QUICK)
    book, other = BookFeed("BTCUSDT"), BookFeed("ETHUSDT")
    listed(exchange, "linear", book, other)
    async with (
        following(relay, book.topic, other.topic) as native,
        following(relay, book.topic, other.topic, path="/v5/public/linear") as bybit,
    ):
        await moves(exchange, "linear", book, 5)
        await moves(exchange, "linear", other, 5)
        for one in (native, bybit):
            await assert_right(one, book)
        await faulty(exchange, book, fault)
        await exchange.until(lambda: exchange.asked("subscribe", book.topic) == 2, "a resync")
        await moves(exchange, "linear", book, 5)
        await moves(exchange, "linear", other, 5)
        for one in (native, bybit):
            await assert_right(one, book)
            await assert_right(one, other)
            assert one.followers[book.topic].types.count("snapshot") == 2
            assert one.followers[other.topic].types == ["snapshot"] + ["delta"] * 10
            assert one.notices == []
        assert exchange.asked("unsubscribe", book.topic) == 1
        assert exchange.asked("subscribe", book.topic) == 2
        assert exchange.asked("unsubscribe", other.topic) == 0
        assert exchange.asked("subscribe", other.topic) == 1
        assert exchange.opened["linear"] == 1


async def test_a_storm_of_gaps_is_resynchronised_in_a_few_requests(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, **QUICK)
    books = [BookFeed(f"T{n}USDT") for n in range(120)]
    listed(exchange, "linear", *books)
    topics = [book.topic for book in books]
    async with following(relay, *topics, path="/v5/public/linear") as one:
        for book in books:
            await assert_right(one, book)
        before = len(exchange.heard)
        for book in books:
            book.delta()  # that nobody is told of
        late = [(book.topic, book.delta()) for book in books]
        for topic, text in late:
            await exchange.say("linear", topic, text)
        for book in books:
            await exchange.until(
                lambda topic=book.topic: exchange.asked("subscribe", topic) == 2, "a resync"
            )
        for book in books:
            await assert_right(one, book)
        asked = [heard for heard in exchange.heard[before:] if heard.op != "ping"]
        assert sum(len(heard.args) for heard in asked) == 2 * len(books)
        assert len(asked) <= len(books) / 3
        assert exchange.opened["linear"] == 1


@pytest.mark.parametrize("kind", ["snapshot", "delta"])
async def test_a_restarted_service_is_followed_from_its_first_update(
    kind: str, exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, **QUICK)
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    async with following(relay, book.topic) as one:
        await moves(exchange, "linear", book, 5)
        await assert_right(one, book)
        restarted = book.restart(kind)
        await exchange.say("linear", book.topic, restarted)
        await moves(exchange, "linear", book, 5)
        follower = one.followers[book.topic]
        await one.until(lambda: follower.position == book.u == 6, "u 6")
        await assert_right(one, book)
        assert follower.texts[-6:] == exchange.said["linear", book.topic][-6:]
        assert follower.texts[-6] == restarted
        assert exchange.asked("subscribe", book.topic) == 1
        async with following(relay, book.topic) as late:
            await assert_right(late, book)


async def test_a_snapshot_in_the_middle_replaces_the_book_of_readers_and_of_the_relay(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, **QUICK)
    book, newer = BookFeed("BTCUSDT"), BookFeed("BTCUSDT", seed=100)
    newer.seq = book.seq + 1000
    listed(exchange, "linear", book)
    async with following(relay, book.topic) as one:
        await moves(exchange, "linear", book, 5)
        await assert_right(one, book)
        for _ in range(7):
            newer.delta()
        await exchange.say("linear", book.topic, newer.snapshot())
        await moves(exchange, "linear", newer, 5)
        await assert_right(one, newer)
        async with following(relay, book.topic) as late:
            await assert_right(late, newer)
        assert exchange.asked("subscribe", book.topic) == 1


async def test_a_ticker_snapshot_in_the_middle_leaves_nothing_of_the_old_one(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, **QUICK)
    ticker = TickerFeed("BTCUSDT")
    listed(exchange, "linear", ticker)
    async with following(relay, ticker.topic) as one:
        await moves(exchange, "linear", ticker, 5)
        await exchange.say("linear", ticker.topic, ticker.lose("deliveryTime"))
        await moves(exchange, "linear", ticker, 2)
        await one.until_at(ticker.topic, ticker.cs)
        async with following(relay, ticker.topic) as late:
            follower = await late.until_at(ticker.topic, ticker.cs)
            truth = follow(ticker.topic, exchange.said["linear", ticker.topic]).state
            assert follower.state.fields == truth.fields
            assert "deliveryTime" not in truth.fields


async def test_level_one_may_repeat_and_skip_its_updates(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, **QUICK)
    level = BookFeed("BTCUSDT", depth=1)
    topic = level.topic

    def best(u: int) -> str:
        data = {"s": "BTCUSDT", "b": [["9", "1"]], "a": [["10", "2"]], "u": u, "seq": 5}
        return json.dumps({"topic": topic, "ts": 1, "type": "snapshot", "data": data, "cts": 1})

    async with following(relay, topic) as one:
        texts = one.followers[topic].texts
        await exchange.say("linear", topic, best(5))
        await one.until(lambda: texts, "the greeting")  # what comes before it is part of it
        for u in (5, 6, 9, 9):
            await exchange.say("linear", topic, best(u))
        await one.until(lambda: len(texts) >= 5, "five messages")
        assert texts == exchange.said["linear", topic]
        assert exchange.asked("subscribe", topic) == 1


# ---- refusals and acks ----


WORDS = {
    "linear": "error:handler not found,topic:orderbook.50.NOPEUSDT",
    "spot": "Invalid symbol :[orderbook.50.NOPEUSDT]",
    "inverse": "error:something that names nobody",
}


@pytest.mark.parametrize("category", WORDS)
async def test_of_a_poisoned_batch_exactly_the_asker_of_the_bad_topic_is_told(
    category: str, exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, **QUICK)
    bad = "orderbook.50.NOPEUSDT"
    exchange.refused[category, bad] = WORDS[category]
    good = [BookFeed(f"A{n}USDT") for n in range(9)]
    listed(exchange, category, *good)
    topics = [feed.topic for feed in good]
    exchange.is_shut = True  # so that everything is asked for at once
    async with (
        client(relay.url(f"/ws?category={category}")) as innocent,
        client(relay.url(f"/ws?category={category}")) as asker,
        client(relay.url(f"/v5/public/{category}")) as bybit,
    ):
        await innocent.subscribe(*topics[:4])
        await asker.subscribe(bad, topics[0])
        await bybit.subscribe(*topics[4:8])
        exchange.is_shut = False
        await exchange.until_followed(category, *topics[:8])
        await asker.until(lambda: len(asker.replies) == 3, "a refusal")
        assert asker.replies[-1] == {
            "method": "subscribe",
            "success": False,
            "error": {"code": "refused_by_exchange", "message": WORDS[category]},
            "id": "r1",
        }
        for feed in good[:8]:
            await moves(exchange, category, feed, 1)
        for one, feeds in ((innocent, good[:4]), (bybit, good[4:8]), (asker, good[:1])):
            for feed in feeds:
                await assert_right(one, feed)
        assert [reply["success"] for reply in innocent.replies] == [True] * 4
        assert [reply["success"] for reply in bybit.replies] == [True]
        assert (await asker.ask({"method": "list", "id": "L"}))["topics"] == [topics[0]]


async def test_a_refused_topic_is_answered_with_the_requests_id_and_not_asked_for_again(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, **QUICK)
    bad, words = "orderbook.50.NOPEUSDT", WORDS["linear"]
    exchange.refused["linear", bad] = words
    request = {"method": "subscribe", "topic": "orderbook", "symbol": "NOPEUSDT"}
    async with (
        client(relay.url("/ws")) as native,
        client(relay.url("/v5/public/linear")) as bybit,
    ):
        for name in (7, "eight"):
            assert await native.ask({**request, "id": name}) == {
                "method": "subscribe",
                "success": False,
                "error": {"code": "refused_by_exchange", "message": words},
                "id": name,
            }
        for name in ("x", "y"):
            reply = await bybit.ask({"op": "subscribe", "req_id": name, "args": [bad]})
            assert reply.pop("conn_id")
            assert reply == {
                "success": False,
                "ret_msg": words,
                "req_id": name,
                "op": "subscribe",
            }
        assert exchange.asked("subscribe", bad) == 1
        assert exchange.topics("linear") == []


@pytest.mark.parametrize("words", ["Internal Server error", "error:handler not found,topic:{}"])
async def test_an_exchange_that_refuses_live_topics_for_a_moment_takes_them_from_nobody(
    words: str, exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, RELAY_IDLE_TIMEOUT="1", **QUICK)
    books = [BookFeed(f"A{number}USDT") for number in range(20)]
    listed(exchange, "linear", *books)
    topics = [book.topic for book in books]
    async with (
        following(relay, *topics) as native,
        following(relay, *topics, path="/v5/public/linear") as bybit,
    ):
        for one in (native, bybit):
            for book in books:
                await assert_right(one, book)
        for topic in topics:
            exchange.refused["linear", topic] = words.format(topic)
        before = len(exchange.heard)
        exchange.of("linear")[0].cut()
        await exchange.until(lambda: len(exchange.heard) >= before + 3, "three refusals")
        late = await native.ask(
            {"method": "subscribe", "topic": "orderbook", "symbol": "A0USDT", "id": "again"}
        )
        assert late["already"]
        exchange.refused.clear()
        await exchange.until_followed("linear", *topics)
        for book in books:
            await moves(exchange, "linear", book, 1)
            for one in (native, bybit):
                await assert_right(one, book)
        assert all(reply["success"] for one in (native, bybit) for reply in one.replies)
        assert statuses(native) == ["down", "live"]


async def test_topics_that_nobody_reads_any_more_shut_no_stranger_out(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, RELAY_LINGER="600", RELAY_MAX_TOPICS="8")
    book, good = BookFeed("BTCUSDT"), BookFeed("ETHUSDT")
    listed(exchange, "linear", book, good)
    async with (
        following(relay, good.topic) as innocent,
        client(relay.url("/v5/public/linear")) as one,
    ):
        for number in range(4):
            topics = [f"tickers.A{number}{each}USDT" for each in range(6)]
            await one.subscribe(*topics)
            await exchange.until_followed("linear", *topics)
            await one.unsubscribe(*topics)
        async with following(relay, book.topic) as stranger:
            await assert_right(stranger, book)
        await moves(exchange, "linear", good, 1)
        await assert_right(innocent, good)
        assert exchange.asked("unsubscribe", good.topic) == 0


async def test_option_acks_without_ids_are_matched_by_their_topics(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, **QUICK)
    good, bad = "orderbook.25.BTC-25JUN27-80000-C", "tickers.BTC-1JAN20-1-C"
    exchange.refused["option", bad] = ""
    async with (
        client(relay.url("/ws?category=option")) as native,
        client(relay.url("/v5/public/option")) as bybit,
    ):
        await bybit.subscribe(good)
        symbol = bad.partition(".")[2]
        reply = await native.ask({"method": "subscribe", "topic": "tickers", "symbol": symbol})
        assert reply["error"]["code"] == "refused_by_exchange"
        reply = await bybit.ask({"op": "subscribe", "args": [bad]})
        assert reply.pop("conn_id")
        assert reply == {
            "success": False,
            "data": {"failTopics": [bad], "successTopics": []},
            "type": "COMMAND_RESP",
        }
        assert exchange.topics("option") == [good]


async def test_lost_acks_cost_neither_data_nor_a_second_subscription(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, **QUICK)
    book, trades = BookFeed("BTCUSDT"), TradesFeed("BTCUSDT")
    listed(exchange, "linear", book)
    exchange.acks_to_lose = 2
    async with following(relay, book.topic, trades.topic) as one:
        await moves(exchange, "linear", book, 3)
        await assert_right(one, book)
        await exchange.say("linear", trades.topic, trades.trade())
        await one.until(lambda: one.followers[trades.topic].texts, "a trade")
        await exchange.until(lambda: exchange.asked("subscribe", trades.topic) >= 1, "asked")
        assert sorted(exchange.topics("linear")) == sorted([book.topic, trades.topic])
        assert exchange.opened["linear"] == 1


async def test_the_ack_of_a_new_topic_waits_for_the_exchange_three_seconds_at_most(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url)
    exchange.acks_to_lose = 1
    async with client(relay.url("/ws")) as one:
        began = time.monotonic()
        with Stopwatch(relay.program.process.pid) as watch:
            await one.subscribe("publicTrade.BTCUSDT")
        assert time.monotonic() - began > 2.9
        assert watch.seconds < 6


# ---- how much is asked for, and for how long ----


async def test_one_hundred_readers_are_one_subscription(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, **QUICK)
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(following(relay, book.topic)) for _ in range(100)
        ]
        await moves(exchange, "linear", book, 3)
        for one in clients:
            await assert_right(one, book)
        assert [heard.args for heard in exchange.heard] == [(book.topic,)]
        assert exchange.opened["linear"] == 1


async def test_a_topic_is_unsubscribed_when_it_has_lingered_and_not_before(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, RELAY_LINGER="1.5")
    book, other = BookFeed("BTCUSDT"), BookFeed("ETHUSDT")
    listed(exchange, "linear", book, other)
    async with following(relay, other.topic):
        with Stopwatch(relay.program.process.pid) as watch:
            async with following(relay, book.topic) as one:
                await assert_right(one, book)
                leaves = time.monotonic()
            await exchange.until(
                lambda: book.topic not in exchange.topics("linear"), "unsubscribed"
            )
            assert time.monotonic() - leaves > 1.4
        assert watch.seconds < 6
        assert exchange.topics("linear") == [other.topic]
        async with following(relay, book.topic) as again:
            await moves(exchange, "linear", book, 2)
            await assert_right(again, book)
        assert exchange.asked("unsubscribe", other.topic) == 0
    await exchange.until(lambda: exchange.topics("linear") == [], "nothing is followed")
    assert exchange.opened["linear"] == 1


async def test_a_reader_who_returns_within_the_linger_costs_the_exchange_nothing(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, RELAY_LINGER="30")
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    for _ in range(3):
        async with following(relay, book.topic, path="/v5/public/linear") as one:
            await moves(exchange, "linear", book, 2)
            await assert_right(one, book)
    async with following(relay, book.topic) as one:
        for _ in range(3):
            await one.unsubscribe(book.topic)
            await moves(exchange, "linear", book, 2)
            await one.subscribe(book.topic)
            await assert_right(one, book)
            assert one.followers[book.topic].types[0] == "snapshot"
    assert [(heard.op, heard.args) for heard in exchange.heard] == [("subscribe", (book.topic,))]


async def test_past_the_character_limit_a_second_connection_carries_the_rest(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, **QUICK)
    topics = [f"orderbook.50.SYMBOL{n:04}USDT" for n in range(1000)]
    async with AsyncExitStack() as stack:
        for start in range(0, len(topics), 250):
            one = await stack.enter_async_context(client(relay.url("/v5/public/linear")))
            await one.subscribe(*topics[start : start + 250])
        await exchange.until_followed("linear", *topics)
        assert sorted(exchange.topics("linear")) == topics
        assert len(exchange.of("linear")) == 2
        for line in exchange.of("linear"):
            assert sum(map(len, line.topics)) <= 21_000
        line = exchange.of("linear")[1]
        first, second = (next(iter(line.topics)) for line in exchange.of("linear"))
        reader = await stack.enter_async_context(following(relay, first, second))
        feeds = {topic: BookFeed(topic.rpartition(".")[2]) for topic in (first, second)}
        for topic, feed in feeds.items():
            await exchange.say("linear", topic, feed.snapshot())
            await moves(exchange, "linear", feed, 3)
            await assert_right(reader, feed)
        exchange.is_shut = True
        line.cut()  # one of two: the other's topics notice nothing
        await reader.until(lambda: statuses(reader) == ["down"], "told of the interruption")
        await moves(exchange, "linear", feeds[first], 3)
        async with following(relay, first, second) as late:
            await assert_right(late, feeds[first])
            assert late.followers[second].texts == []
            assert statuses(late) == ["down"]
        exchange.is_shut = False
        await exchange.until(lambda: exchange.opened["linear"] == 3, "a third connection")
        await exchange.until_followed("linear", *topics)
        assert all(heard.args.count(first) == 0 for heard in exchange.heard if heard.line == 2)


async def test_invented_symbols_by_the_hundred_are_each_asked_for_once_and_answered(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, RELAY_REQUESTS_PER_SECOND="1000", **QUICK)
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    bad = [f"publicTrade.NOPE{n}USDT" for n in range(120)]
    for topic in bad:
        exchange.refused["linear", topic] = f"error:handler not found,topic:{topic}"
    async with following(relay, book.topic) as bystander, client(relay.url("/ws")) as one:
        await one.request("subscribe", *bad)
        await one.until(lambda: len(one.replies) >= len(bad), "every refusal")
        codes = [reply.get("error", {}).get("code") for reply in one.replies]
        late = [reply for reply in one.replies if reply["success"]]
        assert codes.count("refused_by_exchange") + len(late) >= len(bad)
        await moves(exchange, "linear", book, 3)
        await assert_right(bystander, book)
        await until(
            lambda: {t for h in exchange.heard for t in h.args} >= {*bad}, PATIENCE, "all asked for"
        )
    assert exchange.topics("linear") == [book.topic]


# ---- frames that nobody understands ----


GARBAGE: dict[str, str | bytes] = {
    "bad UTF-8": b'{"x":"\xff\xfe"}',
    "bad UTF-8 in an unknown topic": b'{"topic":"candles.1.X","ts":1,"data":"\xc3"}',
    "no JSON": "<html>504</html>",
    "nothing": "",
    "a number": "17",
    "an array": '["topic"]',
    "null": "null",
    "an object": "{}",
    "deep nesting": '{"topic":' + "[" * 100_000,
    "an unknown topic": '{"topic":"candles.1.X","type":"snapshot","ts":1,"data":{}}',
    "a topic of another shape": '{"topic":["orderbook"],"type":"delta","ts":1,"data":{}}',
    "an answer to nothing": '{"success":true,"ret_msg":"","req_id":"99","op":"subscribe"}',
    "a refusal of nothing": '{"success":false,"ret_msg":"boo","conn_id":"x","req_id":"","op":""}',
    "a pong to nothing": '{"op":"pong"}',
    "ten megabytes": '{"topic":"' + "x" * 10_000_000 + '"}',
}
START = '{"topic":"orderbook.50.BTCUSDT","ts":1,"type":'
BROKEN: dict[str, str | bytes] = {
    "bad UTF-8": b'{"topic":"orderbook.50.BTCUSDT","type":"delta","x":"\xff\xfe"}',
    "bad UTF-8 in the data": b'{"topic":"orderbook.50.BTCUSDT","ts":1,"data":"\xc3"}',
    "a long number": '{"topic":"orderbook.50.BTCUSDT","ts":' + "9" * 10_000 + "}",
    "no data": START + '"delta"}',
    "no asks": START + '"delta","data":{"s":"B","b":[],"u":7}}',
    "no update id": START + '"delta","data":{"s":"B","b":[],"a":[]}}',
    "a price that is none": (
        START + '"snapshot","data":{"s":"B","b":[["x","1"]],"a":[["NaN","1"]],"u":7,"seq":1}}'
    ),
}


async def test_frames_that_nobody_understands_cost_nothing(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, RELAY_PING_INTERVAL="5")
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    async with following(relay, book.topic) as one:
        for name, frame in GARBAGE.items():
            await exchange.say_raw("linear", frame)
            await moves(exchange, "linear", book, 1)
            await one.until_at(book.topic, book.u)
            assert one.followers[book.topic].types.count("snapshot") == 1, name
        await exchange.say_raw("linear", b"\x00\x01binary", text=False)
        await exchange.say_raw("linear", b'{"op":"ping"}', text=False)
        await moves(exchange, "linear", book, 1)
        await assert_right(one, book)
        assert exchange.opened["linear"] == 1
        assert [heard.args for heard in exchange.heard] == [(book.topic,)]
        assert one.notices == []


@pytest.mark.parametrize("name", BROKEN)
async def test_a_message_without_what_its_feed_must_have_costs_its_topic_a_new_snapshot_at_most(
    name: str, exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, **QUICK)
    book, other = BookFeed("BTCUSDT"), BookFeed("ETHUSDT")
    listed(exchange, "linear", book, other)
    async with following(relay, book.topic, other.topic) as one:
        await moves(exchange, "linear", book, 2)
        await assert_right(one, book)
        await exchange.say_raw("linear", BROKEN[name])
        await exchange.until(lambda: exchange.asked("subscribe", book.topic) == 2, "a resync")
        await moves(exchange, "linear", book, 2)
        await moves(exchange, "linear", other, 2)
        await assert_right(one, book)
        await assert_right(one, other)
        assert exchange.opened["linear"] == 1
        assert exchange.asked("subscribe", other.topic) == 1
        assert BROKEN[name] not in one.followers[book.topic].texts


async def test_a_topic_that_is_never_right_is_not_asked_for_in_a_loop(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, **QUICK)
    book, other = BookFeed("BTCUSDT"), BookFeed("ETHUSDT")
    listed(exchange, "linear", other)

    def crossed() -> Iterable[str]:
        return [book.snapshot(), book.crossed()]

    exchange.feeds["linear", book.topic] = crossed
    async with following(relay, book.topic, other.topic) as one:
        began = time.monotonic()
        await exchange.until(lambda: exchange.asked("subscribe", book.topic) >= 3, "two resyncs")
        assert time.monotonic() - began > 0.5  # the first at once, the next after a second or so
        await moves(exchange, "linear", other, 3)
        await assert_right(one, other)
        assert exchange.asked("subscribe", book.topic) < 6
