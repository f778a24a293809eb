"""The same processes and the same exchange as in the end-to-end tests, and nginx."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.nginx import Nginx
from tests.e2e.conftest import exchange, programs
from tests.processes import Programs

__all__ = ["exchange", "programs"]


@pytest.fixture
def nginx(programs: Programs, tmp_path: Path) -> Nginx:
    """Runs the project's own configuration of nginx."""
    return Nginx(programs, tmp_path)
