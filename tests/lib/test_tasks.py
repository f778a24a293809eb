"""Work that goes on whatever happens."""

from __future__ import annotations

import asyncio

import pytest

from relay.lib import tasks as tasks_module
from relay.lib import timing
from tests.processes import PATIENCE


async def test_a_step_is_tried_again_and_an_outage_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(timing, "LAYER_RETRY_CEILING", 0.01)
    faults: list[Exception] = [OSError("away"), OSError("away"), ValueError("wrong")]
    is_back = asyncio.Event()

    async def step() -> None:
        if faults:
            raise faults.pop(0)
        is_back.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(tasks_module.run_forever(step, "publish"))
    async with asyncio.timeout(PATIENCE):
        await is_back.wait()
    task.cancel()
    away, wrong = caplog.records
    assert away.getMessage() == "publish: the channel layer fails (away); trying again"
    assert away.exc_info is None
    assert wrong.exc_info is not None


async def test_pauses_grow_while_a_step_fails_and_are_short_again_once_it_ran(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Longer than a machine is likely to stand still.
    monkeypatch.setattr(timing, "LAYER_RETRY_CEILING", 1.0)
    monkeypatch.setattr(timing, "LAYER_FIRST_RETRY", 0.05)
    sleep, pauses, is_back = asyncio.sleep, list[float](), asyncio.Event()
    durations = iter([0, 0, 0, 0, 0, 0, 0, 0, 0, 1.1])

    async def step() -> None:
        duration = next(durations, None)
        if duration is None:
            is_back.set()
            await asyncio.Event().wait()
        else:
            await sleep(duration)
            raise OSError

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", pause)
    task = asyncio.create_task(tasks_module.run_forever(step, "publish"))
    async with asyncio.timeout(PATIENCE):
        await is_back.wait()
    task.cancel()
    assert max(pauses[0], pauses[-1]) <= 0.05
    assert 0.5 <= pauses[-2] <= 1.0


async def test_who_swallows_a_cancel_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "CANCEL_INTERVAL", 0.01)
    swallowed = 0

    async def deaf() -> None:
        nonlocal swallowed
        while swallowed < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.Event().wait()

    async def failing() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError

    tasks = [asyncio.create_task(work()) for work in (deaf, failing)]
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE):
        await tasks_module.cancel_all(tasks)
    assert swallowed == 3
    assert all(task.done() for task in tasks)
