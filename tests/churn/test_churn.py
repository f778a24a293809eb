"""A short round of churn: everything that came has gone, and everything it used has come back.

`make soak` does the same for as long as wanted, with memory and times; here counts alone decide,
and what the relay keeps for a while is kept for a shorter one.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.churn.house import Mode, opened
from tests.churn.readers import Readers
from tests.churn.rounds import first_look, play, until_empty

SEED = 20
EACH = 2  # visitors of each kind at a time
SECONDS = 12.0  # that they come and go
SETTINGS = {"RELAY_LINGER": "2", "RELAY_SLOW_TIMEOUT": "10"}  # not 10 and 30 seconds
FAULTS = {
    Mode.ONE: ("cut", "gap", "garbage", "crossed", "refused_once"),
    Mode.SEVERAL: ("cut", "redis_restart", "redis_crash", "worker_killed"),
}


@pytest.mark.parametrize("mode", Mode)
async def test_everything_comes_back_when_the_clients_have_gone(mode: Mode, tmp_path: Path) -> None:
    async with opened(mode, tmp_path, SEED, SETTINGS) as house:
        async with Readers(house) as readers:
            start = await first_look(house)
            found = await play(
                house,
                readers,
                start,
                Random(SEED),
                each=EACH,
                seconds=SECONDS,
                faults=FAULTS[mode],
            )
        complaints = [f"{name}: {words}" for name, words in found.complaints().items()]
        assert not complaints, "\n".join(["did not come back:", *complaints])
        assert list(found.right_after) == list(FAULTS[mode])
        await until_empty(house)
