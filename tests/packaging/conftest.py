"""The wheel, built and installed once for these tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packaging.installed import Installation, build, install


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """An environment that has the wheel."""
    return install(wheel, tmp_path_factory.mktemp("environment"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder, far from any checkout."""
    empty = tmp_path / "empty"
    empty.mkdir()
    return empty
