"""What befalls the upstream workers, and what clients notice of it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.stand_in import StandIn
from tests.faults.house import House, opened

pytestmark = pytest.mark.asyncio(loop_scope="module")

REPLACED_WITHIN = 5.0  # seconds from the fault until clients have data of the next leader


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def neighbourhood(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[StandIn, House]]:
    folder: Path = tmp_path_factory.mktemp("workers")
    async with StandIn() as exchange, opened(folder, exchange.url) as house:
        yield exchange, house


@pytest_asyncio.fixture(loop_scope="module")
async def house(neighbourhood: tuple[StandIn, House]) -> AsyncIterator[House]:
    await neighbourhood[1].repair()
    yield neighbourhood[1]
    await neighbourhood[1].repair()


@pytest_asyncio.fixture(loop_scope="module")
async def exchange(neighbourhood: tuple[StandIn, House]) -> StandIn:
    return neighbourhood[0]


@pytest.mark.parametrize("way", ["kill -9", "stop", "freeze", "black hole", "cut"])
async def test_a_leader_that_is_lost_is_replaced_and_every_client_goes_on(
    way: str, house: House, exchange: StandIn, record_property: pytest.RecordProperty
) -> None:
    async with house.scene(exchange) as scene:
        leader = await house.leader()
        old = exchange.followers("linear", scene.market.shared.topic)[0]
        lost_at = time.monotonic()
        match way:
            case "kill -9":
                leader.program.kill()
            case "stop":
                leader.program.signal(signal.SIGTERM)
            case "freeze":
                leader.program.signal(signal.SIGSTOP)
            case "black hole":
                leader.cable.black_hole()
            case "cut":
                leader.cable.cut()
        joining = asyncio.create_task(scene.late())
        await scene.until_served_anew(old)
        took = time.monotonic() - lost_at
        print(f"{way}: replaced within {took:.2f} s")
        record_property("replaced_within", took)
        await joining
        assert await house.leader() is not leader
        match way:
            case "stop":
                assert await leader.program.end() == 0
            case "freeze":
                leader.program.signal(signal.SIGCONT)
            case "black hole" | "cut":
                leader.cable.mend()
        await scene.assert_heals(interrupted=True, trades_may_miss=True)
        assert took < REPLACED_WITHIN
