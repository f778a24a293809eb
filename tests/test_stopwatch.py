"""tests/stopwatch.py: what is held against a promise, and what is not."""

from __future__ import annotations

import os
import sys
import time

import pytest

from tests.processes import running
from tests.stopwatch import Stopwatch

SLEEP = "import time; print('ready', flush=True); time.sleep(60)"
# Works for as long as it has run for half a second; the rest of the time others run.
WORK = (
    "import time\nwhile time.process_time() < 0.5: pass\nprint('done', flush=True)\ntime.sleep(60)"
)


def test_what_a_process_waits_for_by_itself_counts() -> None:
    with running(sys.executable, "-c", SLEEP) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with Stopwatch(process.pid) as watch:
            time.sleep(1)
    assert watch.seconds > 0.5


@pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="the kernel does not tell")
def test_what_a_process_has_to_wait_for_others_does_not_count() -> None:
    one_core = {min(os.sched_getaffinity(0))}
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, one_core)  # what is started here stays there
    try:
        with running(sys.executable, "-c", WORK) as one, running(sys.executable, "-c", WORK) as two:
            began = time.monotonic()
            with Stopwatch(one.pid, two.pid) as watch:
                for process in (one, two):
                    assert process.stdout is not None
                    assert process.stdout.readline() == "done\n"
            elapsed = time.monotonic() - began
    finally:
        os.sched_setaffinity(0, everywhere)
    assert elapsed - watch.seconds > 0.25
