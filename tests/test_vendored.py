"""What was taken from npm is listed beside it and is what it was."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIST = "VENDORED.json"
FOLDERS = sorted(path.parent for top in ("relay", "tests") for path in (ROOT / top).rglob(LIST))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_vendored_files_are_listed_and_unchanged(folder: Path) -> None:
    entries = json.loads((folder / LIST).read_text())
    assert all(entry["package"] and entry["version"] and entry["licence"] for entry in entries)
    listed = {entry["file"]: entry["sha256"] for entry in entries}
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != LIST and not path.name.endswith(".d.ts")  # ours: what tsc is to know of it
    }
    assert found == listed


def test_every_folder_of_foreign_files_has_a_list() -> None:
    vendor = {path for top in ("relay", "tests") for path in (ROOT / top).rglob("vendor")}
    assert vendor
    assert vendor == set(FOLDERS)
