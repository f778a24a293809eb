"""Whatever values JSON allows, in any field of any message: at most the topic needs a snapshot."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.bybit import dialect as bybit_dialect
from relay.bybit.dialect import BybitDialect
from relay.bybit.errors import ExchangeFault, Refusal
from relay.bybit.frames import decode_frame
from relay.bybit.requests import decode_fields
from relay.bybit.topics import Category
from relay.downstream import native_dialect
from relay.ops.rows import topic_rows
from relay.ops.topic_table import read_page
from relay.telemetry.reports import HubRows, StreamRow, pack, unpack
from relay.terminal.followed import Followed
from relay.terminal.lines import lines
from relay.upstream.category import CategoryUpstream
from tests.builders import (
    ack,
    command_response,
    compact,
    delta,
    kind_of,
    refusal,
    snapshot,
    ticker,
    topic,
    trades,
)
from tests.downstream.readers import RecordingReader
from tests.downstream.town import Town
from tests.upstream.market import Market, group

NUMBERS = (
    *("0", "-0", "1", "-1", "5.0", "1.5", "1e3", "1e400", "-1e400", "1E-999999"),
    *(str(2**53 - 1), str(2**53), str(2**63), str(2**64), str(-(2**63)), str(-(10**30))),
    *("9" * 20, "1" + "0" * 400, "1" * 5_000),
)
STRINGS = (
    *("", "0", "-0", "-0.0", "1e5", "1.5e-7", "NaN", "-Infinity", "1_000", " 1", "+1", "01"),
    *("\ud800", "1.", ".5", "٣", "1\n2", "\u2028", "9" * 1_000_000),
)
OTHERS = ("null", "true", "{}", "[]", "[[]]", '{"a":1}')
ODD = (*NUMBERS, *map(json.dumps, STRINGS), *OTHERS)

BOOK, LEVEL, TRADES, TICKER = (
    "orderbook.50.BTCUSDT",
    "orderbook.1.BTCUSDT",
    "publicTrade.BTCUSDT",
    "tickers.BTCUSDT",
)
OPTION = "tickers.BTC-25JUN27-106000-P-USDT"
BYSTANDER = "orderbook.50.ETHUSDT"
FRAMES = {
    "book snapshot": snapshot(6_000),
    "book delta": delta(5_001, [("10.03", "5")], [("10.06", "5")]),
    "level 1": snapshot(6_000, [("10.05", "1")], [("10.07", "1")], of=LEVEL),
    "trades": trades([1, 2]),
    "ticker snapshot": ticker(lastPrice="1", nextFundingTime="1700000000000"),
    "ticker delta": ticker("delta", lastPrice="2"),
}
FIRST = {BOOK: snapshot(5_000), TICKER: ticker(lastPrice="1")}
PLACEHOLDER = "\ue000"


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where the values of a message are, but its topic: that says whose it is."""
    if at == ("topic",):
        return []
    inner: Any = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    return [at, *(path for key, each in inner for path in paths(each, (*at, key)))]


def replaced(text: bytes, path: tuple[Any, ...], odd: str) -> bytes:
    """Return a message with the JSON `odd` in one place of it."""
    body = json.loads(text)
    if not path:
        return odd.encode()
    place = body
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = PLACEHOLDER
    written = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    return written.replace(f'"{PLACEHOLDER}"', odd).encode()


EVERYWHERE = [(name, path) for name, text in FRAMES.items() for path in paths(json.loads(text))]


