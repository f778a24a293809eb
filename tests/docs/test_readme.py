"""The README is short, and its figures are those that were measured."""

from __future__ import annotations

import re

from tests.docs.documents import table
from tests.processes import ROOT

README = ROOT / "README.md"
FIGURE = re.compile(r"\d[\d.,]* (?:us|ms|k/s|KB|s)\b")
PROMISES = "What it costs"


def prose(text: str) -> list[str]:
    """Return the words outside blocks of code."""
    return re.sub(r"(?ms)^```.*?^```$", "", text).split()


def test_the_readme_is_an_introduction() -> None:
    assert 600 <= len(prose(README.read_text())) <= 900


def test_each_figure_of_its_table_was_measured() -> None:
    measured = (ROOT / "docs" / "benchmarks.md").read_text()
    cells = [cell for row in table(README, PROMISES) for cell in row[1:] if cell]
    assert len(cells) > 10
    for cell in cells:
        assert f"| {cell} |" in measured or f"| {cell} · " in measured, cell


def test_each_figure_below_its_table_was_measured() -> None:
    measured = (ROOT / "docs" / "benchmarks.md").read_text()
    text = README.read_text().partition(f"## {PROMISES}")[2].partition("\n## ")[0]
    below = text.rpartition("|\n")[2]
    assert len(FIGURE.findall(below)) >= 2
    for figure in FIGURE.findall(below):
        assert figure.rpartition(" ")[0] in measured, figure
