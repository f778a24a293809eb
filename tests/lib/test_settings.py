"""relay/lib/settings.py: what a struct of any program becomes, and what is wrong with it."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest
from msgspec import Meta

from relay.lib.settings import Fault, Rule, parse, select, variables


def even(number: int) -> int:
    if number % 2:
        raise ValueError
    return number


class Example(msgspec.Struct, frozen=True, rename="upper"):
    pairs: Annotated[int, Meta(ge=0, description="an even number"), Rule(even, "x.E2")] = 2
    names: Annotated[tuple[str, ...], Meta(description="names")] = ("a", "b")
    is_on: Annotated[bool, Meta(description="on or off")] = True
    key: Annotated[str, Meta(max_length=3, description="a key"), Rule(is_secret=True)] = ""


def test_variables_are_named_by_the_struct_and_empty_ones_are_unset() -> None:
    assert variables(Example) == {name: name.upper() for name in ("pairs", "names", "is_on", "key")}
    assert select(Example, {"PAIRS": "4", "NAMES": "", "OTHER": "1"}) == {"pairs": "4"}


def test_texts_and_values_are_read() -> None:
    assert parse(Example, {"pairs": "4.0", "names": " c ,, d", "is_on": "OFF"}, "x.E1") == (
        Example(pairs=4, names=("c", "d"), is_on=False),
        [],
    )
    assert parse(Example, {"pairs": 6.0, "is_on": False}, "x.E1")[0] == Example(6, is_on=False)


@pytest.mark.parametrize(
    ("field", "given", "fault"),
    [
        ("pairs", "3", Fault("PAIRS", "an even number", "'3'", "x.E2", "(2).")),
        ("pairs", "-2", Fault("PAIRS", "an even number", "'-2'", "x.E2", "(2).")),
        ("names", 5, Fault("NAMES", "names", "5", "x.E1", "(a, b).")),
        ("is_on", "maybe", Fault("IS_ON", "on or off", "'maybe'", "x.E1", "(on).")),
        ("key", "long", Fault("KEY", "a key", "a text that is not shown", "x.E1", "default.")),
    ],
)
def test_a_wrong_value_is_a_fault_with_the_default_as_a_hint(
    field: str, given: object, fault: Fault
) -> None:
    value, [found] = parse(Example, {field: given}, "x.E1")
    assert value == Example()
    assert found.hint.startswith(f"Correct {fault.variable}, or unset it for the default")
    assert found.hint.endswith(fault.hint)
    assert msgspec.structs.replace(found, hint=fault.hint) == fault
