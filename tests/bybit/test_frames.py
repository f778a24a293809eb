"""relay/bybit/frames.py: frames as they came, and requests as Bybit reads them."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.bybit import frames as bybit
from relay.bybit.errors import BadFrame
from relay.bybit.frames import decode_ack, decode_book, decode_fields, decode_frame, decode_rows
from tests.builders import ack, command_response, compact, refusal, snapshot
from tests.recordings import COLLECTIONS, each, messages


@given(st.binary())
@example(b"")
@example(b"\xef\xbb\xbf{}")
@example(b'{"topic":"\xff"}')
@example(b'{"data":"\xff"}')
@example(b'{"data":"\\ud800"}')
@example(b'{"ts":' + b"9" * 10_000 + b"}")
@example(b'{"ts":1e400}')
@example(b'{"data":' + b"[" * 200_000 + b"}")
@example(b'{"data":' + b"[" * 200_000 + b"]" * 200_000 + b"}")
@example(b'{"a":' * 200_000)
def test_no_bytes_whatever_raise_anything_but_a_bad_frame(text: bytes) -> None:
    with suppress(BadFrame):
        decode_frame(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["topic", "type", "ts", "data", "op", "success", "failTopics", "symbol"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@given(JSON)
def test_no_json_whatever_raises_anything_but_a_bad_frame(body: object) -> None:
    try:
        frame = decode_frame(json.dumps(body).encode())
    except BadFrame:
        return
    decode_ack(frame)
    for decode in (decode_book, decode_fields, decode_rows):
        with suppress(BadFrame):
            decode(frame)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b'{"topic":"x","ts":' + b"1" * 5_000 + b"}", "x"),
        (b'{"ts":-1,"data":{"topic":"y"},"topic":"x"}', "x"),
        (b'{"topic":"x","data":"\xe9"}', "x"),
        (b'{"ts":"1"}', None),
        (b'{"topic":5}', None),
        (b'{"topic":"\xe9"}', None),
        (b'{"topic":"x"', None),
        (b'{"data":' + b"[" * 200_000 + b"]" * 200_000 + b',"topic":"x"}', None),
        (b"[]", None),
    ],
)
def test_the_topic_of_a_bad_frame_is_read_where_it_can_be(text: bytes, named: str | None) -> None:
    assert bybit.decode_topic(text) == named


@pytest.mark.parametrize(
    "text",
    [
        b"garbage",
        b"null",
        b"[]",
        b'"orderbook.50.BTCUSDT"',
        b'{"topic":5}',
        b'{"topic":"x","ts":"1"}',
        b'{"topic":"x","data":{"a":1,}}',
        b'{"topic":"x"}{"topic":"y"}',
        b'{"topic":"x"',
        snapshot()[:-5],
        b'{"topic":"tickers.X","type":"snapshot","data":{"symbol":"\xe9"}}',
    ],
)
def test_what_is_no_frame_is_bad(text: bytes) -> None:
    with pytest.raises(BadFrame):
        decode_frame(text)


def test_text_beyond_ascii_is_a_frame_when_it_is_utf_8() -> None:
    text = compact({"topic": "x"})[:-1] + ',"data":"é漢🙂"}'.encode()
    assert bytes(decode_frame(text).data) == '"é漢🙂"'.encode()


def test_the_envelope_of_a_market_message_is_read_by_key_and_its_data_left_alone() -> None:
    text = b'{"data" : {"x": 1.50} ,"new":[1],"cts":3,"ts":2,"type":"delta","topic":"t","cs":4}'
    frame = decode_frame(text)
    assert (frame.topic, frame.type, frame.ts, frame.cts) == ("t", "delta", 2, 3)
    assert bytes(frame.cs) == b"4"
    assert bytes(frame.data) == b'{"x": 1.50}'
    assert (frame.is_ack, frame.is_pong) == (False, False)


@pytest.mark.parametrize(
    ("text", "is_ack", "is_pong"),
    [
        (ack("1"), True, False),
        (ack("1", "unsubscribe"), True, False),
        (refusal("1", "error:handler not found"), True, False),
        (refusal(None, "Invalid symbol"), True, False),
        (command_response(["tickers.X"]), True, False),
        (command_response([], ["tickers.X"]), True, False),
        (ack("1", "ping", ret_msg="pong"), False, True),
        (b'{"success":true,"ret_msg":"pong","conn_id":"c","op":"ping"}', False, True),
        (b'{"args":["1672916271846"],"op":"pong"}', False, True),
        (refusal("1", "error:invalid op", "ping"), False, False),
        (snapshot(), False, False),
        (b"{}", False, False),
    ],
)
def test_replies_are_told_apart(text: bytes, is_ack: bool, is_pong: bool) -> None:
    frame = decode_frame(text)
    assert (frame.is_ack, frame.is_pong) == (is_ack, is_pong)


@each(*COLLECTIONS)
def test_every_frame_ever_recorded_is_understood(path: Path) -> None:
    kinds = set()
    for _, text in messages(path):
        frame = decode_frame(text.encode())
        kinds.add("topic" if frame.topic else "pong" if frame.is_pong else "ack")
        assert frame.topic or frame.is_pong or frame.is_ack
    has_answers = "conn_id" in path.read_text()
    assert kinds == ({"topic", "pong", "ack"} if has_answers else {"topic"})


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        (command_response(["a", "b"]), (["a", "b"], [])),
        (command_response(["a"], ["b"]), (["a"], ["b"])),
        (ack("1"), ([], [])),
        (b'{"success":true,"data":null}', ([], [])),
        (b'{"success":true,"data":[1]}', ([], [])),
        (b'{"success":true,"data":{"successTopics":["a"]}}', (["a"], [])),
    ],
)
def test_an_ack_lists_its_topics_on_option_alone(
    text: bytes, listed: tuple[list[str], list[str]]
) -> None:
    data = decode_ack(decode_frame(text))
    assert (data.successTopics, data.failTopics) == listed


def test_requests_are_compact_and_of_bybit_s_shape() -> None:
    request = bybit.encode_request("subscribe", ["orderbook.50.X", "tickers.X"], "7")
    assert request == b'{"req_id":"7","op":"subscribe","args":["orderbook.50.X","tickers.X"]}'
    assert bybit.encode_ping("8") == b'{"req_id":"8","op":"ping"}'


def test_as_many_topics_as_bybit_says_fit_on_one_connection() -> None:
    texts = ["orderbook.50.BTCUSDT"] * 1_000
    counted = 0
    sent = []
    for text in texts:
        counted += bybit.argument_length(text)
        if counted > bybit.CHARACTERS_PER_CONNECTION:
            break
        sent.append(text)
    arguments = msgspec.json.encode(sent)
    assert len(arguments) <= 21_000
    assert len(sent) > 900
