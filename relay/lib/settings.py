"""Typed settings, from the texts of the environment or from values.

    class Relay(msgspec.Struct, rename="upper"):
        linger: Annotated[float, Meta(ge=0, description="a number of seconds")] = 10.0

    parse(Relay, {"linger": "soon"}, "relay.E006")
    # (Relay(linger=10.0), [Fault("LINGER", "a number of seconds", "'soon'", "relay.E006", ...)])

A value that cannot be used raises no exception: it becomes a `Fault`, and the default takes its
place, so that all of them can be reported at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args, get_origin

import msgspec
from msgspec import Meta

_S = TypeVar("_S", bound=msgspec.Struct)


@dataclass(frozen=True)
class Rule:
    """What the type of a setting cannot say; it stands next to msgspec's `Meta`.

    Attributes:
        refine: Takes a value of the right type and returns the one to use; raises `ValueError` for
            one that cannot be used.
        check_id: The system check that reports a wrong value, where it is not the usual one.
        is_secret: Whether no log may show a value.
    """

    refine: Callable[[Any], Any] = lambda value: value
    check_id: str = ""
    is_secret: bool = False


class Fault(msgspec.Struct, frozen=True):
    """One variable of the environment that cannot be used."""

    variable: str
    expected: str
    found: str  # in words fit for a log: never a secret
    check_id: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.variable}: expected {self.expected}, found {self.found}"


def variables(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Return the environment's name of every field."""
    return {field.name: field.encode_name for field in msgspec.structs.fields(kind)}


def select(kind: type[msgspec.Struct], texts: Mapping[str, str]) -> dict[str, str]:
    """Return the texts of a kind's variables by the names of its fields, without empty ones."""
    return {field: text for field, name in variables(kind).items() if (text := texts.get(name))}


def parse(kind: type[_S], source: Mapping[str, Any], check_id: str) -> tuple[_S, list[Fault]]:
    """Parse settings of a kind; a field that is wrong keeps its default.

    Args:
        kind: Its fields are `Annotated` with a `Meta`, whose description says what is expected, and
            perhaps a `Rule`.
        source: A text or a value for each field that is set, by the field's name.
        check_id: The system check that reports wrong values.
    """
    known = {field.name: field for field in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    found: list[Fault] = []
    for name, given in source.items():
        field = known[name]
        plain, *marks = get_args(field.type)
        rule = next((mark for mark in marks if isinstance(mark, Rule)), Rule())
        try:
            values[name] = rule.refine(msgspec.convert(_plain_value(plain, given), field.type))
        except (ValueError, OverflowError):  # msgspec.ValidationError is a ValueError
            default = _words(field.default)
            hint = f"Correct {field.encode_name}, or unset it for the default"
            found.append(
                Fault(
                    variable=field.encode_name,
                    expected=next(m.description or "" for m in marks if isinstance(m, Meta)),
                    found=describe(given, is_secret=rule.is_secret),
                    check_id=rule.check_id or check_id,
                    hint=f"{hint} ({default})." if default else f"{hint}.",
                )
            )
    return kind(**values), found


_SWITCHES = dict.fromkeys(("1", "t", "true", "y", "yes", "on"), True) | dict.fromkeys(
    ("0", "f", "false", "n", "no", "off"), False
)


def _plain_value(plain: Any, given: Any) -> Any:
    """Return what msgspec can check: a text becomes a value of the type, if it looks like one."""
    if plain is int and isinstance(given, float) and given.is_integer():
        return int(given)
    if not isinstance(given, str):
        return given
    text = given.strip()
    if plain is bool:
        return _SWITCHES.get(text.lower(), text)
    if plain is float:
        return float(text)
    if plain is int:
        return _plain_value(int, float(text))  # "5000.0" counts as well as "5000" does
    if get_origin(plain) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text


def _words(default: Any) -> str:
    """Return a default as one would write it into the environment."""
    if isinstance(default, bool):
        return "on" if default else "off"
    return ", ".join(default) if isinstance(default, tuple) else str(default)


def describe(given: Any, *, is_secret: bool = False) -> str:
    """Quote a value for a log: short, and nothing of what an address may hide."""
    text = given if isinstance(given, str) else repr(given)
    if is_secret or "@" in text or "?" in text:
        scheme, separator, _ = text.partition("://")
        known = separator and scheme.isalnum() and len(scheme) <= 16
        return f"a {scheme}:// address that is not shown" if known else "a text that is not shown"
    return repr(text[:80]) if isinstance(given, str) else text[:80]
