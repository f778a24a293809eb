"""What befalls a web process, what its clients notice of it, and that the others do not."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from relay.lib import timing
from tests.e2e.client import Client
from tests.faults.house import DEMAND_LEASE, DOORS, LINGER, House, Scene, until_sync
from tests.processes import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="module")


def assert_undisturbed(clients: list[Client]) -> None:
    """Nothing was told to them, and no snapshot of a book had to be sent again."""
    for one in clients:
        one.check()
        assert one.code is None
        assert one.notices == []
        for follower in one.followers.values():
            if follower.topic.startswith("orderbook"):
                assert follower.types.count("snapshot") == 1, follower.topic


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, 1006), (signal.SIGTERM, 4200)], ids=["kill", "stop"]
)
async def test_a_web_process_that_ends_takes_its_clients_and_its_demand_and_nothing_else(
    number: signal.Signals, code: int, house: House, scene: Scene
) -> None:
    web, other = house.webs
    gone = scene.lost(web)
    own = scene.market.own[0].topic
    with house.stopwatch() as watch:
        web.program.signal(number)
        for one in gone:
            assert await one.until_closed() == code
        await scene.join(other, DOORS[1], scene.market.shared.topic, scene.market.fresh[1].topic)
        await until_sync(
            lambda: own not in scene.exchange.topics("linear"), PATIENCE, "its topic is let go"
        )
    print(f"{number.name}: let go after {watch.seconds:.2f} s")
    assert watch.seconds < (DEMAND_LEASE + LINGER + 2 if number is signal.SIGKILL else LINGER + 4)
    await scene.assert_heals(interrupted=False)
    assert_undisturbed(scene.early)

    await house.repair()
    for door in DOORS:
        await scene.join(house.webs[0], door, scene.market.shared.topic, own)
    await scene.assert_heals(interrupted=False)


@pytest.mark.parametrize("seconds", [2.0, DEMAND_LEASE + LINGER + 1.5])
async def test_a_web_process_that_was_frozen_goes_on_where_it_was(
    seconds: float, house: House, scene: Scene
) -> None:
    web, other = house.webs
    frozen = time.monotonic()
    web.program.signal(signal.SIGSTOP)
    await scene.join(other, DOORS[0], scene.market.shared.topic, scene.market.fresh[1].topic)
    await asyncio.sleep(seconds)

    def is_forgotten() -> bool:
        return scene.market.own[0].topic not in scene.exchange.topics("linear")

    if seconds > DEMAND_LEASE:
        await until_sync(is_forgotten, PATIENCE, "its topic is let go")
    else:
        away = time.monotonic() - frozen
        assert not is_forgotten() or away > DEMAND_LEASE - timing.DEMAND_RENEWAL
    web.program.signal(signal.SIGCONT)
    await scene.assert_heals(interrupted=False)  # it was away, not the exchange
    assert_undisturbed([one for one, its in scene.clients.items() if its is other])


@pytest.mark.parametrize("way", ["black hole", "black hole for good", "cut"])
async def test_a_web_process_that_cannot_reach_redis_serves_what_it_can_and_recovers(
    way: str, house: House, scene: Scene
) -> None:
    web, other = house.webs
    if way == "cut":
        web.cable.cut()
    else:
        web.cable.black_hole()
    cut_at = time.monotonic()
    await house.until_cut_off(web)
    print(f"{way}: noticed after {time.monotonic() - cut_at:.2f} s")
    await scene.refused(web)
    assert (await house.readiness(other))["ready"]
    await scene.late(fresh=False)
    told = [one for one in scene.early if scene.clients[one] is web and not one.is_bybit]
    for one in told:
        await one.until(lambda o=one: o.notices, "told that upstream is out of reach")
    web.cable.mend(forget=way == "black hole for good")
    took = await scene.assert_heals(interrupted=None)
    print(f"{way}: healed within {took:.2f} s")
    for one in told:
        assert [n["upstream"] for n in one.notices] == ["down", "live"]
    assert (await house.readiness(web))["ready"]
    assert_undisturbed([one for one, its in scene.clients.items() if its is other])
