"""Every topic, message by message, against an independent reader."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from relay.simulator.instruments import catalogue
from relay.simulator.market import SymbolMarket
from relay.simulator.topics import DEPTHS, Category, Topic
from relay.simulator.views import DepthView, LevelOneView, View, view_of
from tests.simulator.reference import Message, ReferenceBook, levels_of

START = 1_700_000_000_000
BOOKS = [(category, depth) for category in Category for depth in DEPTHS[category] if depth != 1]
DELTA_CATEGORIES = (Category.LINEAR, Category.INVERSE)


def open_market(category: Category, seed: int = 1) -> SymbolMarket:
    return SymbolMarket(next(iter(catalogue(category).values())), seed, START)


def open_view(market: SymbolMarket, feed: str, rate: float = 10) -> Any:
    instrument = market.instrument
    return view_of(Topic.parse(instrument.category, f"{feed}.{instrument.symbol}"), market, rate)


def advance(market: SymbolMarket, view: View, steps: int) -> Iterator[bytes]:
    for n in range(steps):
        market.step(START + 100 * (n + 1))
        if (message := view.advance()) is not None:
            yield message


@pytest.mark.parametrize(("category", "depth"), BOOKS)
@pytest.mark.parametrize(("rate", "seed"), [(10, 1), (50, 2), (200, 3)])
def test_a_book_rebuilt_from_its_messages_is_the_market(
    category: Category, depth: int, rate: float, seed: int
) -> None:
    market = open_market(category, seed)
    view: DepthView = open_view(market, f"orderbook.{depth}", rate)
    book = ReferenceBook(depth)
    for message in view.greeting():
        book.apply(json.loads(message))
    pushed = 0
    for message in advance(market, view, 400):
        parsed = json.loads(message)
        assert parsed["type"] == "delta"
        book.apply(parsed)
        pushed += 1
        assert book.levels() == levels_of(view.state())
        tick, digits = market.instrument.tick, market.instrument.price_digits
        truth = [Decimal(-key * tick).scaleb(-digits) for key in market.bids.keys[:depth]]
        assert [price for price, _ in book.levels()[0]] == truth
    every = max(1, round({25: 20, 50: 20, 1000: 200}.get(depth, 100) * rate / 1000))
    assert pushed == 400 // every


@pytest.mark.parametrize(("category", "depth"), BOOKS)
def test_a_late_subscriber_is_brought_to_the_same_book(category: Category, depth: int) -> None:
    market = open_market(category)
    view: DepthView = open_view(market, f"orderbook.{depth}")
    for _ in advance(market, view, 41):
        pass
    late = ReferenceBook(depth)
    greeting = [json.loads(message) for message in view.greeting()]
    for message in greeting:
        late.apply(message)
    assert late.levels() == levels_of(view.state())
    kinds = ["snapshot", "delta"] if category in DELTA_CATEGORIES else ["snapshot"]
    assert [message["type"] for message in greeting] == kinds
    clocks = [(message["data"]["seq"], message["ts"], message["cts"]) for message in greeting]
    assert clocks == sorted(set(clocks)), "an old snapshot with the times of a later state"
    late.apply(json.loads(next(advance(market, view, 2))))


def test_the_update_id_does_not_depend_on_when_somebody_looks() -> None:
    early, late = open_market(Category.LINEAR), open_market(Category.LINEAR)
    watched = open_view(early, "orderbook.50")
    seen = list(advance(early, watched, 20))
    for n in range(19):
        late.step(START + 100 * (n + 1))
    opened = open_view(late, "orderbook.50")
    late.step(START + 2000)
    assert opened.advance() == seen[-1]


def test_a_restarted_book_counts_from_one() -> None:
    market = open_market(Category.LINEAR)
    view: DepthView = open_view(market, "orderbook.50")
    book = ReferenceBook(50)
    book.apply(json.loads(view.restart()))
    assert book.u == 1
    for message in advance(market, view, 5):
        book.apply(json.loads(message))
    assert book.u == 6


def test_a_restart_may_call_itself_a_delta() -> None:
    view: DepthView = open_view(open_market(Category.SPOT), "orderbook.50")
    message = json.loads(view.restart("delta"))
    assert (message["type"], message["data"]["u"]) == ("delta", 1)
    assert len(message["data"]["b"]) == len(message["data"]["a"]) == 50


def test_a_crossing_delta_counts_and_leaves_the_true_book_alone() -> None:
    market = open_market(Category.LINEAR)
    view: DepthView = open_view(market, "orderbook.50")
    before = view.state()
    crossed = json.loads(view.crossed())
    assert crossed["data"]["u"] == before["u"] + 1
    assert Decimal(crossed["data"]["b"][0][0]) > levels_of(before)[1][-1][0]
    book = ReferenceBook(50)
    for message in view.greeting():
        book.apply(json.loads(message))
    assert book.levels() == levels_of(before)
    for message in advance(market, view, 3):
        book.apply(json.loads(message))


@pytest.mark.parametrize("category", [Category.SPOT, Category.LINEAR, Category.INVERSE])
def test_level_one_is_a_snapshot_of_the_best_at_each_change(category: Category) -> None:
    market = open_market(category)
    deep: DepthView = open_view(market, "orderbook.50")
    best: LevelOneView = open_view(market, "orderbook.1")
    book = ReferenceBook(1)
    (greeting,) = best.greeting()
    book.apply(json.loads(greeting))
    for n in range(300):
        market.step(START + 100 * (n + 1))
        deep.advance()
        last, u = book.levels(), book.u
        message = best.advance()
        bids, asks = levels_of(deep.state())
        if message is not None:
            parsed = json.loads(message)
            assert parsed["type"] == "snapshot"
            book.apply(parsed)
            assert book.u == u + 1
            assert book.levels() != last
        assert book.levels() == (bids[:1], asks[:1])


def test_a_quiet_level_one_is_said_again_after_three_seconds() -> None:
    market = open_market(Category.LINEAR)
    view: LevelOneView = open_view(market, "orderbook.1")
    while view.advance() is None:
        market.step(START)
    (last,) = (json.loads(message) for message in view.greeting())
    assert view.repush(START + 2999) is None
    again = json.loads(view.repush(START + 3000) or b"")
    assert (again["data"]["u"], again["ts"]) == (last["data"]["u"], START + 3000)
    assert levels_of(again["data"]) == levels_of(last["data"])
    assert view.repush(START + 5999) is None
    assert view.repush(START + 6000) is not None


@pytest.mark.parametrize("category", Category)
def test_trades_carry_the_sequence_of_the_book_update_they_caused(category: Category) -> None:
    market = open_market(category)
    symbol = market.instrument.symbol
    name = market.instrument.base_coin if category is Category.OPTION else symbol
    trades = view_of(Topic.parse(category, f"publicTrade.{name}"), market, 1000)
    book = open_view(market, f"orderbook.{25 if category is Category.OPTION else 50}")
    ids: list[str] = []
    for n in range(300):
        before = levels_of(book.state())
        market.step(START + 100 * (n + 1))
        message, delta = trades.advance(), json.loads(book.advance() or b"{}")
        if message is None:
            continue
        parsed = json.loads(message)
        assert parsed["type"] == "snapshot"
        assert parsed["topic"] == f"publicTrade.{name}"
        for row in parsed["data"]:
            assert row["seq"] == delta["data"]["seq"]
            assert (row["T"], row["s"]) == (delta["cts"], symbol)
            passive = dict(before[1] if row["S"] == "Buy" else before[0])
            assert Decimal(row["v"]) <= passive[Decimal(row["p"])]
            ids.append(row["i"])
    assert len(ids) == len(set(ids)) > 50
    assert trades.greeting() == []


TICKER_KEYS = {
    Category.SPOT: "symbol lastPrice highPrice24h lowPrice24h prevPrice24h volume24h turnover24h "
    "price24hPcnt usdIndexPrice",
    Category.LINEAR: "symbol tickDirection price24hPcnt lastPrice prevPrice24h highPrice24h "
    "lowPrice24h prevPrice1h markPrice indexPrice openInterest openInterestValue turnover24h "
    "volume24h fundingIntervalHour fundingCap singleOpenInterest singleOpenInterestValue "
    "nextFundingTime fundingRate bid1Price bid1Size ask1Price ask1Size preOpenPrice preQty "
    "curPreListingPhase",
    Category.OPTION: "symbol bidPrice bidSize bidIv askPrice askSize askIv lastPrice highPrice24h "
    "lowPrice24h markPrice indexPrice markPriceIv underlyingPrice openInterest turnover24h "
    "volume24h totalVolume totalTurnover delta gamma vega theta predictedDeliveryPrice change24h",
}
TICKER_KEYS[Category.INVERSE] = TICKER_KEYS[Category.LINEAR]


@pytest.mark.parametrize("category", Category)
def test_a_ticker_tells_every_field_and_then_what_changed(category: Category) -> None:
    market = open_market(category)
    view = open_view(market, "tickers")
    merged: dict[str, str] = {}
    greeting = view.greeting()
    seen = 0
    for message in [*greeting, *advance(market, view, 300), *view.greeting()]:
        parsed = json.loads(message)
        data = parsed["data"]
        if parsed["type"] == "snapshot":
            assert list(data) == TICKER_KEYS[category].split()
            merged = data
        else:
            assert category in DELTA_CATEGORIES
            assert ("bid1Price" in data) == ("bid1Size" in data)
            assert ("ask1Price" in data) == ("ask1Size" in data)
            assert any(merged[name] != value for name, value in data.items())
            merged |= data
        assert all(isinstance(value, str) for value in data.values())
        seen += 1
    assert seen > 200
    del merged["symbol"]
    assert merged == view.state()["data"]


KEY_ORDER = {
    (Category.SPOT, "orderbook.1"): "topic ts type data cts",
    (Category.SPOT, "orderbook.50"): "topic ts type data cts",
    (Category.SPOT, "publicTrade"): "topic ts type data",
    (Category.SPOT, "tickers"): "topic ts type cs data",
    (Category.LINEAR, "orderbook.1"): "topic ts type data cts",
    (Category.LINEAR, "orderbook.50"): "topic type ts data cts",
    (Category.LINEAR, "publicTrade"): "topic type ts data",
    (Category.LINEAR, "tickers"): "topic type data cs ts",
    (Category.INVERSE, "orderbook.1000"): "topic type ts data cts",
    (Category.OPTION, "orderbook.25"): "topic ts type id data cts",
    (Category.OPTION, "tickers"): "topic ts type id data",
    (Category.LINEAR, "kline.1"): "topic data ts type",
    (Category.SPOT, "priceLimit"): "topic data ts",
}


@pytest.mark.parametrize(("category", "feed"), KEY_ORDER)
def test_messages_are_compact_with_the_keys_in_bybits_order(category: Category, feed: str) -> None:
    market = open_market(category)
    view = open_view(market, feed)
    messages = [*view.greeting(), *advance(market, view, 40)]
    assert messages
    for message in messages:
        parsed: Message = json.loads(message)
        assert list(parsed) == KEY_ORDER[category, feed].split()
        assert json.dumps(parsed, separators=(",", ":")).encode() == message
        if category is Category.OPTION:
            number = parsed.get("data", {}).get("seq", parsed["id"].rsplit("-", 2)[1])
            assert parsed["id"] == f"{parsed['topic']}-{number}-{parsed['ts']}"


def test_linear_pads_its_numbers_except_on_level_one() -> None:
    market = open_market(Category.LINEAR)
    deep = json.loads(open_view(market, "orderbook.50").greeting()[0])["data"]["b"]
    best = json.loads(open_view(market, "orderbook.1").greeting()[0])["data"]["b"]
    assert all(len(price.partition(".")[2]) == 2 for price, _ in deep)
    assert all(not price.endswith("0") or "." not in price for price, _ in best)


def rows_of(messages: Iterable[bytes]) -> list[dict[str, Any]]:
    return [row for message in messages for row in json.loads(message)["data"]]


@pytest.mark.parametrize("interval", ["1", "3"])
@pytest.mark.parametrize("category", [Category.SPOT, Category.LINEAR, Category.INVERSE])
def test_candles_are_what_was_traded_in_their_time(category: Category, interval: str) -> None:
    market = open_market(category)
    symbol = market.instrument.symbol
    candles = view_of(Topic.parse(category, f"kline.{interval}.{symbol}"), market, 1)
    trades = open_view(market, "publicTrade", 1)
    length = int(interval) * 60_000
    traded: dict[int, list[tuple[Decimal, Decimal]]] = {}
    sent: list[dict[str, Any]] = []
    now = market.now.ts
    for _ in range(12 * 60):
        now += 1000
        market.step(now)
        for row in rows_of([message for message in [trades.advance()] if message]):
            start = row["T"] - row["T"] % length
            traded.setdefault(start, []).append((Decimal(row["p"]), Decimal(row["v"])))
        sent += rows_of([message for message in [candles.advance()] if message])

    closed = [row for row in sent if row["confirm"]]
    assert len(closed) >= 12 // int(interval) - 1
    for row, following in pairwise(closed):
        assert following["start"] == row["end"] + 1
        assert following["open"] == row["close"]
    for row in closed[1:]:  # the first began before anybody counted trades
        prices = [Decimal(row["open"]), *(price for price, _ in traded.get(row["start"], []))]
        sizes = [size for _, size in traded.get(row["start"], [])]
        assert Decimal(row["close"]) == prices[-1]
        assert (Decimal(row["high"]), Decimal(row["low"])) == (max(prices), min(prices))
        assert Decimal(row["volume"]) == sum(sizes)
    opens = [row["start"] for row in sent if not row["confirm"]]
    assert opens == sorted(opens), "an open candle after its close"


@pytest.mark.parametrize("category", [Category.LINEAR, Category.INVERSE])
def test_liquidations_are_some_of_the_trades(category: Category) -> None:
    market = open_market(category)
    trades, liquidations = (
        open_view(market, feed, 1) for feed in ("publicTrade", "allLiquidation")
    )
    traded: set[tuple[int, str, str, str]] = set()
    sent: list[dict[str, Any]] = []
    now = market.now.ts
    for _ in range(600):
        now += 1000
        market.step(now)
        for row in rows_of([message for message in [trades.advance()] if message]):
            traded.add((row["T"], "Sell" if row["S"] == "Buy" else "Buy", row["v"], row["p"]))
        sent += rows_of([message for message in [liquidations.advance()] if message])
    assert 0 < len(sent) < len(traded) / 10
    assert {(row["T"], row["S"], row["v"], row["p"]) for row in sent} <= traded


def test_a_buy_may_name_more_than_the_mark_and_a_sell_less() -> None:
    market = open_market(Category.SPOT)
    view = open_view(market, "priceLimit", 10)
    messages = [*view.greeting(), *advance(market, view, 30)]
    assert len(messages) >= 10
    for message in messages:
        data = json.loads(message)["data"]
        assert Decimal(data["sellLmt"]) < Decimal(data["buyLmt"])


@pytest.mark.parametrize(
    ("category", "text"),
    [(Category.SPOT, "allLiquidation.X"), (Category.OPTION, "priceLimit.X")],
)
def test_a_category_without_a_feed_has_no_topic_of_it(category: Category, text: str) -> None:
    assert Topic.parse(category, text) is None


def test_option_has_no_candles() -> None:
    assert Topic.parse(Category.OPTION, "kline.1.BTC-25JUN27-80000-C-USDT") is None
