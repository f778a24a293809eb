"""What befalls the upstream workers, and what clients notice of it."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from tests.faults.house import House, Scene, Worker, until
from tests.processes import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="module")

WAYS = ["kill", "stop", "freeze", "black hole", "cut"]
REPLACED_WITHIN = 5.0  # seconds from the fault until clients have data of the next leader


def lose(worker: Worker, way: str) -> None:
    match way:
        case "kill":
            worker.program.kill()
        case "stop":
            worker.program.signal(signal.SIGTERM)
        case "freeze":
            worker.program.signal(signal.SIGSTOP)
        case "black hole":
            worker.cable.black_hole()
        case "cut":
            worker.cable.cut()


def give_back(worker: Worker) -> None:
    """End what can end by itself; whoever died stays dead."""
    worker.cable.mend()
    if worker.program.process.poll() is None:
        worker.program.signal(signal.SIGCONT)


@pytest.mark.parametrize("way", WAYS)
async def test_a_leader_that_is_lost_is_replaced_and_every_client_goes_on(
    way: str, house: House, scene: Scene
) -> None:
    leader = await house.leader()
    line = scene.exchange.followers("linear", scene.market.shared.topic)[0]
    with house.stopwatch() as watch:
        lose(leader, way)
        joining = asyncio.create_task(scene.late())
        await scene.until_served_anew(line)
        took = watch.seconds
    print(f"{way}: replaced within {took:.2f} s")
    await joining
    assert await house.leader() is not leader
    if way == "stop":
        assert await leader.program.end() == 0
    give_back(leader)
    await scene.assert_heals(interrupted=True, trades_may_miss=True)
    assert took < REPLACED_WITHIN


@pytest.mark.parametrize("way", WAYS)
async def test_nobody_notices_that_the_standby_is_lost(
    way: str, house: House, scene: Scene
) -> None:
    leader, standby = await house.leader(), await house.standby()
    opened = scene.exchange.opened.copy()
    lose(standby, way)
    await scene.late()
    await asyncio.sleep(3)  # longer than a lease
    if way == "stop":
        assert await standby.program.end() == 0
    give_back(standby)
    await scene.assert_heals(interrupted=False)
    assert await house.leader() is leader
    assert scene.exchange.opened == opened


async def test_the_exchange_is_away_when_the_leader_dies(house: House, scene: Scene) -> None:
    leader = await house.leader()
    scene.exchange.is_shut = True
    leader.program.kill()
    await scene.late()

    async def is_told() -> bool:
        pictures = [await house.picture(web) for web in house.webs]
        states = [picture["upstream"]["linear"] for picture in pictures]
        return all(s["state"] == "down" and s["worker"] != house.name(leader) for s in states)

    await until(is_told, PATIENCE, "another worker leads and says that the exchange is away")
    scene.exchange.is_shut = False
    await scene.assert_heals(interrupted=True, trades_may_miss=True)


async def test_an_exchange_that_is_away_shows_in_time_though_the_leader_changes(
    house: House, scene: Scene
) -> None:
    scene.exchange.is_shut = True
    for line in scene.exchange.of("linear"):
        line.cut()
    cut_at = time.time()
    await asyncio.sleep(3)
    leader = await house.leader()
    leader.program.signal(signal.SIGSTOP)

    async def is_told() -> bool:
        return not any([(await house.readiness(web))["ready"] for web in house.webs])

    await until(is_told, 10, "no web process is ready")
    for web in house.webs:
        [fault] = (await house.readiness(web))["faults"]
        assert (fault["what"], fault["category"]) == ("upstream", "linear")
        assert fault["for_seconds"] > time.time() - cut_at - 2.5
    leader.program.signal(signal.SIGCONT)
    scene.exchange.is_shut = False
    await scene.assert_heals(interrupted=True, trades_may_miss=True)


async def test_every_worker_dies_and_the_next_one_knows_what_is_wanted(
    house: House, scene: Scene
) -> None:
    for worker in house.workers:
        worker.program.kill()
    await scene.late()
    await asyncio.sleep(3)  # until the silence is noticed
    await house.repair()
    await scene.assert_heals(interrupted=True, trades_may_miss=True)
    names = {house.name(worker) for worker in house.workers}

    async def are_shown() -> bool:
        pictures = [await house.picture(web) for web in house.webs]
        return all({row["name"] for row in picture["workers"]} == names for picture in pictures)

    await until(are_shown, PATIENCE, "both workers are shown, and none that is dead")
