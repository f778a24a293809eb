"""What clients may say, before it is told which dialect they speak.

Nothing a client sends may raise anything but `Refusal` here.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from relay.bybit.errors import Code, Refusal

Fields = dict[str, msgspec.Raw]
"""A client's message: its keys, each value still JSON text."""

_fields = msgspec.json.Decoder(Fields)
_anything = msgspec.json.Decoder(msgspec.Raw)
_strings = msgspec.json.Decoder(list[str])
_string = msgspec.json.Decoder(str)

NATIVE_MESSAGE_LIMIT = 8 * 1024  # bytes of one message on /ws
BYBIT_MESSAGE_LIMIT = 64 * 1024  # bytes on /v5, where a request may carry 21,000 characters
BRACKET_LIMIT = 500  # in one message, so that every Python can nest as deep; a request needs two


class Endpoint(StrEnum):
    """Where clients come in: one of two paths."""

    NATIVE = "ws"  # both dialects, and notices
    BYBIT = "v5"  # Bybit's dialect alone, as Bybit speaks it


def decode_fields(text: str | bytes) -> Fields:
    """Return the fields of a client's message.

    Raises:
        Refusal: `bad_json` or `bad_request`.
    """
    try:
        written = text.encode() if isinstance(text, str) else text
        if written.count(b"{") + written.count(b"[") > BRACKET_LIMIT:
            raise Refusal(Code.BAD_JSON, f"more than {BRACKET_LIMIT} brackets")
        try:
            return _fields.decode(written)
        except msgspec.ValidationError:
            _anything.decode(written)  # an error at its start may hide worse ones behind
            raise Refusal(Code.BAD_REQUEST, "expected an object") from None
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise Refusal(Code.BAD_JSON, f"not JSON: {error}") from None


def decode_string(raw: msgspec.Raw) -> str | None:
    """Return the string that is written there; None if it is something else."""
    try:
        return _string.decode(raw)
    except (msgspec.DecodeError, ValueError):
        return None


def decode_strings(raw: msgspec.Raw) -> list[str] | None:
    """Return the list of strings that is written there; None if it is something else."""
    try:
        return _strings.decode(raw)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None


def decode_integer(raw: msgspec.Raw) -> int | None:
    """Return the whole number that is written there; None for 50.0, "50" and true."""
    written = bytes(raw).strip()
    if len(written) > 20 or not written.lstrip(b"-").isdigit():
        return None
    return int(written)


def is_number(raw: msgspec.Raw) -> bool:
    """Whether a number is written there."""
    return bytes(raw).strip()[:1] in b"-0123456789" and bytes(raw).strip() != b""
