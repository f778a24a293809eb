"""How a long-running command says how it stands.

On a terminal: one line that is amended in place, below whatever is logged. Elsewhere: a log
entry now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

SCREEN_INTERVAL = 1.0  # seconds between two states on a terminal
LOG_INTERVAL = 60.0  # seconds between two of them in a log


def is_terminal() -> bool:
    """Whether standard output is a terminal whose lines can be amended."""
    if sys.stdout is None or not sys.stdout.isatty():  # None: it was closed by who started us
        return False
    return os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def screen_console() -> Console:
    """Return rich's console for standard output, once `is_terminal` has decided."""
    return Console(force_terminal=True, force_interactive=True, highlight=False)


async def report(
    state: Callable[[], str], logger: logging.Logger, log_interval: float = LOG_INTERVAL
) -> None:
    """Display `state()` until cancelled; in a log, only when it changes."""
    if is_terminal():
        # A terminal that is gone must not stop the command: a log may remain.
        with contextlib.suppress(OSError), _live() as live:
            while True:
                live.update(Text(state(), no_wrap=True, overflow="ellipsis"), refresh=True)
                await asyncio.sleep(SCREEN_INTERVAL)
    said = ""
    while True:
        await asyncio.sleep(log_interval)
        words = state()
        if words != said:
            logger.info("%s", words)
            said = words


@contextlib.contextmanager
def _live() -> Iterator[Live]:
    shares = sys.stderr.isatty()
    # What logs write to the terminal goes above the line instead of through it.
    with (
        Live(console=screen_console(), auto_refresh=False, redirect_stderr=shares) as live,
        logs_to(sys.stderr),
    ):
        yield live


@contextlib.contextmanager
def logs_to(stream: TextIO) -> Iterator[None]:
    """Have the log written to `stream` for a while."""
    handlers = [one for one in logging.root.handlers if type(one) is logging.StreamHandler]
    previous = [handler.setStream(stream) for handler in handlers]
    try:
        yield
    finally:
        for handler, before in zip(handlers, previous, strict=True):
            handler.setStream(before or sys.__stderr__)


class Pace:
    """Tells how fast a count grows, between two looks at it."""

    def __init__(self, count: int = 0) -> None:
        self._before = count
        self._looked_at = time.monotonic()

    def per_second(self, count: int) -> float:
        """Return the growth since the last look, for each second."""
        now = time.monotonic()
        elapsed = max(now - self._looked_at, 0.001)
        pace = (count - self._before) / elapsed
        self._before, self._looked_at = count, now
        return pace


def size(count: float) -> str:
    """Write a number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"


def number(count: int, noun: str) -> str:
    """Write a count of things for people."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
