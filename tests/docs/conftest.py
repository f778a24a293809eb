"""The same processes as in the end-to-end tests, in a copy of the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.checkout import make_checkout
from tests.e2e.conftest import programs

__all__ = ["programs"]


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project that the blocks may write into."""
    return make_checkout(tmp_path_factory.mktemp("docs") / "checkout")
