"""relay/bybit/images.py: what a late reader is greeted with, for each kind of feed.

The cases of tests/fixtures are shared with the browser's tests.
"""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.bybit.errors import (
    BadFrame,
    CrossedBook,
    ExchangeFault,
    NoSnapshotYet,
    SequenceGap,
)
from relay.bybit.frames import ROW_BYTES
from relay.bybit.images import (
    CANDLES_KEPT,
    MAX_FIELDS,
    MAX_POOLS,
    ROWS_KEPT,
    SPARE_LEVELS,
    BookImage,
    CandlesImage,
    EventsImage,
    Image,
    LastMessageImage,
    PoolsImage,
    TickerImage,
    make_image,
)
from relay.bybit.topics import Category
from tests.builders import (
    body_of,
    book,
    candle,
    compact,
    delta,
    frame,
    snapshot,
    ticker,
    topic,
    trade,
    trade_numbers,
    trades,
)
from tests.bybit.reference import Reference
from tests.recordings import SESSIONS, category_of, each, market_frames

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
CASES = sorted([*(FIXTURES / "books").glob("*.json"), *(FIXTURES / "tickers").glob("*.json")])


def outcome(image: Image, text: bytes) -> str:
    """Fold a message in as the worker does; return what became of it, in the fixtures' words."""
    try:
        image.apply(text, frame(text))
        image.verify()
    except NoSnapshotYet:
        return "ignored"
    except SequenceGap:
        image.stop()
        return "gap"
    except CrossedBook:
        image.stop()
        return "crossed"
    return "applied"


def following(image: Image, *texts: bytes) -> Image:
    for text in texts:
        assert outcome(image, text) == "applied"
    return image


# ---- the shared cases ----


def test_there_are_cases_to_share() -> None:
    assert len(CASES) >= 18


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_case_that_the_browser_shares(path: Path) -> None:
    case = json.loads(path.read_text())
    image = make_image(topic(case["topic"], Category(case["category"])))
    outcomes = [outcome(image, compact(message)) for message in case["messages"]]
    assert outcomes == case["outcomes"]
    if case["expected"] is None:
        assert image.greeting() is None
        return
    greeting = body_of(image.greeting())
    assert (greeting.pop("topic"), greeting.pop("type")) == (case["topic"], "snapshot")
    if "symbol" not in greeting["data"]:
        data = greeting.pop("data")
        assert data.pop("s") == case["topic"].split(".")[-1]
        greeting |= data
    assert greeting == case["expected"]


# ---- books ----


def test_a_greeting_has_the_shape_and_the_positions_of_the_last_message() -> None:
    image = following(make_image(topic()), snapshot(5_000), delta(5_001, [("10.04", "0")]))
    assert image.greeting() == snapshot(5_001, [("10.05", "3.2")])


def test_a_book_of_old_options_has_no_seq_and_no_cts() -> None:
    name = "orderbook.25.BTC-6JAN23-17500-C"
    text = snapshot(0, [], [], of=name, seq=None, cts=None)
    image = following(make_image(topic(name, Category.OPTION)), text)
    assert image.greeting() == text
    following(image, snapshot(2, [], [], of=name, seq=None, cts=None))
    following(image, delta(3, [("9", "1")], of=name, seq=None, cts=None))
    greeting = body_of(image.greeting())
    assert (greeting["data"]["u"], greeting["data"]["b"]) == (3, [["9", "1"]])
    assert "seq" not in greeting["data"]
    assert "cts" not in greeting


def test_a_book_that_names_itself_is_greeted_with_that_name() -> None:
    """Bybit puts an `id` between topic and data on its option socket."""
    symbol = "BTC-6JAN23-17500-C"
    name = f"orderbook.25.{symbol}"

    def message(kind: str, u: int, bids: list[list[str]]) -> bytes:
        around = {"topic": name, "ts": 5, "type": kind, "id": f"{name}-5-{u}"}
        return compact(around | {"data": {"s": symbol, "b": bids, "a": [], "u": u, "seq": u}})

    image = make_image(topic(name, Category.OPTION))
    following(image, message("snapshot", 7, [["1", "2"]]), message("delta", 8, [["3", "4"]]))
    assert image.greeting() == message("snapshot", 8, [["3", "4"], ["1", "2"]])