class House:
    """A worker, a hub that hears what it says, a reader of every topic, and a watch."""

    def __init__(self) -> None:
        self.market, self.town = Market(), Town()
        self.topics = (BOOK, LEVEL, TRADES, TICKER, BYSTANDER)
        self.reader = RecordingReader()
        self.market.follow(*self.topics)
        self.town.subscribe(self.reader, *map(topic, self.topics))
        self.market.want(*self.topics)
        self.say(*FIRST.values(), snapshot(5_000, of=BYSTANDER))
        self.town.pass_time(1)
        self.town.hub.flush()
        assert self.reader.taken()[0] == ("ack", 7)

    def say(self, *texts: bytes) -> None:
        self.market.frames(*texts)
        for envelope in self.market.told():
            self.town.receive(envelope)
        self.town.hub.flush()

    def answer(self) -> None:
        """Have a resync that is due asked for, and agreed to."""
        self.market.want(*self.topics, whole=True)
        self.market.pass_time(1)
        while requests := self.market.requests():
            self.market.frames(*[ack(request_id, op) for request_id, op, _ in requests])

    def check(self) -> None:
        """The bystander goes on, reports can be read, late hubs are answered, topics come back."""
        self.say(delta(5_001, of=BYSTANDER))
        assert [delta(5_001, of=BYSTANDER)] == self.reader.taken()[-1:]
        upstream = self.market.upstream
        assert unpack(pack(upstream.rows()), list[StreamRow]) == upstream.rows()
        unpack(pack(HubRows(topic_rows(self.town.hub, self.town.now), [])), HubRows)
        json.dumps(upstream.report())
        self.market.want(*self.topics, process="late")
        for envelope in self.market.told():
            self.town.receive(envelope)
        latecomer = RecordingReader()
        self.town.subscribe(latecomer, *map(topic, self.topics))
        self.town.pass_time(1)
        self.town.hub.flush()
        assert latecomer.taken()[0] == ("ack", 7)
        self.answer()
        for text in (snapshot(7_000), ticker(lastPrice="3")):
            self.say(text)
            assert text in self.reader.taken()
            assert text in latecomer.taken()


@pytest.mark.parametrize(("name", "path"), EVERYWHERE, ids=str)
def test_a_message_with_an_odd_value_costs_at_most_its_topic_a_resync(
    name: str, path: tuple[Any, ...]
) -> None:
    for odd in ODD:
        house = House()
        house.say(replaced(FRAMES[name], path, odd))
        house.check()


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(EVERYWHERE), st.sampled_from(ODD)), max_size=6))
def test_so_do_several_of_them(odds: list[tuple[tuple[str, tuple[Any, ...]], str]]) -> None:
    house = House()
    for (name, path), odd in odds:
        house.say(replaced(FRAMES[name], path, odd))
    house.check()


@pytest.mark.parametrize("field", ["ts", "cts", "u", "seq"])
@pytest.mark.parametrize("number", [str(2**53), str(2**64), "-1", "1" * 400, "1" * 5_000, "1.5"])
@pytest.mark.parametrize("kind", ["snapshot", "delta"])
def test_a_number_out_of_bounds_is_not_published_and_its_topic_asked_for_anew(
    field: str, number: str, kind: str
) -> None:
    market = Market()
    market.follow(BOOK)
    market.frames(snapshot(5_000))
    market.told()
    text = snapshot(6_000) if kind == "snapshot" else delta(5_001)
    path = ("data", field) if field in ("u", "seq") else (field,)
    market.frames(replaced(text, path, number))
    assert [kind_of(envelope) for envelope in market.told()] == ["stale"]
    market.pass_time(0.1)
    assert [(op, args) for _, op, args in market.requests()] == [("unsubscribe", [BOOK])]


def test_what_is_only_handed_on_may_be_any_number() -> None:
    """`cs` of 20 digits was seen: the frame is right, and late readers get what first ones got."""
    market = Market()
    market.follow(TICKER)
    first = replaced(ticker(lastPrice="1"), ("cs",), "9" * 20)
    market.frames(first, replaced(ticker("delta", lastPrice="2"), ("cs",), "9" * 21))
    [publication] = market.told(TICKER)
    assert publication.texts[0] == first
    market.want(TICKER, process="late")
    [base] = market.told(TICKER)
    assert json.loads(base.texts[0]) == json.loads(first) | {
        "data": {"symbol": "BTCUSDT", "lastPrice": "2"},
        "cs": int("9" * 21),
    }


