"""relay/downstream/session.py: what a client says, word for word, and what it is answered.

A real hub stands behind it; the way out only writes down.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from relay.bybit.errors import Code
from relay.bybit.requests import Endpoint
from relay.bybit.topics import Category, Topic
from relay.downstream.close_codes import CloseCode
from relay.downstream.session import ID_KEPT
from relay.lib import timing
from relay.seam import envelopes
from relay.seam.envelopes import UpstreamState
from tests.builders import compact, delta, snapshot, topic, trades
from tests.downstream.calls import EPOCH, Call, Clock

BOOK = topic()
FUTURES = [Category.LINEAR, Category.INVERSE]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("relay.downstream.session.time", clock)
    return clock


@pytest.fixture
def call(clock: Clock) -> Call:
    return Call(clock)


def subscribe(**rest: Any) -> dict[str, Any]:
    return {"method": "subscribe", "topic": "orderbook", "symbol": "BTCUSDT"} | rest


def refused(code: str, message: str, **rest: Any) -> dict[str, Any]:
    return {"success": False, "error": {"code": code, "message": message}} | rest


# ---- the native dialect ----


def test_the_example_of_the_interface(call: Call) -> None:
    call.say(
        '{"method": "subscribe", "topic": "orderbook", "symbol": "BTCUSDT", "levels": 50, "id": 7}'
    )
    assert call.raw() == []
    call.settle(BOOK)
    assert call.raw() == [
        b'{"method":"subscribe","success":true,"topic":"orderbook.50.BTCUSDT",'
        b'"category":"linear","id":7}'
    ]
    call.publish(BOOK, 0, snapshot(5_000))
    call.publish(BOOK, 1, delta(5_001))
    assert call.raw() == [snapshot(5_000), delta(5_001)]
    answer = call.ask(subscribe(method="unsubscribe", levels=50))
    assert answer == {
        "method": "unsubscribe",
        "success": True,
        "topic": "orderbook.50.BTCUSDT",
        "category": "linear",
    }
    call.publish(BOOK, 2, delta(5_002))
    assert call.raw() == []


def test_ping_and_list(call: Call) -> None:
    assert call.ask({"method": "ping"}) == {"method": "pong"}
    assert call.ask({"method": "ping", "id": "x"}) == {"method": "pong", "id": "x"}
    listing = {"method": "list", "success": True, "category": "linear", "topics": []}
    assert call.ask({"method": "list"}) == listing
    call.follow(topic("tickers.A"))
    call.follow(BOOK)
    topics = ["tickers.A", "orderbook.50.BTCUSDT"]
    assert call.ask({"method": "list", "id": 1}) == listing | {"topics": topics, "id": 1}


def test_a_repeated_subscribe_succeeds_and_brings_no_second_snapshot(call: Call) -> None:
    call.follow(BOOK)
    call.publish(BOOK, 0, snapshot())
    call.raw()
    assert call.ask(subscribe(id=8)) == {
        "method": "subscribe",
        "success": True,
        "topic": BOOK.text,
        "category": "linear",
        "already": True,
        "id": 8,
    }
    call.pass_time(1)
    assert call.raw() == []


LONG = "x" * 64
DEEP = '{"a":' * 3_000 + "1" + "}" * 3_000

REFUSED_REQUESTS: list[tuple[Any, str, dict[str, Any]]] = [
    ("hello", "bad_json", {}),
    ("", "bad_json", {}),
    ("\0", "bad_json", {}),
    ('{"method":"ping"', "bad_json", {}),
    ('{"method":"ping"}\0', "bad_json", {}),
    ("[" * 3_000, "bad_json", {}),
    (DEEP, "bad_json", {}),
    (subscribe(deep=[[[]]] * 300), "bad_json", {}),
    ('{"id":7,"x":NaN}', "bad_json", {}),
    ("\ud800", "bad_json", {}),
    (None, "bad_request", {}),
    ("[]", "bad_request", {}),
    ("null", "bad_request", {}),
    ("5", "bad_request", {}),
    ('"ping"', "bad_request", {}),
    ({}, "bad_request", {}),
    ({"id": 7}, "bad_request", {"id": 7}),
    ({"method": 5, "id": 7}, "bad_request", {"id": 7}),
    ({"method": None, "id": 7}, "bad_request", {"id": 7}),
    ({"method": "ping", "id": True}, "bad_request", {"method": "ping"}),
    ({"method": "ping", "id": None}, "bad_request", {"method": "ping"}),
    ({"method": "ping", "id": {}}, "bad_request", {"method": "ping"}),
    ({"method": "ping", "id": [1]}, "bad_request", {"method": "ping"}),
    ({"method": "ping", "id": LONG + "x"}, "bad_request", {"method": "ping"}),
    (f'{{"method":"ping","id":{"9" * 7_000}}}', "bad_request", {"method": "ping"}),
    ({"method": "subscribe", "id": LONG}, "bad_request", {"method": "subscribe", "id": LONG}),
    (subscribe(symbol=5, id=-1.5), "bad_request", {"method": "subscribe", "id": -1.5}),
    (subscribe(topic=["orderbook"]), "bad_request", {"method": "subscribe"}),
    (subscribe(category=5), "bad_request", {"method": "subscribe"}),
    ({"method": "dance", "id": 7}, "unknown_method", {"method": "dance", "id": 7}),
    ({"method": "Subscribe"}, "unknown_method", {"method": "Subscribe"}),
    (subscribe(topic="candles", id=7), "unknown_topic", {"method": "subscribe", "id": 7}),
    (subscribe(levels=7, id="a"), "bad_levels", {"method": "subscribe", "id": "a"}),
    (subscribe(levels=True), "bad_levels", {"method": "subscribe"}),
    (subscribe(levels="50"), "bad_levels", {"method": "subscribe"}),
    ('{"method":"subscribe","topic":"orderbook","symbol":"X","levels":50.0}', "bad_levels",
     {"method": "subscribe"}),
    (f'{{"method":"subscribe","topic":"orderbook","symbol":"X","levels":{"9" * 7_000}}}',
     "bad_levels", {"method": "subscribe"}),
    (subscribe(levels=50, category="option"), "bad_levels", {"method": "subscribe"}),
    (subscribe(symbol="BTC USDT", id=0), "bad_symbol", {"method": "subscribe", "id": 0}),
    (subscribe(symbol="A\0B"), "bad_symbol", {"method": "subscribe"}),
    (subscribe(symbol="A" * 61), "bad_symbol", {"method": "subscribe"}),
    (subscribe(category="spread"), "bad_category", {"method": "subscribe"}),
    (subscribe(method="unsubscribe", id=7), "not_subscribed", {"method": "unsubscribe", "id": 7}),
]  # fmt: skip


@pytest.mark.parametrize(("message", "code", "known"), REFUSED_REQUESTS)
def test_a_refusal_names_the_fault_and_leaves_the_connection_open(
    call: Call, message: Any, code: str, known: dict[str, Any]
) -> None:
    answer = call.ask(message)
    error = answer.pop("error")
    assert (error.pop("code"), list(error)) == (code, ["message"])
    assert answer == known | {"success": False}
    assert 0 < len(error["message"]) < 200
    assert call.ask({"method": "ping"}) == {"method": "pong"}
    assert (call.client.topics, call.hub.audiences, call.outbound.closed) == ({}, {}, [])


def test_the_refusal_that_the_interface_shows(call: Call) -> None:
    answer = call.ask(subscribe(topic="candles", id=7))
    assert answer == refused("unknown_topic", "unknown topic: candles", method="subscribe", id=7)


def test_a_long_method_is_repeated_in_part(call: Call) -> None:
    answer = call.ask({"method": "m" * 5_000})
    assert answer["method"] == "m" * 79 + "…"
    assert answer["error"]["code"] == "unknown_method"


def test_unknown_keys_are_ignored_and_of_equal_keys_the_last_counts(call: Call) -> None:
    call.say(
        '{"method":"subscribe","topic":"candles","topic":"tickers","symbol":"A","x":{"y":[1]},"id":1}'
    )
    call.settle(topic("tickers.A"))
    [answer] = call.heard()
    assert (answer["success"], answer["topic"]) == (True, "tickers.A")


def test_a_refusal_of_the_exchange_has_its_words_and_the_id(call: Call) -> None:
    call.say(subscribe(id="mine"))
    call.settle(BOOK, "error:handler not found,topic:orderbook.50.BTCUSDT")
    words = "error:handler not found,topic:orderbook.50.BTCUSDT"
    assert call.heard() == [refused("refused_by_exchange", words, method="subscribe", id="mine")]
    assert call.client.topics == {}


def test_a_late_refusal_has_the_same_id(call: Call) -> None:
    call.say(subscribe(id=7))
    call.pass_time(timing.MAX_ACK_DELAY)
    assert [answer["success"] for answer in call.heard()] == [True]
    call.settle(BOOK, "no")
    assert call.heard() == [refused("refused_by_exchange", "no", method="subscribe", id=7)]
    assert call.client.topics == {}
    assert call.client.idle_since is not None
    answer = call.ask(subscribe(method="unsubscribe"))
    assert answer["error"]["code"] == "not_subscribed"


def test_no_worker_can_be_told(call: Call) -> None:
    call.hub.is_reachable = False
    answer = call.ask(subscribe(id=7))
    assert (answer["error"]["code"], answer["id"]) == ("upstream_unavailable", 7)
    assert call.client.topics == {}
    answer = call.ask({"op": "subscribe", "args": [BOOK.text], "req_id": "1"})
    assert (answer["success"], answer["op"], answer["req_id"]) == (False, "subscribe", "1")


def test_too_many_topics(clock: Clock, settings: Any) -> None:
    settings.RELAY = {"max_topics_per_connection": 2}
    call = Call(clock)
    call.follow(topic("tickers.A"))
    call.follow(topic("tickers.B"))
    answer = call.ask(subscribe(id=7))
    assert answer == refused(
        "too_many_topics", "a connection may have 2 topics", method="subscribe", id=7
    )
    assert call.ask(subscribe(topic="tickers", symbol="A"))["already"] is True
    call.say(subscribe(method="unsubscribe", topic="tickers", symbol="A"))
    call.raw()
    call.say(subscribe())
    assert call.raw() == []


# ---- acks and data ----


def test_no_data_before_the_ack(call: Call) -> None:
    call.say(subscribe(id=7))
    call.receive(envelopes.Joined(call.hub.unjoined()))
    call.publish(BOOK, 0, snapshot(5_000))
    call.publish(BOOK, 1, delta(5_001))
    assert call.raw() == []
    call.pass_time(timing.MIN_ACK_DELAY)
    answers = call.heard()
    assert [answer.get("id") for answer in answers] == [7, None]
    assert answers[1]["data"]["u"] == 5_001


def test_an_unsubscribe_while_the_ack_is_pending_is_answered_after_it(call: Call) -> None:
    call.say(subscribe(id=1))
    call.say(subscribe(method="unsubscribe", id=2))
    assert [(answer["method"], answer["id"], answer["success"]) for answer in call.heard()] == [
        ("subscribe", 1, True),
        ("unsubscribe", 2, True),
    ]
    call.settle(BOOK)
    assert (call.raw(), call.hub.audiences) == ([], {})


def test_bybit_requests_may_unsubscribe_what_was_just_refused(clock: Clock) -> None:
    call = Call(clock, Endpoint.BYBIT, Category.LINEAR)
    args = ["tickers.A", "tickers.B"]
    call.say({"op": "subscribe", "args": args, "req_id": "1"})
    call.receive(envelopes.Joined(call.hub.unjoined()))
    call.receive(envelopes.Refused(topic("tickers.B").group, EPOCH, Code.REFUSED_BY_EXCHANGE, "no"))
    call.say({"op": "unsubscribe", "args": args, "req_id": "2"})
    assert [(a["op"], a["success"], a["req_id"]) for a in call.heard()] == [
        ("subscribe", False, "1"),
        ("unsubscribe", True, "2"),
    ]


def test_data_stops_before_the_answer_to_an_unsubscribe(call: Call) -> None:
    call.follow(BOOK)
    call.publish(BOOK, 0, snapshot())
    call.raw()
    call.receive(envelopes.Publication(BOOK.group, EPOCH, 1, [delta(5_001)]))
    call.say(subscribe(method="unsubscribe"))
    call.hub.flush()
    assert [answer.get("method") for answer in call.heard()] == ["unsubscribe"]


# ---- categories ----


def test_the_first_subscribe_decides_the_category(call: Call) -> None:
    call.say(subscribe(category="spot", id=1))
    call.settle(topic(BOOK.text, Category.SPOT))
    assert [answer["category"] for answer in call.heard()] == ["spot"]
    answer = call.ask(subscribe(category="linear", topic="tickers", id=2))
    assert (answer["error"]["code"], answer["id"]) == ("bad_category", 2)
    call.say(subscribe(topic="tickers"))
    call.settle(topic("tickers.BTCUSDT", Category.SPOT))
    assert [answer["category"] for answer in call.heard()] == ["spot"]


def test_without_a_name_the_category_is_linear_and_stays(call: Call) -> None:
    call.say(subscribe())
    call.settle(BOOK)
    assert [answer["category"] for answer in call.heard()] == ["linear"]
    assert call.ask(subscribe(category="spot"))["error"]["code"] == "bad_category"


def test_the_category_of_the_address_holds_for_both_dialects(clock: Clock) -> None:
    call = Call(clock, category=Category.OPTION)
    assert call.ask({"op": "ping"}) == {"args": ["1000000"], "op": "pong"}
    assert call.ask(subscribe(category="linear"))["error"]["code"] == "bad_category"
    call.say(subscribe())
    assert list(call.client.topics) == [topic("orderbook.100.BTCUSDT", Category.OPTION)]


def test_a_refused_request_decides_no_category(call: Call) -> None:
    call.say(subscribe(category="spot", levels=7))
    call.raw()
    call.say(subscribe(category="inverse"))
    assert list(call.client.topics) == [topic(BOOK.text, Category.INVERSE)]


# ---- Bybit's dialect ----


def bybit_call(clock: Clock, category: Category) -> Call:
    return Call(clock, Endpoint.BYBIT, category)


def reply_of(call: Call, category: Category, words: str, req_id: str | None, op: str) -> Any:
    """Return a refusal in the shape of its category."""
    body = {"success": False, "ret_msg": words, "conn_id": call.client._connection_id, "op": op}
    if req_id is not None:
        body["req_id"] = req_id
    elif category is not Category.SPOT:
        body["req_id"] = ""
    return body


def bad_topic_words(category: Category, text: str) -> str:
    if category is Category.SPOT:
        return f"Invalid symbol :[{text}]"
    return f"error:handler not found,topic:{text}"


@pytest.mark.parametrize("req_id", [None, "a1"])
@pytest.mark.parametrize("category", [Category.SPOT, *FUTURES])
@pytest.mark.parametrize("endpoint", Endpoint)
def test_bybit_refusals_have_the_shape_of_their_category(
    clock: Clock, endpoint: Endpoint, category: Category, req_id: str | None
) -> None:
    call = Call(clock, endpoint, category)
    call.follow(topic("tickers.A", category))
    known = {} if req_id is None else {"req_id": req_id}
    eleven = [f"tickers.B{number}" for number in range(11)]
    cases = [
        ({"op": "subscribe", "args": ["tickers.B", "kline.2.X", "bad"]},
         bad_topic_words(category, "kline.2.X")),
        ({"op": "subscribe", "args": ["orderbook.50._BTCUSDT"]},
         bad_topic_words(category, "orderbook.50._BTCUSDT")),
        ({"op": "subscribe", "args": ["order"]}, bad_topic_words(category, "order")),
        ({"op": "subscribe", "args": ["tickers.B", "tickers.A"]},
         "error:already subscribed,topic:tickers.A"),
        ({"op": "subscribe", "args": ["tickers.B", "tickers.B"]},
         "error:already subscribed,topic:tickers.B"),
        ({"op": "dance"}, "error:invalid op"),
        ({"op": "pong"}, "error:invalid op"),
        ({"op": "auth", "args": ["x"]}, "error:invalid op"),
        ({"op": "subscribe"}, "error:args must be a list of topics"),
        ({"op": "subscribe", "args": "tickers.B"}, "error:args must be a list of topics"),
        ({"op": "subscribe", "args": [5]}, "error:args must be a list of topics"),
        ({"op": "unsubscribe"}, "error:args must be a list of topics"),
        ({"op": "unsubscribe", "args": None}, "error:args must be a list of topics"),
    ]  # fmt: skip
    if category is Category.SPOT:
        cases.append(({"op": "subscribe", "args": eleven}, "args size >10"))
    for request, words in cases:
        answer = call.ask(request | known)
        assert answer == reply_of(call, category, words, req_id, str(request["op"]))
    assert [topic.text for topic in call.client.topics] == ["tickers.A"]
    assert (call.hub.unjoined(), call.outbound.closed) == ({}, [])


def test_option_refusals_name_the_topics(clock: Clock) -> None:
    call = bybit_call(clock, Category.OPTION)
    answer = call.ask({"op": "subscribe", "args": ["orderbook.50.X"], "req_id": "1"})
    assert answer == {
        "success": False,
        "conn_id": call.client._connection_id,
        "data": {"failTopics": ["orderbook.50.X"], "successTopics": []},
        "type": "COMMAND_RESP",
    }


@pytest.mark.parametrize("category", Category)
def test_bybit_acks_and_unsubscribes(clock: Clock, category: Category) -> None:
    call = bybit_call(clock, category)
    ticker = topic("tickers.A", category)
    connection = {"conn_id": call.client._connection_id}
    call.say({"op": "subscribe", "args": [ticker.text], "req_id": 1})
    call.settle(ticker)
    if category is Category.OPTION:
        data = {"failTopics": [], "successTopics": [ticker.text]}
        shape = {"success": True, "data": data, "type": "COMMAND_RESP"} | connection
        assert call.heard() == [shape]
        assert call.ask({"op": "unsubscribe", "args": [ticker.text]}) == shape
        return
    words = "subscribe" if category is Category.SPOT else ""
    shape = {"success": True, "ret_msg": words, "req_id": "1"} | connection
    assert call.heard() == [shape | {"op": "subscribe"}]
    answer = call.ask({"op": "unsubscribe", "args": [ticker.text, "never"], "req_id": 1})
    assert answer == shape | {"op": "unsubscribe"}
    assert call.client.topics == {}


@pytest.mark.parametrize("category", Category)
def test_bybit_pings_may_have_args(clock: Clock, category: Category) -> None:
    call = bybit_call(clock, category)
    first, second = call.ask({"op": "ping"}), call.ask({"op": "ping", "args": []})
    assert first == second
    assert first["op"] == ("pong" if category is Category.OPTION else "ping")


@pytest.mark.parametrize("message", ["hello", "", None, "[]", "5", "[" * 3_000, DEEP, "\0"])
def test_at_bybit_s_door_what_is_no_object_is_answered_in_bybit_s_words(
    clock: Clock, message: Any
) -> None:
    call = bybit_call(clock, Category.LINEAR)
    answer = call.ask(message)
    assert answer.pop("ret_msg").startswith("Failed to decode incoming data:readObjectStart")
    assert answer.pop("conn_id") == call.client._connection_id
    assert answer == {"success": False, "req_id": "", "op": ""}
    assert call.ask({"op": "ping"})["ret_msg"] == "pong"


def test_at_bybit_s_door_the_short_dialect_is_an_invalid_op(clock: Clock) -> None:
    call = bybit_call(clock, Category.LINEAR)
    answer = call.ask(subscribe(id=7))
    assert answer == reply_of(call, Category.LINEAR, "error:invalid op", None, "")


@pytest.mark.parametrize("category", Category)
def test_a_bybit_request_is_refused_whole_in_the_exchange_s_words(
    clock: Clock, category: Category
) -> None:
    call = bybit_call(clock, category)
    args = ["tickers.A", "tickers.B"]
    call.say({"op": "subscribe", "args": args, "req_id": "1"})
    call.settle(topic("tickers.B", category), "their words")
    [answer] = call.heard()
    if category is Category.OPTION:
        assert answer["data"] == {"failTopics": args, "successTopics": []}
    else:
        assert answer == reply_of(call, category, "their words", "1", "subscribe")
    assert (call.client.topics, call.hub.audiences) == ({}, {})


def test_a_late_refusal_in_bybit_s_dialect_has_the_same_id(clock: Clock) -> None:
    call = bybit_call(clock, Category.LINEAR)
    call.say({"op": "subscribe", "args": ["tickers.A", "tickers.B"], "req_id": "1"})
    call.pass_time(timing.MAX_ACK_DELAY)
    call.raw()
    call.settle(topic("tickers.B"), "their words")
    assert call.heard() == [reply_of(call, Category.LINEAR, "their words", "1", "subscribe")]
    assert [topic.text for topic in call.client.topics] == ["tickers.A"]


def test_a_thousand_topics_at_bybit_s_door(clock: Clock) -> None:
    call = bybit_call(clock, Category.LINEAR)
    call.say({"op": "subscribe", "args": [f"tickers.A{number}" for number in range(1_000)]})
    assert (call.raw(), len(call.client.topics)) == ([], 1_000)
    call.pass_time(0.05)
    answer = call.ask({"op": "subscribe", "args": ["tickers.B"]})
    words = "error:too many topics,limit:1000"
    assert answer == reply_of(call, Category.LINEAR, words, None, "subscribe")


# ---- rates ----


def test_more_requests_than_allowed_are_answered_so_until_time_has_passed(
    call: Call, clock: Clock
) -> None:
    for _ in range(100):
        assert call.ask({"method": "ping"}) == {"method": "pong"}
    answer = call.ask(subscribe(id=7))
    assert answer == refused(
        "rate_limited", "too many requests; slow down", method="subscribe", id=7
    )
    assert call.ask("junk")["error"]["code"] == "rate_limited"
    answer = call.ask({"op": "subscribe", "args": ["tickers.A"], "req_id": "1"})
    words = "error:too many requests"
    assert answer == reply_of(call, Category.LINEAR, words, "1", "subscribe")
    assert call.client.topics == {}
    clock.now += 0.05
    assert call.ask({"method": "ping"}) == {"method": "pong"}
    assert call.ask({"method": "ping"})["error"]["code"] == "rate_limited"


def test_requests_at_bybit_s_door_are_taken_in_turn_and_none_is_refused(clock: Clock) -> None:
    call = bybit_call(clock, Category.LINEAR)
    names = [f"tickers.A{number}" for number in range(300)]
    for name in names:
        call.say({"op": "subscribe", "args": [name], "req_id": name})
    assert call.outbound.closed == []
    call.pass_time(0)
    assert 0 < len(call.client.topics) <= 120
    answered = [answer["req_id"] for answer in call.heard() if answer["success"]]
    while len(answered) < 300:
        assert call.hub.effects().wake_at is not None
        call.pass_time(0.05)
        answered += [answer["req_id"] for answer in call.heard() if answer["success"]]
        assert clock.now < 1_000 + 60
    assert answered == names
    assert clock.now >= 1_000 + 200 / 20
    assert [topic.text for topic in call.client.topics] == names


def test_requests_that_come_a_little_too_fast_are_taken_in_turn(clock: Clock) -> None:
    call = bybit_call(clock, Category.LINEAR)
    for number in range(300):
        call.say({"op": "subscribe", "args": [f"tickers.A{number}"]})
        call.pass_time(0.004)
    for _ in range(400):
        call.pass_time(0.05)
    assert [answer["success"] for answer in call.heard()] == [True] * 300
    assert call.outbound.closed == []


def test_a_heartbeat_at_bybit_s_door_waits_for_no_request(clock: Clock) -> None:
    call = bybit_call(clock, Category.LINEAR)
    for number in range(200):
        call.say({"op": "subscribe", "args": [f"tickers.A{number}"]})
    answer = call.ask({"op": "ping", "req_id": "now"})
    assert (answer["ret_msg"], answer["req_id"]) == ("pong", "now")


def test_reading_pauses_while_many_bytes_of_requests_wait(clock: Clock) -> None:
    call = bybit_call(clock, Category.LINEAR)
    long = {"op": "subscribe", "args": [], "req_id": "x" * 15_000}
    said = 0
    while not call.outbound.is_paused:
        call.say(long)
        said += 1
    assert call.outbound.closed == []
    for _ in range(600):
        call.pass_time(0.05)
    assert not call.outbound.is_paused
    assert len(call.heard()) == said
    while not call.outbound.is_paused:
        call.say(long)
    call.client.close(CloseCode.SHUTTING_DOWN, "bye")
    assert not call.outbound.is_paused  # for the client's own close frame


@pytest.mark.parametrize("size", [10, 60_000])
def test_what_waits_at_bybit_s_door_is_bounded(clock: Clock, size: int) -> None:
    call = bybit_call(clock, Category.LINEAR)
    said = 0
    while not call.outbound.closed:
        call.say({"op": "subscribe", "args": ["x" * size]})
        said += 1
    assert call.outbound.closed == [CloseCode.TOO_MANY_REQUESTS]
    assert said * size < 20 * 512 * 1024
    assert said <= 1_200
    call.pass_time(60)
    assert call.hub.audiences == {}


def test_a_request_costs_as_its_topics(clock: Clock) -> None:
    call = Call(clock, category=Category.LINEAR)
    args = [f"tickers.A{number}" for number in range(200)]
    for op in ("subscribe", "unsubscribe") * 4:
        call.say({"op": op, "args": args})
        call.pass_time(0)
    refused = [answer["ret_msg"] for answer in call.heard() if not answer["success"]]
    assert refused == ["error:too many requests"] * 3


def test_a_request_of_too_many_topics_is_refused_before_they_are_read(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    parse = Topic.parse

    def counting(category: Category, text: str) -> Topic:
        read.append(text)
        return parse(category, text)

    monkeypatch.setattr(Topic, "parse", counting)
    call = bybit_call(clock, Category.LINEAR)
    answer = call.ask({"op": "subscribe", "args": [f"tickers.A{n}" for n in range(4_400)]})
    words = "error:too many topics,limit:1000"
    assert (answer, read) == (reply_of(call, Category.LINEAR, words, None, "subscribe"), [])


@pytest.mark.parametrize("endpoint", Endpoint)
def test_costly_requests_of_many_clients_are_taken_in_different_turns(
    clock: Clock, endpoint: Endpoint
) -> None:
    first = Call(clock, endpoint, Category.LINEAR)
    calls = [first, *(Call(clock, endpoint, Category.LINEAR, beside=first) for _ in range(9))]
    args = [f"tickers.A{number}" for number in range(200)]
    for call in calls:
        call.say({"op": "subscribe", "args": args})
    turns = [sum(bool(call.client.topics) for call in calls)]
    while turns[-1] < 10:
        first.runner.tick(clock.now)
        turns.append(sum(bool(call.client.topics) for call in calls))
    assert turns == list(range(1, 11))


@pytest.mark.parametrize("endpoint", Endpoint)
def test_costly_requests_of_one_client_are_taken_in_different_turns(
    clock: Clock, endpoint: Endpoint
) -> None:
    call = Call(clock, endpoint, Category.LINEAR)
    args = [f"tickers.A{number}" for number in range(200)]
    for _ in range(5):
        call.say({"op": "unsubscribe", "args": args})
    turns = [len(call.heard())]
    for _ in range(4):
        call.runner.tick(clock.now)
        turns.append(len(call.heard()))
    assert turns == [1] * 5


@pytest.mark.parametrize("endpoint", Endpoint)
def test_ten_times_more_in_a_second_closes(clock: Clock, endpoint: Endpoint) -> None:
    call = Call(clock, endpoint, Category.LINEAR)
    for _ in range(200):
        call.say({"op": "ping"})
    assert call.outbound.closed == []
    call.raw()
    call.say({"op": "ping"})
    call.say({"op": "ping"})
    assert call.outbound.closed == [CloseCode.TOO_MANY_REQUESTS]
    bye = {"type": "bye", "code": "too_many_requests", "message": "too many requests"}
    assert call.heard() == ([bye] if endpoint is Endpoint.NATIVE else [])


def test_the_lowest_rate_that_can_be_set_still_allows_requests(clock: Clock, settings: Any) -> None:
    settings.RELAY = {"requests_per_second": 0.1}
    call = Call(clock)
    assert call.ask({"method": "ping"}) == {"method": "pong"}


# ---- notices, and the end ----


def upstream(call: Call, state: UpstreamState, since: int = 1_700) -> None:
    call.receive(envelopes.Upstream(Category.LINEAR, EPOCH, state, since, "w"))


def status(state: str, since: int = 1_700) -> dict[str, Any]:
    return {"type": "status", "category": "linear", "upstream": state, "since": since}


def test_subscribers_of_the_short_door_are_told_of_upstream(call: Call) -> None:
    upstream(call, UpstreamState.LIVE)
    call.follow(BOOK)
    upstream(call, UpstreamState.DOWN)
    upstream(call, UpstreamState.LIVE)
    assert call.heard() == [status("down"), status("live")]


def test_bybit_s_door_has_no_notices(clock: Clock) -> None:
    call = bybit_call(clock, Category.LINEAR)
    upstream(call, UpstreamState.LIVE)
    call.follow(BOOK)
    upstream(call, UpstreamState.DOWN)
    upstream(call, UpstreamState.LIVE)
    call.client.close(CloseCode.SHUTTING_DOWN, "bye")
    assert (call.raw(), call.outbound.closed) == ([], [4200])


def test_who_comes_while_upstream_is_down_is_told_once(call: Call) -> None:
    upstream(call, UpstreamState.DOWN)
    call.say(subscribe(id=1))
    call.pass_time(timing.MIN_ACK_DELAY)
    call.say(subscribe(topic="tickers", id=2))
    call.pass_time(timing.MIN_ACK_DELAY)
    first, told, second = call.heard()
    assert (first["id"], told, second["id"]) == (1, status("down"), 2)


def test_who_comes_back_while_upstream_is_down_is_told_again(call: Call) -> None:
    upstream(call, UpstreamState.LIVE)
    call.follow(BOOK)
    upstream(call, UpstreamState.DOWN)
    call.say(subscribe(method="unsubscribe"))
    upstream(call, UpstreamState.LIVE)
    upstream(call, UpstreamState.DOWN, since=1_800)
    call.raw()
    call.say(subscribe(id=1))
    call.pass_time(timing.MIN_ACK_DELAY)
    assert call.heard()[1:] == [status("down", since=1_800)]


def test_who_left_while_upstream_was_down_is_told_live_when_it_comes_back(call: Call) -> None:
    upstream(call, UpstreamState.LIVE)
    call.follow(BOOK)
    upstream(call, UpstreamState.DOWN)
    call.say(subscribe(method="unsubscribe"))
    upstream(call, UpstreamState.LIVE, since=1_800)
    call.raw()
    call.say(subscribe(id=1))
    call.pass_time(timing.MIN_ACK_DELAY)
    call.settle(BOOK)
    assert call.heard()[1:] == [status("live", since=1_800)]
    call.follow(topic("tickers.BTCUSDT"))  # and once is enough


def test_who_comes_back_before_upstream_is_told_live_with_it(call: Call) -> None:
    upstream(call, UpstreamState.LIVE)
    call.follow(BOOK)
    upstream(call, UpstreamState.DOWN)
    call.say(subscribe(method="unsubscribe"))
    upstream(call, UpstreamState.IDLE)
    call.raw()
    call.say(subscribe(id=1))
    upstream(call, UpstreamState.CONNECTING)
    call.settle(BOOK)
    upstream(call, UpstreamState.LIVE, since=1_800)
    assert call.heard()[1:] == [status("live", since=1_800)]
    upstream(call, UpstreamState.IDLE)
    upstream(call, UpstreamState.LIVE)
    assert call.raw() == []


def test_an_outage_that_a_client_was_not_told_of_does_not_end_for_it(call: Call) -> None:
    upstream(call, UpstreamState.DOWN)
    upstream(call, UpstreamState.IDLE)
    call.follow(BOOK)
    upstream(call, UpstreamState.CONNECTING)
    upstream(call, UpstreamState.LIVE)
    assert call.raw() == []


def test_lost_trades_are_told_at_one_door_and_close_the_other(clock: Clock) -> None:
    name = topic("publicTrade.A")
    for endpoint in Endpoint:
        call = Call(clock, endpoint, Category.LINEAR)
        call.follow(name)
        call.receive(envelopes.Base(name.group, EPOCH, 5, []))
        call.hub.flush()
        call.receive(envelopes.Base(name.group, EPOCH, 17, []))
        if endpoint is Endpoint.NATIVE:
            gap = {"type": "gap", "topic": "publicTrade.A", "dropped": 12}
            assert (call.heard(), call.outbound.closed) == ([gap], [])
        else:
            assert (call.raw(), call.outbound.closed) == ([], [CloseCode.DATA_LOST])


def test_nothing_is_said_after_the_close(call: Call) -> None:
    call.follow(BOOK)
    call.client.close(CloseCode.SHUTTING_DOWN, "bye")
    assert call.heard() == [{"type": "bye", "code": "shutting_down", "message": "bye"}]
    call.client.close(CloseCode.SLOW, "again")
    call.say({"method": "ping"})
    call.settle(BOOK, "no")
    upstream(call, UpstreamState.DOWN)
    assert (call.raw(), call.outbound.closed) == ([], [4200])


def test_a_client_that_is_being_closed_reads_nothing_any_more(call: Call, clock: Clock) -> None:
    other = Call(clock, beside=call)
    call.follow(BOOK)
    other.say(subscribe())
    other.pass_time(timing.MIN_ACK_DELAY)
    call.publish(BOOK, 0, snapshot(5_000))
    [audience] = call.hub.audiences.values()
    assert (audience.subscribers, audience.deliveries) == (2, 2)
    other.client.close(CloseCode.BY_OPERATOR, "an operator disconnected this client")
    call.pass_time(0)
    call.publish(BOOK, 1, delta(5_001))
    assert (audience.subscribers, audience.deliveries) == (1, 3)
    call.client.close(CloseCode.BY_OPERATOR, "an operator disconnected this client")
    call.pass_time(0)
    assert call.hub.audiences == {}


def test_who_is_gone_leaves_nothing_behind(call: Call) -> None:
    call.follow(BOOK)
    call.say(subscribe(topic="tickers"))
    call.client.on_gone()
    call.pass_time(timing.MAX_ACK_DELAY)
    assert (call.hub.audiences, call.raw(), call.outbound.is_detached) == ({}, [], True)
    call.client.on_gone()


def test_idle_is_who_follows_nothing(call: Call, clock: Clock) -> None:
    assert call.client.idle_since == clock.now
    call.follow(BOOK)
    assert call.client.idle_since is None
    clock.now += 5
    call.say(subscribe(method="unsubscribe"))
    assert call.client.idle_since == clock.now


def test_trades_greet_the_short_door_alone(clock: Clock) -> None:
    name = topic("publicTrade.BTCUSDT")
    greetings = []
    for endpoint in Endpoint:
        call = Call(clock, endpoint, Category.LINEAR)
        call.say({"op": "subscribe", "args": [name.text]})
        call.receive(envelopes.Joined(call.hub.unjoined()))
        call.receive(envelopes.Base(name.group, EPOCH, 3, [trades(range(3))]))
        call.pass_time(timing.MIN_ACK_DELAY)
        greetings.append(call.raw()[1:])
    assert greetings == [[trades(range(3))], []]


# ---- anything at all ----

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5)
    | st.sampled_from(["subscribe", "unsubscribe", "list", "ping", "orderbook", "tickers", "X",
                       "spot", "tickers.X", "orderbook.50.X"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)  # fmt: skip
KEYS = st.sampled_from(
    ["method", "op", "topic", "symbol", "levels", "category", "id", "req_id", "args", "x"]
)
MESSAGES = st.text() | st.binary() | st.none() | st.dictionaries(KEYS, VALUES).map(compact)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(MESSAGES, max_size=12), st.sampled_from(Endpoint))
@example(['{"op":"subscribe","args":[]}', '{"op":"unsubscribe","args":[]}'], Endpoint.BYBIT)
@example(['{"op":"\ud800"}', b'{"op":"\xff","req_id":"\xff","args":["\xff"]}'], Endpoint.NATIVE)
@example([b'{"method":"\xff","id":"\xff"}', b'{"method":"list","id":"\xff"}'], Endpoint.NATIVE)
def test_whatever_is_said_costs_the_sender_an_answer_and_nobody_anything(
    clock: Clock, messages: list[Any], endpoint: Endpoint
) -> None:
    call = Call(clock, endpoint, Category.LINEAR)
    for message in messages:
        call.say(message)
        call.pass_time(timing.MAX_ACK_DELAY)
        answers = call.heard()
        assert [answer for answer in answers if "type" not in answer or "op" in answer]
    assert call.outbound.closed == []
    call.client.on_gone()
    assert call.hub.audiences == {}


@pytest.mark.parametrize("endpoint", Endpoint)
def test_a_client_that_was_refused_is_freed_without_the_garbage_collector(
    endpoint: Endpoint, clock: Clock
) -> None:
    call = Call(clock, endpoint, Category.LINEAR)
    call.hub.is_reachable = False
    for message in [
        {"op": "subscribe", "args": ["orderbook.50.BTCUSDT"]},
        {"op": "subscribe", "args": ["candles.BTCUSDT"]},
        {"op": "subscribe", "args": [f"tickers.X{number}" for number in range(1_001)]},
        {"op": "shout"},
        {"op": "subscribe", "args": 7},
        {"method": "subscribe", "topic": "orderbook", "symbol": "BTCUSDT"},
        {"method": "shout"},
        b"{",
        None,
    ]:
        call.say(message)
        call.pass_time(100)  # each in its turn, on `/v5`
        assert len(call.heard()) == 1
    gone = weakref.ref(call.client)
    gc.disable()
    try:
        del call
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(("length", "kept"), [(ID_KEPT, ID_KEPT), (ID_KEPT + 1, 0), (60_000, 0)])
def test_an_id_of_any_length_is_answered_and_not_kept(clock: Clock, length: int, kept: int) -> None:
    call = Call(clock, Endpoint.BYBIT, Category.LINEAR)
    call.say({"op": "subscribe", "args": [BOOK.text], "req_id": "x" * length})
    call.settle(BOOK)
    [ack] = call.heard()
    assert ack["req_id"] == "x" * length
    refusal = envelopes.Refused(BOOK.group, EPOCH, Code.REFUSED_BY_EXCHANGE, "error:gone")
    call.receive(refusal)
    [late] = call.heard()
    assert (late["success"], late["req_id"]) == (False, "x" * kept)
