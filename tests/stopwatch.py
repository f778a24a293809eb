"""How long something took, whatever else the machine had to do meanwhile."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

INTERVAL = 0.05  # seconds between two looks at processes that may end


class Stopwatch:
    """Counts the seconds in which the processes of a test could have run.

        with Stopwatch(program.process.pid) as watch:
            program.signal(signal.SIGTERM)
            await program.end()
        assert watch.seconds < PROMISED

    What is promised in seconds is promised on a machine that gives its processes time. So those in
    which one of them, or the test, was ready to run and had to wait are not counted: the kernel
    tells. Whatever a process does, and whatever it waits for by itself, counts in full.
    """

    def __init__(self, *pids: int) -> None:
        self._before = {pid: _waited(pid) for pid in (os.getpid(), *pids)}
        self._waited = dict.fromkeys(self._before, 0.0)
        self._stolen = _stolen()
        self._began = time.monotonic()
        self._took: float | None = None
        self._is_over = threading.Event()
        self._looking = threading.Thread(target=self._look_often, daemon=True)

    @property
    def seconds(self) -> float:
        """Seconds until now, or until the end."""
        if self._took is not None:
            return self._took
        elapsed = time.monotonic() - self._began
        self._look()
        return elapsed - sum(self._waited.values()) - (_stolen() - self._stolen)

    def __enter__(self) -> Self:
        self._looking.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._took = self.seconds
        self._is_over.set()
        self._looking.join()

    def _look(self) -> None:
        for pid, before in self._before.items():
            self._waited[pid] = max(self._waited[pid], _waited(pid) - before)

    def _look_often(self) -> None:
        while not self._is_over.wait(INTERVAL):
            self._look()


def _waited(pid: int) -> float:
    """Return for how many seconds a process was ready to run and did not; 0 if it has ended."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    return 0.0


def _stolen() -> float:
    """Return for how many seconds other machines on this hardware kept this one from running."""
    with contextlib.suppress(OSError):
        words = Path("/proc/stat").read_text().split("\n", 1)[0].split()
        return int(words[8]) / os.sysconf("SC_CLK_TCK")
    return 0.0
