"""What the end-to-end tests share; the contract and fault tests take it from here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.e2e.stand_in import StandIn
from tests.processes import Programs


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """Starts the project's processes; none of them outlives the test."""
    started = Programs(tmp_path)
    try:
        yield started
    finally:
        started.close()


@pytest.fixture
async def exchange() -> AsyncIterator[StandIn]:
    """An exchange that this test leads by the hand."""
    async with StandIn() as stand_in:
        yield stand_in
