"""docs/settings.md lists every setting, each with the default that it has."""

from __future__ import annotations

import pytest

from marketfeed.environment import ProjectSettings
from relay import conf
from relay.lib.settings import parse, select, variables
from tests.docs.documents import tables
from tests.processes import ROOT

PAGE = ROOT / "docs" / "settings.md"
UNSET = "unset"
KINDS = (ProjectSettings, conf.RelaySettings)
ROWS = [row for _, rows in tables(PAGE) for row in rows[1:]]
FIELDS = {variable: (kind, field) for kind in KINDS for field, variable in variables(kind).items()}


def test_each_setting_has_one_row_and_each_row_is_a_setting() -> None:
    assert sorted(name for name, _, _ in ROWS) == sorted(f"`{name}`" for name in FIELDS)


@pytest.mark.parametrize(("name", "default", "meaning"), ROWS)
def test_the_default_in_the_table_is_the_one_in_force(
    name: str, default: str, meaning: str
) -> None:
    kind, field = FIELDS[name.strip("`")]
    text = "" if default == UNSET else default.strip("`")
    assert default in (UNSET, f"`{text}`"), "a value stands between backticks"
    given = select(kind, {name.strip("`"): text})
    assert parse(kind, given, "relay.E006") == (kind(), []), "set to its default, nothing changes"
    assert text or getattr(kind(), field) in ("", ())
    assert meaning
