"""The recordings of tests/fixtures are what the simulator says and `record` writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.recordings.make import RECORDINGS, make
from tests.recordings import MADE


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_is_what_its_maker_makes(name: str, tmp_path: Path) -> None:
    make(name, tmp_path)
    same = (tmp_path / name).read_bytes() == (MADE / name).read_bytes()
    assert same, "make them again: python -m tests.fixtures.recordings.make"


def test_every_recording_has_a_maker() -> None:
    assert {path.name for path in MADE.glob("*.jsonl")} == set(RECORDINGS)
