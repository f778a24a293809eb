"""relay/bybit/requests.py: whatever a client sends is fields or a refusal."""

from __future__ import annotations

import json
from contextlib import suppress

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.bybit.errors import Code, Refusal
from relay.bybit.requests import (
    decode_fields,
    decode_integer,
    decode_string,
    decode_strings,
    is_number,
)


def fields_of(text: str | bytes) -> dict[str, bytes]:
    return {key: bytes(raw) for key, raw in decode_fields(text).items()}


@given(st.text() | st.binary())
@example("")
@example("\ud800")
@example("\0")
@example('{"a":' + "9" * 10_000 + "}")
@example("[" * 100_000)
@example('{"a":' * 100_000)
@example('{"a":' + "[" * 100_000 + "]" * 100_000 + "}")
@example(b'{"a":"\xff"}')
def test_nothing_a_client_sends_raises_anything_but_a_refusal(text: str | bytes) -> None:
    with suppress(Refusal):
        for raw in decode_fields(text).values():
            decode_string(raw)
            decode_strings(raw)
            decode_integer(raw)
            is_number(raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_any_json_object_is_read_and_any_other_json_refused(body: object) -> None:
    text = json.dumps(body)
    if isinstance(body, dict) and "NaN" not in text and "Infinity" not in text:
        assert {key: json.loads(raw) for key, raw in fields_of(text).items()} == body
        return
    with pytest.raises(Refusal):
        decode_fields(text if isinstance(body, dict) is False else f"[{text}]")


@pytest.mark.parametrize(
    "text",
    ["", " ", "hello", "{", '{"a":1', '{"a":1}x', "{'a':1}", "[1,", '{"a":01}', '{"a":NaN}',
     '{"a":1,}', '{"a":"\0"}', "\ufeff{}", '{"a":"\ud800"}', b"\xff", "{}" * 2],
)  # fmt: skip
def test_what_is_not_json_is_called_so(text: str | bytes) -> None:
    with pytest.raises(Refusal) as caught:
        decode_fields(text)
    assert caught.value.code is Code.BAD_JSON
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("text", ["null", "true", "1", '"{}"', "[]", '[{"method":"ping"}]'])
def test_json_that_is_no_object_is_a_bad_request(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        decode_fields(text)
    assert (caught.value.code, caught.value.message) == (Code.BAD_REQUEST, "expected an object")


def test_values_stay_the_text_that_came_and_the_last_of_a_key_counts() -> None:
    text = '{"a" :  7.50 , "b":"x", "b":"y", "c":[1, 2]}'
    assert fields_of(text) == {"a": b"7.50", "b": b'"y"', "c": b"[1, 2]"}


@pytest.mark.parametrize(
    ("written", "number"),
    [("50", 50), ("-50", -50), ("0", 0), ("9" * 18, 10**18 - 1), ("50.0", None), ("5e1", None),
     ('"50"', None), ("true", None), ("null", None), ("[50]", None), ("{}", None),
     ("9" * 10_000, None)],
)  # fmt: skip
def test_only_a_whole_number_is_a_whole_number(written: str, number: int | None) -> None:
    assert decode_integer(msgspec.Raw(written.encode())) == number


@pytest.mark.parametrize(
    ("written", "expected"),
    [("7", True), ("-7.5e3", True), ('"7"', False), ("true", False), ("null", False),
     ("[7]", False), ("{}", False), ("", False)],
)  # fmt: skip
def test_what_is_a_number(written: str, expected: bool) -> None:
    assert is_number(msgspec.Raw(written.encode())) is expected


@pytest.mark.parametrize(
    ("written", "strings"),
    [('["a","b"]', ["a", "b"]), ("[]", []), ('"a"', None), ("[1]", None), ("null", None),
     ('["a",null]', None), ('["a\\ud800"]', None), ("[" * 100_000 + "]" * 100_000, None)],
)  # fmt: skip
def test_what_is_a_list_of_strings(written: str, strings: list[str] | None) -> None:
    assert decode_strings(msgspec.Raw(written.encode())) == strings
