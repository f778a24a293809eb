"""marketfeed/home.py: where an installation keeps its state, and its secret key."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from dotenv import dotenv_values

from marketfeed import home


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_secret_is_written_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    assert not home.has_secret(tmp_path)
    home.write_secret(tmp_path)
    written = (tmp_path / ".env").read_text()
    assert mode(tmp_path / ".env") == 0o600
    assert len(dotenv_values(tmp_path / ".env")["SECRET_KEY"] or "") >= 50
    assert home.has_secret(tmp_path)
    home.write_secret(tmp_path)
    assert (tmp_path / ".env").read_text() == written


def test_a_secret_joins_what_the_file_holds_already(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("SECRET_KEY=\nRELAY_LINGER=3")  # without an end of line
    path.chmod(0o644)
    home.write_secret(tmp_path)
    assert dotenv_values(path)["RELAY_LINGER"] == "3"
    assert dotenv_values(path)["SECRET_KEY"]
    assert mode(path) == 0o600


def test_processes_that_start_at_once_agree_on_a_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(home.write_secret, [tmp_path] * 8))
    assert (tmp_path / ".env").read_text().count("SECRET_KEY=") == 1


def test_state_lies_in_the_checkout_unless_a_home_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARKETFEED_HOME", "")
    assert home.folder(checkout=tmp_path) == tmp_path
    monkeypatch.setenv("MARKETFEED_HOME", "~/feed")
    assert home.folder(checkout=tmp_path) == Path.home() / "feed"
    monkeypatch.setenv("MARKETFEED_HOME", "feed")
    assert home.folder(checkout=tmp_path) == Path.cwd() / "feed"
