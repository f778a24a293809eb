"""docs/commands.md lists every target and every command, each option with its default."""

from __future__ import annotations

import argparse
import re

import pytest
from django.core.management import load_command_class
from django.core.management.base import BaseCommand

from tests.docs.documents import headings, table
from tests.processes import ROOT

PAGE = ROOT / "docs" / "commands.md"
COMMANDS = sorted(
    path.stem
    for path in (ROOT / "relay" / "management" / "commands").glob("*.py")
    if path.stem != "__init__"
)
INTERNAL = {"pages", "pages-checked", "coverage", "migrated", "chromium", "help"}
"""Targets that others call; `make help` and the page leave them out."""
WORDS = {"required", "unset", "off", "all", "a handful", "a free one", "from the file"}
"""What stands for a default that is no value."""


def own_options(name: str) -> dict[str, argparse.Action]:
    """Return the options that a command adds to those of Django."""
    command = load_command_class("relay", name)
    assert isinstance(command, BaseCommand)
    parser = command.create_parser("manage.py", name)
    common = BaseCommand().create_parser("manage.py", name)
    known = {text for action in common._actions for text in action.option_strings}
    return {
        text: action
        for action in parser._actions
        for text in action.option_strings
        if text not in known
    }


def test_every_command_has_a_section() -> None:
    assert set(COMMANDS) <= set(headings(PAGE))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_row_with_its_default(name: str) -> None:
    options = own_options(name)
    rows = {option.strip("`"): default for option, default, _ in table(PAGE, name)}
    assert set(rows) == set(options)
    for option, default in rows.items():
        value = options[option].default
        if default in WORDS:
            assert not value, option
        else:
            written = f"{value:g}" if isinstance(value, float) else str(value)
            assert default == f"`{written}`", option


def test_every_target_of_make_is_listed() -> None:
    text = (ROOT / "Makefile").read_text()
    [targets] = re.findall(r"(?m)^\.PHONY: (.+)$", text)
    phony = set(targets.split())
    listed = {row[0].removeprefix("`make ").rstrip("`") for row in table(PAGE, "make")}
    assert listed == phony - INTERNAL
    helped = set(re.findall(r'echo "make (\w+)', text))
    assert helped == listed - {"secret"}
