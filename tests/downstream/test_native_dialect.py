"""relay/downstream/native_dialect.py: the relay's own words."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.bybit.errors import Code, Refusal
from relay.bybit.requests import decode_fields
from relay.bybit.topics import Category, Topic
from relay.downstream import native_dialect
from relay.downstream.native_dialect import Method, NativeId
from tests.builders import body_of, compact, topic


def read_topic(fixed: Category | None = None, /, **fields: Any) -> Topic:
    return native_dialect.read_topic(decode_fields(compact(fields)), fixed)


def code_of(fixed: Category | None = None, /, **fields: Any) -> Code:
    with pytest.raises(Refusal) as caught:
        read_topic(fixed, **fields)
    return caught.value.code


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"topic": "orderbook", "levels": 200}, "linear:orderbook.200.X"),
        ({"topic": "orderbook"}, "linear:orderbook.50.X"),
        ({"topic": "orderbook", "category": "option"}, "option:orderbook.100.X"),
        ({"topic": "orderbook", "category": "spot", "levels": 1}, "spot:orderbook.1.X"),
        ({"topic": "publicTrade", "levels": "ignored"}, "linear:publicTrade.X"),
        ({"topic": "tickers"}, "linear:tickers.X"),
        ({"topic": "ticker", "category": "inverse"}, "inverse:tickers.X"),
        ({"topic": "tickers", "nonsense": [1]}, "linear:tickers.X"),
        ({"topic": "kline", "interval": "1"}, "linear:kline.1.X"),
        ({"topic": "kline", "interval": 15}, "linear:kline.15.X"),
        ({"topic": "kline", "interval": "D", "category": "spot"}, "spot:kline.D.X"),
    ],
)
def test_a_topic_is_read_with_its_defaults(fields: dict[str, Any], expected: str) -> None:
    assert str(read_topic(symbol="X", **fields)) == expected


@pytest.mark.parametrize(
    "text", ["orderbook.50.X", "kline.5.X", "publicTrade.X", "orderbook.25.XRP-30OCT26-0.4-P-USDT"]
)
def test_a_topic_may_be_given_as_bybit_writes_it(text: str) -> None:
    category = "option" if "-P-" in text else "linear"
    assert str(read_topic(topic=text, category=category)) == f"{category}:{text}"


@pytest.mark.parametrize("interval", ["2", "", "01", "d", 2, True, None, 1.0, [1], {}])
def test_an_interval_that_there_is_not_is_a_bad_request(interval: Any) -> None:
    assert code_of(topic="kline", symbol="X", interval=interval) is Code.BAD_REQUEST


@pytest.mark.parametrize("levels", [0, 7, -50, True, "50", 50.0, None, [50], 10**30, "9" * 10_000])
def test_levels_are_a_whole_number_of_the_category(levels: Any) -> None:
    assert code_of(topic="orderbook", symbol="X", levels=levels) is Code.BAD_LEVELS


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, Code.BAD_REQUEST),
        ({"topic": "tickers"}, Code.BAD_REQUEST),
        ({"topic": 5, "symbol": "X"}, Code.BAD_REQUEST),
        ({"topic": "tickers", "symbol": 5}, Code.BAD_REQUEST),
        ({"topic": "tickers", "symbol": None}, Code.BAD_REQUEST),
        ({"topic": "tickers", "symbol": "X", "category": 5}, Code.BAD_REQUEST),
        ({"topic": "candles", "symbol": "X"}, Code.UNKNOWN_TOPIC),
        ({"topic": "candles.1.X"}, Code.UNKNOWN_TOPIC),
        ({"topic": "kline", "symbol": "X"}, Code.BAD_REQUEST),
        ({"topic": "kline", "symbol": "X", "category": "option"}, Code.UNKNOWN_TOPIC),
        ({"topic": "kline.2.X"}, Code.BAD_REQUEST),
        ({"topic": "orderbook.7.X"}, Code.BAD_LEVELS),
        ({"topic": "orderbook.50.X", "symbol": "X"}, Code.UNKNOWN_TOPIC),
        ({"topic": "tickers", "symbol": ""}, Code.BAD_SYMBOL),
        ({"topic": "tickers", "symbol": ".5"}, Code.BAD_SYMBOL),
        ({"topic": "tickers", "symbol": "A\0"}, Code.BAD_SYMBOL),
        ({"topic": "tickers", "symbol": "A" * 61}, Code.BAD_SYMBOL),
        ({"topic": "tickers", "symbol": "X", "category": "spread"}, Code.BAD_CATEGORY),
        ({"topic": "tickers", "symbol": "X", "category": "Spot"}, Code.BAD_CATEGORY),
    ],
)
def test_a_wrong_field_is_refused_by_its_own_code(fields: dict[str, Any], code: Code) -> None:
    assert code_of(**fields) is code


def test_a_connection_keeps_its_category() -> None:
    assert str(read_topic(Category.SPOT, topic="tickers", symbol="X")) == "spot:tickers.X"
    same = read_topic(Category.SPOT, topic="tickers", symbol="X", category="spot")
    assert str(same) == "spot:tickers.X"
    assert code_of(Category.SPOT, topic="tickers", symbol="X", category="linear") is (
        Code.BAD_CATEGORY
    )


@pytest.mark.parametrize(
    "written",
    ["7", "-1.50", "1e3", "0", '"seven"', '""', '"\\u0041"', '"🙂"', f'"{"x" * 64}"', "9" * 64],
)
def test_an_id_is_given_back_as_it_was_written(written: str) -> None:
    known = native_dialect.read_id(decode_fields(f'{{"method":"ping","id":  {written} }}'))
    answer = native_dialect.pong(known)
    assert answer == f'{{"method":"pong","id":{written}}}'.encode()


@pytest.mark.parametrize(
    "written", ["true", "null", "{}", "[1]", f'"{"x" * 65}"', "9" * 65, "9" * 10_000]
)
def test_an_id_of_another_kind_is_refused(written: str) -> None:
    fields = decode_fields(f'{{"method":"ping","id":{written}}}')
    with pytest.raises(Refusal) as caught:
        native_dialect.read_id(fields)
    assert caught.value.code is Code.BAD_REQUEST
    assert native_dialect.read_name(fields) == NativeId("ping")


@given(st.text(max_size=100))
def test_a_method_is_one_of_four(name: str) -> None:
    fields = decode_fields(compact({"method": name}))
    if name in [*Method]:
        assert native_dialect.read_method(fields) == name
        return
    with pytest.raises(Refusal) as caught:
        native_dialect.read_method(fields)
    assert caught.value.code is Code.UNKNOWN_METHOD


@pytest.mark.parametrize("fields", [{}, {"method": 5}, {"method": None}])
def test_a_request_without_a_method_is_a_bad_one(fields: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as caught:
        native_dialect.read_method(decode_fields(compact(fields)))
    assert caught.value.code is Code.BAD_REQUEST


KNOWN = NativeId("subscribe", msgspec.Raw(b"7"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            native_dialect.agreed(KNOWN, topic()),
            {"method": "subscribe", "success": True, "topic": "orderbook.50.BTCUSDT",
             "category": "linear", "id": 7},
        ),
        (
            native_dialect.agreed(NativeId("subscribe"), topic(), already=True),
            {"method": "subscribe", "success": True, "topic": "orderbook.50.BTCUSDT",
             "category": "linear", "already": True},
        ),
        (
            native_dialect.refused(KNOWN, Refusal(Code.UNKNOWN_TOPIC, "unknown topic: candles")),
            {"method": "subscribe", "success": False, "id": 7,
             "error": {"code": "unknown_topic", "message": "unknown topic: candles"}},
        ),
        (
            native_dialect.refused(NativeId(), Refusal(Code.BAD_JSON, "not JSON")),
            {"success": False, "error": {"code": "bad_json", "message": "not JSON"}},
        ),
        (native_dialect.pong(NativeId("ping")), {"method": "pong"}),
        (
            native_dialect.listing(NativeId("list"), None, []),
            {"method": "list", "success": True, "category": "linear", "topics": []},
        ),
        (
            native_dialect.listing(NativeId("list"), Category.SPOT, [topic()]),
            {"method": "list", "success": True, "category": "spot",
             "topics": ["orderbook.50.BTCUSDT"]},
        ),
        (
            native_dialect.status(Category.LINEAR, "down", 1_700),
            {"type": "status", "category": "linear", "upstream": "down", "since": 1_700},
        ),
        (native_dialect.lagging(70_000), {"type": "lagging", "unsent": 70_000}),
        (
            native_dialect.gap(topic("publicTrade.BTCUSDT"), 12),
            {"type": "gap", "topic": "publicTrade.BTCUSDT", "dropped": 12},
        ),
        (
            native_dialect.bye("slow", "too slow"),
            {"type": "bye", "code": "slow", "message": "too slow"},
        ),
    ],
)  # fmt: skip
def test_every_message_is_as_the_interface_has_it(text: bytes, expected: dict[str, Any]) -> None:
    assert body_of(text) == expected
