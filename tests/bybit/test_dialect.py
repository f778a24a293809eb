"""relay/bybit/dialect.py: every answer in the shape of its category."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relay.bybit import dialect as bybit_dialect
from relay.bybit.dialect import BybitDialect, BybitId
from relay.bybit.errors import Code, Refusal
from relay.bybit.requests import decode_fields
from relay.bybit.topics import Category, Topic
from tests.builders import body_of, compact
from tests.recordings import COLLECTIONS, each, messages

FUTURES = [Category.LINEAR, Category.INVERSE]
WITH, WITHOUT = BybitId("subscribe", "a1"), BybitId("subscribe", None)
ARGS = ["orderbook.50.X"]


def speaker(category: Category) -> BybitDialect:
    return BybitDialect(category, "c-1")


def refusal_of(
    category: Category, args: list[str], held: frozenset[Topic] = frozenset()
) -> tuple[Code, str]:
    with pytest.raises(Refusal) as caught:
        speaker(category).read_topics(args, held)
    return caught.value.code, caught.value.message


def reply(**rest: Any) -> bytes:
    return compact({"success": True, "ret_msg": "", "conn_id": "c-1"} | rest)


@pytest.mark.parametrize("category", FUTURES)
def test_acks_of_futures_always_have_a_req_id(category: Category) -> None:
    dialect = speaker(category)
    assert dialect.agreed(WITH, ARGS) == reply(req_id="a1", op="subscribe")
    assert dialect.agreed(WITHOUT, ARGS) == reply(req_id="", op="subscribe")
    assert dialect.agreed(BybitId("unsubscribe", "3"), ARGS) == reply(req_id="3", op="unsubscribe")


def test_acks_of_spot_have_a_req_id_only_where_the_request_had_one() -> None:
    dialect = speaker(Category.SPOT)
    assert dialect.agreed(WITH, ARGS) == reply(ret_msg="subscribe", req_id="a1", op="subscribe")
    assert dialect.agreed(WITHOUT, ARGS) == reply(ret_msg="subscribe", op="subscribe")
    empty = BybitId("subscribe", "")
    assert dialect.agreed(empty, ARGS) == reply(ret_msg="subscribe", req_id="", op="subscribe")


def test_acks_of_option_name_their_topics_and_no_request() -> None:
    dialect = speaker(Category.OPTION)
    agreed = b'{"success":true,"conn_id":"c-1","data":{"failTopics":[],"successTopics":["a"]},'
    assert dialect.agreed(WITH, ["a"]) == agreed + b'"type":"COMMAND_RESP"}'
    failed = b'{"success":false,"conn_id":"c-1","data":{"failTopics":["a"],"successTopics":[]},'
    assert dialect.refused(WITH, "no", ["a"]) == failed + b'"type":"COMMAND_RESP"}'


@pytest.mark.parametrize("category", FUTURES)
def test_refusals_of_futures(category: Category) -> None:
    refused = reply(success=False, ret_msg="no", req_id="", op="subscribe")
    assert speaker(category).refused(WITHOUT, "no", ARGS) == refused


def test_refusals_of_spot() -> None:
    dialect = speaker(Category.SPOT)
    refused = reply(success=False, ret_msg="no", op="subscribe")
    assert dialect.refused(WITHOUT, "no", ARGS) == refused
    refused = reply(success=False, ret_msg="no", req_id="a1", op="subscribe")
    assert dialect.refused(WITH, "no", ARGS) == refused


@pytest.mark.parametrize("category", FUTURES)
def test_the_answer_to_a_ping_is_called_ping_too(category: Category) -> None:
    expected = reply(ret_msg="pong", req_id="", op="ping")
    assert speaker(category).pong(BybitId("ping", None), 5) == expected


def test_pongs_of_spot_and_option() -> None:
    spot, option = speaker(Category.SPOT), speaker(Category.OPTION)
    assert spot.pong(BybitId("ping", None), 5) == reply(ret_msg="pong", op="ping")
    assert spot.pong(BybitId("ping", "9"), 5) == reply(ret_msg="pong", req_id="9", op="ping")
    assert option.pong(BybitId("ping", "9"), 1672916271846) == (
        b'{"args":["1672916271846"],"op":"pong"}'
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"op":"subscribe","req_id":"a1"}', BybitId("subscribe", "a1")),
        ('{"op":"subscribe"}', BybitId("subscribe", None)),
        ('{"op":"ping","req_id":""}', BybitId("ping", "")),
        ('{"op":"ping","req_id": 1 }', BybitId("ping", "1")),
        ('{"op":"ping","req_id":1.50}', BybitId("ping", "1.50")),
        ('{"op":"ping","req_id":null}', BybitId("ping", None)),
        ('{"op":"ping","req_id":true}', BybitId("ping", None)),
        ('{"op":"ping","req_id":{}}', BybitId("ping", None)),
        (f'{{"op":"ping","req_id":"{"x" * 20_000}"}}', BybitId("ping", "x" * 20_000)),
        (f'{{"op":"ping","req_id":{"9" * 10_000}}}', BybitId("ping", "9" * 10_000)),
        ('{"op":5}', BybitId("", None)),
        ("{}", BybitId("", None)),
    ],
)
def test_an_id_comes_back_as_a_string_of_any_length(text: str, expected: BybitId) -> None:
    assert bybit_dialect.read_id(decode_fields(text)) == expected


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ('{"args":["a"]}', ["a"]),
        ('{"args":[]}', []),
        ("{}", None),
        ('{"args":"a"}', None),
        ('{"args":[1]}', None),
        ('{"args":null}', None),
    ],
)
def test_args_are_a_list_of_strings_or_none(text: str, args: list[str] | None) -> None:
    assert bybit_dialect.read_args(decode_fields(text)) == args


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"op":"ping"}', True),
        (b'{"req_id": "7", "op": "ping", "args": []}', True),
        ('{"op":"subscribe","args":["ping"]}', False),
        ('{"op":"ping"', False),
        ('["ping"]', False),
        (f'{{"op":"ping","req_id":"{"x" * 300}"}}', False),
        (b'\xff"ping"', False),
        (None, False),
    ],
)
def test_a_heartbeat_is_known_as_libraries_write_it(
    text: str | bytes | None, expected: bool
) -> None:
    assert bybit_dialect.is_ping(text) is expected


def test_a_request_costs_as_its_topics_and_one_at_least() -> None:
    prices = [bybit_dialect.price(args) for args in (None, [], ["x"] * 10, ["x"] * 1_000)]
    assert prices == [1, 1, 1, 100]


@pytest.mark.parametrize(
    ("category", "words"),
    [
        (Category.SPOT, "Invalid symbol :[orderbook.7.X]"),
        (Category.LINEAR, "error:handler not found,topic:orderbook.7.X"),
        (Category.INVERSE, "error:handler not found,topic:orderbook.7.X"),
        (Category.OPTION, "error:handler not found,topic:orderbook.7.X"),
    ],
)
def test_a_request_is_refused_whole_for_its_first_bad_topic(category: Category, words: str) -> None:
    args = ["tickers.X", "orderbook.7.X", "kline.2.X"]
    assert refusal_of(category, args) == (Code.BAD_LEVELS, words)


@pytest.mark.parametrize("category", Category)
def test_a_request_is_refused_whole_for_a_topic_that_is_followed_already(
    category: Category,
) -> None:
    refused = Code.BAD_REQUEST, "error:already subscribed,topic:tickers.X"
    held = frozenset({Topic.parse(category, "tickers.X")})
    assert refusal_of(category, ["publicTrade.X", "tickers.X"], held) == refused
    assert refusal_of(category, ["tickers.X", "tickers.X"]) == refused


def test_spot_takes_ten_args_and_the_others_hundreds() -> None:
    args = [f"tickers.X{number}" for number in range(11)]
    assert refusal_of(Category.SPOT, args) == (Code.BAD_REQUEST, "args size >10")
    assert len(speaker(Category.SPOT).read_topics(args[:10], frozenset())) == 10
    assert len(speaker(Category.LINEAR).read_topics(args, frozenset())) == 11


def test_topics_are_read_in_their_order() -> None:
    topics = speaker(Category.OPTION).read_topics(["tickers.B", "publicTrade.A"], frozenset())
    assert [str(topic) for topic in topics] == ["option:tickers.B", "option:publicTrade.A"]


@pytest.mark.parametrize(
    ("text", "found"), [("hello", "h"), ("[1]", "["), (b"\xff", "\ufffd"), ("", "nothing")]
)
def test_what_is_no_json_is_answered_with_what_was_found(text: str | bytes, found: str) -> None:
    words = f"Failed to decode incoming data:readObjectStart: expect {{ or n, but found {found}"
    assert body_of(speaker(Category.LINEAR).not_json(text)) == {
        "success": False,
        "ret_msg": words,
        "conn_id": "c-1",
        "req_id": "",
        "op": "",
    }


@each(*(path for path in COLLECTIONS if "conn_id" in path.read_text()))
def test_answers_have_the_keys_of_the_recorded_ones(path: Path) -> None:
    """Key for key, in their order, of every recorded reply that has a known request."""
    compared = 0
    for category, text in messages(path):
        message = json.loads(text)
        if "conn_id" not in message:
            continue
        dialect = BybitDialect(category, message["conn_id"])
        known = BybitId(message.get("op", ""), message.get("req_id"))
        if category is Category.OPTION:
            answer = dialect.agreed(known, message["data"]["successTopics"])
        elif message.get("ret_msg") == "pong":
            answer = dialect.pong(known, 0)
        elif message["success"]:
            answer = dialect.agreed(known, [])
        else:
            answer = dialect.refused(known, message["ret_msg"])
        assert answer == text.encode()
        compared += 1
    assert compared >= 10


def test_a_refusal_keeps_its_code_in_the_form_of_bybit() -> None:
    own = bybit_dialect.in_words_of_bybit(Refusal(Code.RATE_LIMITED, "slow down"))
    assert (own.code, own.message) == (Code.RATE_LIMITED, "error:slow down")
    theirs = bybit_dialect.in_words_of_bybit(Refusal(Code.REFUSED_BY_EXCHANGE, "no such symbol"))
    assert (theirs.code, theirs.message) == (Code.REFUSED_BY_EXCHANGE, "no such symbol")