def test_the_levels_of_a_book_are_its_best_and_hold_every_delta() -> None:
    image = following(make_image(topic()), snapshot(5_000), delta(5_001, [("10.06", "7")]))
    assert image.levels(1) == ([("10.06", "7")], [("10.07", "1.5")])
    image.stop()
    bids, asks = image.levels(50)
    assert (len(bids), len(asks)) == (3, 2)


def test_a_book_of_depth_1_shows_the_levels_of_its_last_message() -> None:
    name = "orderbook.1.BTCUSDT"
    image = make_image(topic(name))
    assert image.levels(1) == ([], [])
    following(image, snapshot(1, [("9", "1")], [("10", "1")], of=name))
    following(image, snapshot(2, [("8", "3")], [("11", "2")], of=name))
    assert image.levels(1) == ([("8", "3")], [("11", "2")])
    assert image.levels(0) == ([], [])
    assert image.fields() == {}


def test_a_ticker_of_spot_shows_the_fields_of_its_last_message() -> None:
    image = make_image(topic("tickers.BTCUSDT", Category.SPOT))
    assert image.fields() == {}
    following(image, ticker(lastPrice="1", price24hPcnt="0.1"), ticker(lastPrice="2"))
    fields = {key: bytes(value) for key, value in image.fields().items()}
    assert fields == {"symbol": b'"BTCUSDT"', "lastPrice": b'"2"'}
    assert image.levels(1) == ([], [])


def test_a_greeting_holds_as_many_levels_as_the_topic() -> None:
    bids = [(str(price), "1") for price in range(130, 70, -1)]
    asks = [(str(price), "1") for price in range(131, 191)]
    image = following(make_image(topic()), snapshot(1, bids, asks))
    assert image.greeting() == snapshot(1, bids[:50], asks[:50])


def test_a_book_that_an_exchange_never_deletes_from_does_not_grow_without_end() -> None:
    image = following(make_image(topic()), snapshot(1, [], []))
    spare = 50 + SPARE_LEVELS
    for u in range(2, spare + 2):
        following(image, delta(u, [(f"{u}.0", "1")], []))
    text = delta(spare + 2, [("1.0", "1")], [])
    image.apply(text, frame(text))
    with pytest.raises(BadFrame, match=f"at most {spare} levels a side, received {spare + 1}"):
        image.verify()


def test_a_snapshot_of_any_length_is_no_book() -> None:
    text = snapshot(1, [(f"{n}.0", "1") for n in range(51 + SPARE_LEVELS)], [])
    with pytest.raises(BadFrame, match="levels a side"):
        make_image(topic()).apply(text, frame(text))


@pytest.mark.parametrize("kind", ["snapshot", "delta"])
def test_a_ticker_does_not_take_any_number_of_keys(kind: str) -> None:
    image = following(make_image(topic("tickers.BTCUSDT")), ticker(a="1"))
    text = ticker(kind, **{f"key{number}": "1" for number in range(MAX_FIELDS + 1)})
    with pytest.raises(BadFrame, match="at most 500 fields"):
        image.apply(text, frame(text))
    following(image, ticker("delta", a="2"))


def test_a_greeting_is_made_once_for_each_state() -> None:
    image = following(make_image(topic()), snapshot(5_000))
    first = image.greeting()
    assert image.greeting() is first
    following(image, delta(5_001))
    assert image.greeting() == snapshot(5_001, [("10.05", "3.2"), ("10.04", "2")])


def test_a_stopped_image_greets_nobody_until_the_next_snapshot() -> None:
    image = following(make_image(topic()), snapshot(5_000))
    assert image.greeting() is not None
    image.stop()
    assert (image.is_live, image.greeting()) == (False, None)
    assert outcome(image, delta(5_001)) == "ignored"
    following(image, snapshot(7_000))
    assert image.greeting() == snapshot(7_000)


