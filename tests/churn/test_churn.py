"""A short round of churn: everything that came has gone, and everything it used has come back.

`make soak` does the same for as long as wanted, with memory and times; here counts alone decide.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.churn.house import Mode, opened
from tests.churn.kinds import KINDS, OVERSTAY
from tests.churn.readers import Readers
from tests.churn.rounds import first_look, play, until_empty

SEED = 20
EACH = 2  # visitors of each kind at a time
SECONDS = 12.0  # that they come and go
FAULTS = {
    Mode.ONE: ("cut", "gap", "garbage", "crossed"),
    Mode.SEVERAL: ("cut", "redis_restart", "redis_crash", "worker_killed"),
}
# What the relay does not do yet: each is to go from here when it does.
LATER = OVERSTAY
BY_COUNTING = False


@pytest.mark.parametrize("mode", Mode)
async def test_everything_comes_back_when_the_clients_have_gone(mode: Mode, tmp_path: Path) -> None:
    async with opened(mode, tmp_path, SEED) as house:
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
                kinds=[kind for kind in KINDS if kind not in LATER],
                by_counting=BY_COUNTING,
            )
        assert not found.complaints(), "\n".join(["did not come back:", *found.complaints()])
        assert list(found.right_after) == list(FAULTS[mode])
        await until_empty(house)
