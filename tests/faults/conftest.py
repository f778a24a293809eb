"""The same processes and the same exchange as in the end-to-end tests, and a house to break."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.conftest import exchange, programs
from tests.e2e.stand_in import StandIn
from tests.faults.house import House, Scene, opened

__all__ = ["exchange", "programs"]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def street(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[House, StandIn]]:
    """An exchange and a house that the tests of a module share."""
    async with (
        StandIn() as stand_in,
        opened(tmp_path_factory.mktemp("house"), stand_in.url) as house,
    ):
        yield house, stand_in


@pytest_asyncio.fixture(loop_scope="module")
async def scene(street: tuple[House, StandIn]) -> AsyncIterator[Scene]:
    """A market and clients of this test's own; afterwards nothing is wanted any more."""
    house, stand_in = street
    await house.repair()
    async with house.scene(stand_in) as scene:
        yield scene


@pytest.fixture
def house(scene: Scene) -> House:
    """The house with its market and clients."""
    return scene.house