def test_a_delta_of_u_1_is_a_new_book() -> None:
    image = following(make_image(topic()), snapshot(5_000), delta(1, [("7", "1")], [("8", "1")]))
    assert image.greeting() == snapshot(1, [("7", "1")], [("8", "1")])
    following(image, delta(2, [("7", "0")]))
    assert image.greeting() == snapshot(2, [], [("8", "1")])


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"s": "X", "b": [], "a": []},
        {"s": "X", "b": [["1", "1"]], "a": [["1"]], "u": 1},
        {"s": "X", "b": [["1", 1]], "a": [], "u": 1},
        {"s": "X", "b": [], "a": None, "u": 1},
        {"s": "X", "b": [], "a": [], "u": "1"},
        {"s": "X", "b": [], "a": [], "u": 1.5},
        {"s": "X", "b": [["1", "1", "1"]], "a": [], "u": 1},
    ],
)
@pytest.mark.parametrize("depth", [1, 50])
def test_a_book_without_what_a_book_has_is_a_bad_frame(data: Any, depth: int) -> None:
    name = f"orderbook.{depth}.BTCUSDT"
    text = compact({"topic": name, "type": "snapshot", "ts": 1, "data": data})
    image = make_image(topic(name))
    with pytest.raises(BadFrame):
        image.apply(text, frame(text))
    assert image.greeting() is None


def is_deep(name: str) -> bool:
    return name.startswith("orderbook.") and not name.startswith("orderbook.1.")


@each(*(path for path in SESSIONS if any(is_deep(name) for name, _ in market_frames(path))))
def test_a_recorded_book_is_that_of_the_reference_at_every_message(path: Path) -> None:
    books: dict[str, tuple[Image, Reference]] = {}
    kinds: Counter[str] = Counter()
    for name, line in market_frames(path):
        if not is_deep(name):
            continue
        if name not in books:
            books[name] = make_image(topic(name, category_of(path))), Reference()
        image, reference = books[name]
        message = json.loads(line)
        data, depth = message["data"], int(name.split(".")[1])
        kinds[message["type"]] += 1
        reference.apply(message["type"], [*map(tuple, data["b"])], [*map(tuple, data["a"])])
        following(image, line.encode())
        bids, asks = reference.levels(depth)
        assert body_of(image.greeting()) == message | {
            "type": "snapshot",
            "data": data | {"b": [*map(list, bids)], "a": [*map(list, asks)]},
        }
        assert (len(bids), len(asks)) == (depth, depth)
    assert kinds["snapshot"] == len(books)
    assert kinds["delta"] >= 30 * len(books)


# ---- tickers ----


def test_a_greeting_of_a_ticker_is_the_merged_snapshot() -> None:
    image = following(
        make_image(topic("tickers.BTCUSDT")),
        ticker(lastPrice="1.0", fundingRate="0.01", cs=1, ts=10),
        ticker("delta", lastPrice="1.10", bid1Price="1.00", cs=2, ts=20),
        ticker("delta", fundingRate="", cs=3, ts=30),
    )
    assert image.greeting() == ticker(
        lastPrice="1.10", fundingRate="", bid1Price="1.00", cs=3, ts=30
    )


def test_a_greeting_of_an_option_ticker_is_merged_too_in_the_shape_of_its_own() -> None:
    name = "tickers.BTC-25JUN27-106000-P-USDT"

    def message(kind: str, ts: int, **data: str) -> bytes:
        body = {"topic": name, "ts": ts, "type": kind, "id": f"{name}-{ts}"}
        return compact(body | {"data": {"symbol": name[8:]} | data})

    first = message("snapshot", 3, bidPrice="22915", askPrice="0")
    image = following(make_image(topic(name, Category.OPTION)), first)
    assert image.greeting() == first
    following(image, message("delta", 6, askPrice="26200"))
    assert image.greeting() == message("snapshot", 6, bidPrice="22915", askPrice="26200")


def test_a_new_snapshot_of_a_ticker_forgets_the_old_keys() -> None:
    image = following(make_image(topic("tickers.BTCUSDT")), ticker(a="1", b="1"), ticker(b="2"))
    assert image.greeting() == ticker(b="2")


