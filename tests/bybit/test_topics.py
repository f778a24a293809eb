"""relay/bybit/topics.py: one value, three spellings."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.bybit.errors import Code, Refusal
from relay.bybit.topics import (
    CANDLES,
    FEEDS,
    ORDERBOOK,
    TICKERS,
    TRADES,
    Category,
    Topic,
    parse_category,
    truncate,
)

SYMBOLS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,59}", fullmatch=True)


@st.composite
def topics(draw: st.DrawFn) -> Topic:
    category = draw(st.sampled_from(Category))
    feed = draw(st.sampled_from([feed for feed in FEEDS.values() if category in feed.parameters]))
    return Topic(category, feed, draw(SYMBOLS), draw(st.sampled_from(feed.parameters[category])))


def refusal_of(category: Category, text: str) -> tuple[Code, str]:
    with pytest.raises(Refusal) as caught:
        Topic.parse(category, text)
    return caught.value.code, caught.value.message


def code_of(category: Category, text: str) -> Code | None:
    try:
        Topic.parse(category, text)
    except Refusal as refusal:
        return refusal.code
    return None


@given(topics())
def test_a_topic_is_read_from_what_it_writes(topic: Topic) -> None:
    assert Topic.parse(topic.category, topic.text) == topic
    assert Topic.parse_qualified(str(topic)) == topic


@given(topics())
def test_every_group_is_a_name_that_channels_takes(topic: Topic) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,99}", topic.group)


@given(topics(), topics())
@example(
    Topic(Category.SPOT, TICKERS, "A_B/C"),
    Topic(Category.SPOT, TICKERS, "A/B_C"),
)
@example(
    Topic(Category.SPOT, TRADES, "A" * 59 + "/"),
    Topic(Category.SPOT, TRADES, "A" * 58 + "//"),
)
def test_topics_are_equal_exactly_when_their_groups_are(one: Topic, other: Topic) -> None:
    assert (one == other) is (one.group == other.group)
    if one == other:
        assert hash(one) == hash(other)


def test_the_three_spellings_of_a_topic() -> None:
    topic = Topic(Category.SPOT, ORDERBOOK, "BTCUSDT", "200")
    assert (topic.text, topic.group, str(topic)) == (
        "orderbook.200.BTCUSDT",
        "marketfeed.spot.orderbook.200.BTCUSDT",
        "spot:orderbook.200.BTCUSDT",
    )
    trades = Topic(Category.OPTION, TRADES, "BTC")
    assert (trades.text, trades.group) == ("publicTrade.BTC", "marketfeed.option.publicTrade.BTC")


@pytest.mark.parametrize(
    ("text", "written"),
    [("orderbook.200.BTCUSDT", 200), ("kline.5.BTCUSDT", "5"), ("kline.D.BTCUSDT", "D"),
     ("tickers.BTCUSDT", "")],
)  # fmt: skip
def test_a_native_request_writes_a_depth_as_a_number_and_an_interval_as_text(
    text: str, written: int | str
) -> None:
    assert Topic.parse(Category.LINEAR, text).native_parameter == written


def test_a_feed_that_a_category_lacks_has_no_parameter_there() -> None:
    with pytest.raises(Refusal) as caught:
        CANDLES.check(Category.OPTION, "1")
    assert caught.value.code is Code.UNKNOWN_TOPIC
    assert caught.value.message == "unknown topic: option has no kline"


def test_spot_and_linear_share_symbols_and_not_topics() -> None:
    spot, linear = (Topic.parse(c, "tickers.BTCUSDT") for c in (Category.SPOT, Category.LINEAR))
    assert spot.text == linear.text
    assert spot != linear
    assert spot.group != linear.group


@pytest.mark.parametrize(
    ("category", "depths"),
    [
        (Category.SPOT, [1, 50, 200, 500, 1000]),
        (Category.LINEAR, [1, 50, 200, 500, 1000]),
        (Category.INVERSE, [1, 50, 200, 500, 1000]),
        (Category.OPTION, [25, 100]),
    ],
)
def test_each_category_has_its_own_depths(category: Category, depths: list[int]) -> None:
    codes = {depth: code_of(category, f"orderbook.{depth}.X") for depth in range(1_100)}
    assert [depth for depth, code in codes.items() if code is None] == depths
    assert set(codes.values()) == {None, Code.BAD_LEVELS}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", Code.UNKNOWN_TOPIC),
        (".", Code.UNKNOWN_TOPIC),
        ("candles", Code.UNKNOWN_TOPIC),
        ("candles.1.BTCUSDT", Code.UNKNOWN_TOPIC),
        ("kline.2.BTCUSDT", Code.BAD_REQUEST),
        ("kline..BTCUSDT", Code.BAD_REQUEST),
        ("Orderbook.50.BTCUSDT", Code.UNKNOWN_TOPIC),
        ("orderbook", Code.UNKNOWN_TOPIC),
        ("orderbook.", Code.UNKNOWN_TOPIC),
        ("orderbook.50", Code.UNKNOWN_TOPIC),
        ("tickers", Code.UNKNOWN_TOPIC),
        ("tickers.", Code.UNKNOWN_TOPIC),
        ("orderbook..BTCUSDT", Code.BAD_LEVELS),
        ("orderbook.7.BTCUSDT", Code.BAD_LEVELS),
        ("orderbook.050.BTCUSDT", Code.BAD_LEVELS),
        ("orderbook.5_0.BTCUSDT", Code.BAD_LEVELS),
        ("orderbook.+50.BTCUSDT", Code.BAD_LEVELS),
        ("orderbook.٥٠.BTCUSDT", Code.BAD_LEVELS),
        ("orderbook.rpi.BTCUSDT", Code.BAD_LEVELS),
        ("orderbook.full.BTCUSDT", Code.BAD_LEVELS),
        (f"orderbook.{'9' * 10_000}.BTCUSDT", Code.BAD_LEVELS),
        ("orderbook.50.", Code.BAD_SYMBOL),
        ("orderbook.50..BTCUSDT", Code.BAD_SYMBOL),
        ("orderbook.50._BTCUSDT", Code.BAD_SYMBOL),
        ("tickers.-BTCUSDT", Code.BAD_SYMBOL),
        ("tickers./BTCUSDT", Code.BAD_SYMBOL),
        ("tickers.BTC|USDT", Code.BAD_SYMBOL),
        ("tickers.BTC:USDT", Code.BAD_SYMBOL),
        ("tickers.BTC USDT", Code.BAD_SYMBOL),
        ("tickers.BTCUSDT\n", Code.BAD_SYMBOL),
        ("tickers.ВТСUSDT", Code.BAD_SYMBOL),
        ("tickers.BTC\0USDT", Code.BAD_SYMBOL),
        (f"tickers.{'A' * 61}", Code.BAD_SYMBOL),
    ],
)
def test_a_text_that_is_no_topic_is_refused_by_what_is_wrong(text: str, code: Code) -> None:
    assert refusal_of(Category.LINEAR, text)[0] is code


@pytest.mark.parametrize(
    ("category", "text", "symbol", "parameter"),
    [
        (Category.OPTION, "orderbook.25.XRP-30OCT26-0.4-P-USDT", "XRP-30OCT26-0.4-P-USDT", "25"),
        (Category.OPTION, "tickers.XRP-30OCT26-0.4-P-USDT", "XRP-30OCT26-0.4-P-USDT", ""),
        (Category.LINEAR, "orderbook.50.0.BTCUSDT", "0.BTCUSDT", "50"),
        (Category.LINEAR, "publicTrade.SOLUSDT_SOL/USDT", "SOLUSDT_SOL/USDT", ""),
        (Category.SPOT, "tickers.btcusdt", "btcusdt", ""),
        (Category.SPOT, f"tickers.{'A' * 60}", "A" * 60, ""),
    ],
)
def test_a_text_is_split_at_its_first_dots_and_names_any_symbol_of_the_exchange(
    category: Category, text: str, symbol: str, parameter: str
) -> None:
    topic = Topic.parse(category, text)
    assert (topic.symbol, topic.parameter, topic.text) == (symbol, parameter, text)


def test_the_group_of_a_symbol_with_dots_or_underscores_is_its_text() -> None:
    for text in ("tickers.XRP-30OCT26-0.4-P-USDT", "tickers.A_B"):
        assert Topic.parse(Category.OPTION, text).group == f"marketfeed.option.{text}"


@given(st.text(max_size=200))
def test_any_text_is_a_topic_or_a_refusal(text: str) -> None:
    if code_of(Category.LINEAR, text) is None:
        assert Topic.parse(Category.LINEAR, text).text == text
    else:
        assert len(refusal_of(Category.LINEAR, text)[1]) < 200


def test_a_refusal_says_what_was_asked_for_and_what_there_is() -> None:
    assert refusal_of(Category.LINEAR, "candles.X") == (
        Code.UNKNOWN_TOPIC,
        "unknown topic: candles.X",
    )
    assert refusal_of(Category.OPTION, "orderbook.50.X") == (
        Code.BAD_LEVELS,
        "bad levels: 50; option has 25, 100",
    )
    assert refusal_of(Category.SPOT, "tickers.x!") == (Code.BAD_SYMBOL, "bad symbol: x!")


@pytest.mark.parametrize(
    ("category", "amended"),
    [
        (Category.SPOT, ["orderbook.50.X"]),
        (Category.LINEAR, ["orderbook.50.X", "tickers.X"]),
        (Category.INVERSE, ["orderbook.50.X", "tickers.X"]),
        (Category.OPTION, ["orderbook.25.X", "tickers.X"]),
    ],
)
def test_deep_books_and_tickers_other_than_spot_s_are_amended(
    category: Category, amended: list[str]
) -> None:
    texts = ["orderbook.50.X", "tickers.X", "publicTrade.X", "orderbook.1.X"]
    if category is Category.OPTION:
        texts = ["orderbook.25.X", "tickers.X", "publicTrade.X"]
    assert [text for text in texts if Topic.parse(category, text).is_amended] == amended


def test_a_topic_without_a_category_is_of_the_default_one() -> None:
    assert str(Topic.parse_qualified("tickers.X")) == "linear:tickers.X"
    assert str(Topic.parse_qualified("tickers.X", Category.SPOT)) == "spot:tickers.X"
    assert str(Topic.parse_qualified("inverse:tickers.X", Category.SPOT)) == "inverse:tickers.X"


@pytest.mark.parametrize("name", ["", "Spot", "spread", "linear ", "х" * 200])
def test_another_category_is_refused(name: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_category(name)
    assert caught.value.code is Code.BAD_CATEGORY
    assert len(caught.value.message) < 100


def test_no_more_than_80_characters_of_a_client_are_repeated() -> None:
    assert truncate("a" * 80) == "a" * 80
    assert truncate("a" * 81) == "a" * 79 + "…"