@pytest.mark.parametrize("category", [Category.LINEAR, Category.OPTION])
@pytest.mark.parametrize(
    "text",
    [
        ack("1"),
        refusal("1", "error:handler not found,topic:orderbook.50.BTCUSDT"),
        command_response(["orderbook.50.BTCUSDT"]),
        b'{"success":true,"ret_msg":"pong","conn_id":"c","req_id":"1","op":"ping"}',
        b'{"args":["1700000000000"],"op":"pong"}',
    ],
)
def test_an_answer_with_an_odd_value_ends_nothing(category: Category, text: bytes) -> None:
    book = "orderbook.100.BTC-25JUN27-106000-P-USDT" if category is Category.OPTION else BOOK
    for path in [("topic",), ("ts",), ("data",), *paths(json.loads(text))]:
        for odd in ODD:
            market = Market(category)
            market.want(book)
            connection = market.open()
            market.requests()
            market.frames(replaced(text, path, odd))
            market.told()
            market.frames(snapshot(5_000, of=book))
            if book in market.upstream.streams:  # some are still the refusal that they were
                assert [kind_of(e) for e in market.told(book)][-1] == "publication"
            assert connection.subscriptions is not None
            pack(market.upstream.rows())


def test_a_fault_of_the_program_costs_the_topic_whose_message_met_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    market = Market()
    market.follow(BOOK, BYSTANDER)
    market.frames(snapshot(5_000), snapshot(5_000, of=BYSTANDER))
    market.told()

    def failing(self: CategoryUpstream, *args: Any) -> None:
        raise ZeroDivisionError("a fault, once")

    with monkeypatch.context() as patched:
        patched.setattr(CategoryUpstream, "_publish", failing)
        market.frames(delta(5_001))
    assert "ZeroDivisionError" in caplog.text
    assert "Traceback" in caplog.text
    market.frames(delta(5_001, of=BYSTANDER))
    assert [(kind_of(e), e.group) for e in market.told()] == [
        ("stale", group(BOOK)),
        ("publication", group(BYSTANDER)),
    ]
    market.pass_time(0.1)
    assert [(op, args) for _, op, args in market.requests()] == [("unsubscribe", [BOOK])]


def test_a_watch_shows_any_value() -> None:
    for name, path in EVERYWHERE:
        if name not in ("ticker snapshot", "trades"):
            continue
        for odd in ODD:
            text = replaced(FRAMES[name], path, odd)
            followed = Followed(topic(TICKER if name == "ticker snapshot" else TRADES))
            with suppress(ExchangeFault):
                frame = decode_frame(text)
                new = followed.take(text, frame, 1.0, 1)
                assert all(line.isprintable() for line in lines(followed, frame, new))


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd[:20])
def test_a_client_or_an_operator_may_send_any_value(odd: str) -> None:
    for key in ("op", "method", "topic", "symbol", "levels", "category", "id", "req_id", "args"):
        text = replaced(compact({"method": "subscribe", "symbol": "X", key: 0}), (key,), odd)
        with suppress(Refusal):
            fields = decode_fields(text)
            answers = BybitDialect(Category.LINEAR, "c")
            json.loads(answers.refused(bybit_dialect.read_id(fields), "words"))
            bybit_dialect.read_args(fields)
            known = native_dialect.read_id(fields)
            native_dialect.read_method(fields)
            json.loads(native_dialect.agreed(known, native_dialect.read_topic(fields, None)))
    for key in ("offset", "limit", "search", "sort", "descending"):
        for asked in (odd, json.dumps(odd)):  # as JSON, and as in the query of an address
            with suppress(ValueError):
                read_page(msgspec.json.decode(replaced(b'{"%s":0}' % key.encode(), (key,), asked)))