def test_a_value_of_a_ticker_is_kept_as_it_was_written() -> None:
    text = (
        b'{"topic":"tickers.BTCUSDT","type":"snapshot",'
        b'"data":{"symbol":"BTCUSDT","a":1.50,"b":"\\u00e9\xc3\xa9",'
        b'"c":[1, 2],"d":null},"cs":1,"ts":2}'
    )
    assert following(make_image(topic("tickers.BTCUSDT")), text).greeting() == text


@pytest.mark.parametrize("data", [None, [], "x", 1, {}, {"lastPrice": "1"}, [{"symbol": "X"}]])
@pytest.mark.parametrize("category", [Category.SPOT, Category.LINEAR])
def test_a_ticker_without_its_symbol_is_a_bad_frame(data: Any, category: Category) -> None:
    text = compact({"topic": "tickers.BTCUSDT", "type": "snapshot", "ts": 1, "data": data})
    with pytest.raises(BadFrame):
        make_image(topic("tickers.BTCUSDT", category)).apply(text, frame(text))


@each(*(path for path in SESSIONS if '"tickers.' in path.read_text() and "linear" in path.name))
def test_the_recorded_tickers_merge_as_their_page_says(path: Path) -> None:
    images: dict[str, Image] = {}
    merged: dict[str, dict[str, str]] = {}
    kinds: Counter[str] = Counter()
    for name, line in market_frames(path):
        message = json.loads(line)
        if not name.startswith("tickers."):
            continue
        kinds[message["type"]] += 1
        if message["type"] == "snapshot":
            merged[name] = {}
        merged[name].update(message["data"])
        image = images.setdefault(name, make_image(topic(name)))
        following(image, line.encode())
        greeting = body_of(image.greeting())
        assert greeting == message | {"type": "snapshot", "data": merged[name]}
    assert kinds["snapshot"] == len(images)
    assert kinds["delta"] >= 8 * len(images)


# ---- whole messages ----


@pytest.mark.parametrize(
    ("category", "text"),
    [
        (Category.LINEAR, snapshot(7, of="orderbook.1.BTCUSDT")),
        (Category.SPOT, ticker(lastPrice="1.0")),
        (Category.OPTION, ticker(of="tickers.BTC-6JAN23-17500-C", cs=None)),
    ],
)
def test_a_feed_of_whole_states_greets_with_its_last_message(
    category: Category, text: bytes
) -> None:
    image = make_image(topic(frame(text).topic or "", category))
    assert image.greeting() is None
    following(image, text)
    assert image.greeting() is text
    image.stop()
    assert image.greeting() is None


def test_the_same_u_again_at_depth_1_is_news_and_not_a_gap() -> None:
    name = "orderbook.1.BTCUSDT"
    image = following(
        make_image(topic(name)),
        snapshot(7, of=name, seq=1),
        snapshot(7, of=name, seq=2),
        snapshot(90, of=name, seq=3),
        snapshot(9, of=name, seq=4),
    )
    assert image.greeting() == snapshot(9, of=name, seq=4)


def test_nobody_is_greeted_with_a_delta_of_depth_1() -> None:
    name = "orderbook.1.BTCUSDT"
    image = following(make_image(topic(name)), snapshot(7, of=name), delta(8, of=name))
    assert image.greeting() is None
    following(image, snapshot(9, of=name))
    assert image.greeting() == snapshot(9, of=name)


# ---- candles ----


def candles() -> Image:
    return make_image(topic("kline.1.BTCUSDT"))


def test_a_candle_greets_with_its_last_message_even_of_two_rows() -> None:
    image = following(candles(), candle((1, False)), candle((1, True), (2, False)))
    assert image.greeting() == candle((1, True), (2, False))
    image.stop()
    assert image.greeting() is None


def test_closing_messages_are_kept_for_those_who_were_behind() -> None:
    closed = [candle((minute, True)) for minute in range(CANDLES_KEPT + 2)]
    image = candles()
    for number, text in enumerate(closed):
        following(image, candle((number, False)), text)
        assert image.closings == number + 1
    assert image.closed_since(len(closed)) == (0, [])
    assert image.closed_since(len(closed) - 3) == (0, closed[-3:])
    assert image.closed_since(0) == (2, closed[2:])


