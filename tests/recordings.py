"""The recorded sessions that tests read.

Those of `tests/fixtures/recordings` are the project's own, made by its simulator. Frames of the
real exchange are not the project's to give away: where a folder of them lies beside it, the
same tests run over those, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from relay.bybit.topics import Category

ROOT = Path(__file__).resolve().parents[1]
MADE = ROOT / "tests" / "fixtures" / "recordings"
REAL = ROOT.parent / "shared" / "recordings"


def _found(*names: str) -> Iterator[Path]:
    yield from (path for folder in (MADE, REAL) for name in names for path in folder.glob(name))


SESSIONS = sorted(_found("linear-*.jsonl", "spot-*.jsonl"))
"""One category each, which the name begins with: frames as they came, one a line."""

COLLECTIONS = sorted(_found("categories.jsonl", "tardis-*.jsonl", "observed-*.jsonl"))
"""Several categories each: `{"category", "message"}` a line."""


def category_of(session: Path) -> Category:
    """Return the category of a session's frames."""
    return Category(session.name.partition("-")[0])


@cache
def market_frames(session: Path) -> tuple[tuple[str, str], ...]:
    """Return (topic, frame) of each market message of a session, as it was recorded."""
    lines = session.read_text().splitlines()
    return tuple((body["topic"], line) for line in lines if "topic" in (body := json.loads(line)))


@cache
def messages(collection: Path) -> tuple[tuple[Category, str], ...]:
    """Return (category, frame) of each message of a collection, in compact form."""
    rows = map(json.loads, collection.read_text().splitlines())
    return tuple(
        (Category(row["category"]), json.dumps(row["message"], separators=(",", ":")))
        for row in rows
        if "message" in row
    )


def each(*recordings: Path) -> pytest.MarkDecorator:
    """Run a test for each of some recordings, as its `path`."""
    return pytest.mark.parametrize("path", recordings, ids=[path.stem for path in recordings])