def test_a_candle_that_is_closed_twice_counts_once() -> None:
    image = following(candles(), candle((1, True)), candle((1, True), close="10.2"))
    assert image.closings == 1


def test_a_base_brings_what_closed_and_the_last_message() -> None:
    texts = [candle((1, True)), candle((2, False)), candle((2, True)), candle((3, False))]
    image = following(candles(), *texts)
    assert image.base() == [texts[0], texts[2], texts[3]]
    assert following(candles(), *image.base()).base() == image.base()
    assert following(candles(), *texts[:3]).base() == [texts[0], texts[2]]


def test_a_renewed_image_goes_on_counting_what_closes() -> None:
    image = following(candles(), candle((1, True)))
    again = image.renewed()
    assert (again.is_live, again.base()) == (False, [])
    following(again, candle((1, True)), candle((2, True)))
    assert again.closings == 2
    assert again.closed_since(1) == (0, [candle((2, True))])


@pytest.mark.parametrize(
    "data",
    [None, {}, [], [1], [{}], [{"start": 1, "end": 2}], [{"start": -1, "end": 2, "confirm": 1}]],
)
def test_candles_without_their_times_are_a_bad_frame(data: Any) -> None:
    text = compact({"topic": "kline.1.BTCUSDT", "type": "snapshot", "ts": 1, "data": data})
    with pytest.raises(BadFrame):
        candles().apply(text, frame(text))


def test_a_message_that_is_kept_has_a_bound_in_bytes() -> None:
    long = candle((1, True), close="9" * ROW_BYTES)
    image = candles()
    with pytest.raises(BadFrame, match="bytes"):
        image.apply(long, frame(long))
    assert (image.closings, image.is_live) == (0, False)


# ---- trades ----


def test_a_trade_that_is_kept_has_a_bound_in_bytes() -> None:
    row = json.dumps(trade(1) | {"p": "9" * ROW_BYTES}).encode()
    text = b'{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1,"data":[' + row + b"]}"
    image = make_image(topic("publicTrade.BTCUSDT"))
    with pytest.raises(BadFrame, match="bytes"):
        image.apply(text, frame(text))
    assert image.greeting() is None


def test_trades_greet_with_the_last_fifty_as_one_snapshot() -> None:
    image = make_image(topic("publicTrade.BTCUSDT"))
    following(image, trades(range(30)), trades(range(30, 70), ts=77))
    assert image.greeting() == trades(range(20, 70), ts=77)


def test_a_trade_is_kept_as_it_was_written() -> None:
    row = b'{"i":"1", "p":1.50,"extra":{"a":[1]}}'
    text = b'{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1,"data":[' + row + b"]}"
    image = following(make_image(topic("publicTrade.BTCUSDT")), text)
    assert image.greeting() == text


@given(st.lists(st.integers(0, 120), max_size=6))
def test_each_trade_takes_one_position(sizes: list[int]) -> None:
    image = EventsImage(topic("publicTrade.BTCUSDT"))
    sent: list[int] = []
    for size in sizes:
        numbers = range(len(sent), len(sent) + size)
        text = trades(numbers)
        assert image.apply(text, frame(text)) == size
        sent.extend(numbers)
    assert (image.greeting() is None) is (not sent)
    if sent:
        assert trade_numbers(image.greeting()) == sent[-ROWS_KEPT:]
        kept = len(sent[-ROWS_KEPT:])
        assert (lost := image.recover(3))[0] == max(0, 3 - kept)
        assert trade_numbers(lost[1]) == sent[-3:]
        assert (lost := image.recover(1_000))[0] == 1_000 - kept
        assert trade_numbers(lost[1]) == sent[-ROWS_KEPT:]
    assert image.recover(0) == (0, None)


def test_a_quiet_market_is_live_and_has_nothing_to_show() -> None:
    image = EventsImage(topic("publicTrade.BTCUSDT"))
    assert not image.is_live
    image.start()
    assert (image.is_live, image.greeting()) == (True, None)


@pytest.mark.parametrize("data", [None, {}, "x", 1, [1], [trade(1), None], [[]], ["{"]])
def test_trades_that_are_no_list_of_objects_are_a_bad_frame(data: Any) -> None:
    text = compact({"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": 1, "data": data})
    image = make_image(topic("publicTrade.BTCUSDT"))
    with pytest.raises(BadFrame):
        image.apply(text, frame(text))
    assert image.greeting() is None


@each(*SESSIONS)
def test_every_recorded_market_message_is_understood(path: Path) -> None:
    images: dict[str, Image] = {}
    for name, line in market_frames(path):
        text = line.encode()
        assert frame(text).topic == name
        image = images.setdefault(name, make_image(topic(name, category_of(path))))
        following(image, text)
        assert image.greeting() is not None
    assert images


# ---- rows of other feeds ----

POOLS = "insurance.USDT"


def pools(kind: str, **balances: str) -> bytes:
    rows = [
        {"coin": "USDT", "symbols": symbols, "balance": balance}
        for symbols, balance in balances.items()
    ]
    return compact({"topic": POOLS, "type": kind, "ts": 7, "data": rows})


def balances(image: Image) -> dict[str, str]:
    return {row["symbols"]: row["balance"] for row in body_of(image.greeting())["data"]}


def test_a_delta_of_pools_replaces_the_rows_that_it_has() -> None:
    image = make_image(topic(POOLS))
    with pytest.raises(NoSnapshotYet):
        image.apply(first := pools("delta", A="1"), frame(first))
    whole = pools("snapshot", A="1", B="2")
    assert following(image, whole).greeting() == whole
    assert balances(following(image, pools("delta", B="3", C="-4"))) == {
        "A": "1",
        "B": "3",
        "C": "-4",
    }
    assert body_of(image.greeting())["type"] == "snapshot"
    assert balances(following(image, pools("snapshot", D="5"))) == {"D": "5"}


@pytest.mark.parametrize("row", [{"coin": "USDT"}, {"coin": 1, "symbols": "A"}, [], "x"])
def test_a_pool_without_a_name_is_a_bad_frame(row: Any) -> None:
    text = compact({"topic": POOLS, "type": "snapshot", "ts": 7, "data": [row]})
    with pytest.raises(BadFrame):
        make_image(topic(POOLS)).apply(text, frame(text))


def test_pools_are_bounded_in_number() -> None:
    image = following(make_image(topic(POOLS)), pools("snapshot", A="1"))
    many = pools("delta", **{f"S{number}": "1" for number in range(MAX_POOLS)})
    with pytest.raises(BadFrame, match=str(MAX_POOLS)):
        image.apply(many, frame(many))


def test_liquidations_that_are_told_again_say_so() -> None:
    text = compact(
        {"topic": "allLiquidation.X", "type": "snapshot", "ts": 7, "data": [{"s": "X", "v": "1"}]}
    )
    image = following(make_image(topic("allLiquidation.X")), text)
    assert body_of(image.greeting()) == body_of(text) | {"generated": True}


def test_a_list_that_is_the_whole_state_greets_as_it_came() -> None:
    image = make_image(topic("adlAlert.USDT"))
    text = compact({"topic": "adlAlert.USDT", "type": "snapshot", "ts": 7, "data": [{"s": "A"}]})
    assert following(image, text).greeting() == text
    assert (image.levels(5), image.fields()) == (([], []), {})


# ---- all ----


@pytest.mark.parametrize(
    ("category", "name", "kind"),
    [
        (Category.LINEAR, "orderbook.50.X", BookImage),
        (Category.OPTION, "orderbook.25.X", BookImage),
        (Category.SPOT, "orderbook.1.X", LastMessageImage),
        (Category.INVERSE, "tickers.X", TickerImage),
        (Category.SPOT, "tickers.X", LastMessageImage),
        (Category.OPTION, "tickers.X", TickerImage),
        (Category.SPOT, "publicTrade.X", EventsImage),
        (Category.SPOT, "kline.D.X", CandlesImage),
        (Category.SPOT, "priceLimit.X", LastMessageImage),
        (Category.INVERSE, "adlAlert.inverse", LastMessageImage),
        (Category.LINEAR, "insurance.USDT", PoolsImage),
        (Category.LINEAR, "allLiquidation.X", EventsImage),
    ],
)
def test_each_feed_has_its_kind_of_image(category: Category, name: str, kind: type[Image]) -> None:
    assert type(make_image(topic(name, category))) is kind


@pytest.mark.parametrize(
    ("text", "levels", "fields", "update_id"),
    [
        (snapshot(5_000), 2, 0, 5_000),
        (ticker(lastPrice="1"), 0, 2, None),
        (trades(), 0, 0, None),
        (candle((0, True)), 0, 0, None),
    ],
    ids=["book", "ticker", "trades", "candles"],
)
def test_a_feed_shows_what_it_has_and_nothing_else(
    text: bytes, levels: int, fields: int, update_id: int | None
) -> None:
    image = following(make_image(topic(body_of(text)["topic"])), text)
    bids, asks = image.levels(50)
    assert (len(bids), len(asks), len(image.fields())) == (levels, levels, fields)
    assert image.update_id == update_id


def test_only_rows_of_events_can_be_told_again() -> None:
    for text in (snapshot(5_000), ticker(), candle((0, True))):
        image = following(make_image(topic(body_of(text)["topic"])), text)
        assert image.recover(1) == (1, None)
    image = following(make_image(topic("publicTrade.BTCUSDT")), trades([1, 2]))
    assert image.recover(2) == (0, trades([1, 2]))


def test_only_closed_candles_are_kept_for_readers_that_were_behind() -> None:
    for text in (snapshot(5_000), ticker(), trades()):
        image = following(make_image(topic(body_of(text)["topic"])), text)
        assert (image.closings, image.closed_since(0)) == (0, (0, []))
    closed = candle((0, True))
    image = following(make_image(topic("kline.1.BTCUSDT")), closed, candle((1, False)))
    assert (image.closings, image.closed_since(0)) == (1, (0, [closed]))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "0", "1", "NaN", "-1", "x"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["s", "b", "a", "u", "seq", "symbol"]), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(
    st.sampled_from(["orderbook.50.X", "orderbook.1.X", "tickers.X", "publicTrade.X", "kline.1.X"]),
    st.sampled_from(["snapshot", "delta", "", None]),
    st.lists(JSON, max_size=3),
)
def test_no_data_whatever_raises_anything_but_a_fault_of_the_exchange(
    name: str, kind: str | None, datas: list[Any]
) -> None:
    image = make_image(topic(name))
    for data in datas:
        text = compact({"topic": name, "type": kind, "ts": 1, "data": data})
        try:
            image.apply(text, frame(text))
            image.verify()
        except ExchangeFault:
            image.stop()
        image.greeting()


@given(st.lists(st.tuples(st.integers(1, 99), st.integers(0, 2)), max_size=20))
def test_any_book_can_be_rebuilt_from_its_greeting(levels: list[tuple[int, int]]) -> None:
    image = following(make_image(topic()), snapshot(10, [], []))
    for update_id, (price, size) in enumerate(levels, start=11):
        following(image, delta(update_id, [(f"{price}.50", str(size))]))
    greeting = image.greeting()
    assert greeting is not None
    again = following(make_image(topic()), greeting)
    assert again.greeting() == greeting
    shown = [Decimal(price) for price, _ in body_of(greeting)["data"]["b"]]
    assert shown == sorted(shown, reverse=True)


def test_a_book_judged_good_by_another_kind_of_message_stays_good() -> None:
    """`verify` is asked after whole messages: in between a book may touch."""
    image = following(
        make_image(topic()),
        snapshot(1, [("9", "1")], [("10", "1")]),
        book("delta", 2, [("10", "1")], [("10", "0"), ("11", "1")]),
    )
    assert image.greeting() == snapshot(2, [("10", "1"), ("9", "1")], [("11", "1")])
