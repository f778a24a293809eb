"""Serve a Bybit look-alike on the loopback interface, for demos and tests.

It reads no setting, so a missing `SECRET_KEY` does not keep it from running.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from relay import conf
from relay.management.base import CannotStart, RelayCommand
from relay.management.state_line import Pace, number, report
from relay.simulator.control import FAULTS
from relay.simulator.instruments import MOST_SYMBOLS
from relay.simulator.replay import Recording, RecordingError
from relay.simulator.server import DEFAULT_RATE, Simulator
from relay.simulator.topics import Category

logger = logging.getLogger(__name__)

HIGHEST_RATE = 1000.0  # steps in a second for each symbol


class Command(RelayCommand):
    """`manage.py run_simulator`."""

    help = "Serves a Bybit look-alike at ws://127.0.0.1:PORT/v5/public/{category}."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options; a wrong value raises `CannotStart` with the words for it."""
        add = parser.add_argument
        whole, decimal = _number(int), _number(float)
        add("--port", type=whole("--port", 0, 65535), default=9001, help="0: any free one")
        add("--seed", type=_seed, default=1, help="same seed, same messages")
        add(
            "--symbols",
            type=whole("--symbols", 1, MOST_SYMBOLS),
            help="in each category (default: a handful of well-known ones)",
        )
        add(
            "--rate",
            type=decimal("--rate", 0.01, HIGHEST_RATE),
            default=DEFAULT_RATE,
            help="steps in a second for each symbol",
        )
        add("--replay", metavar="FILE", type=Path, help="play recorded frames instead")
        add(
            "--speed",
            type=decimal("--speed", 0, 1e9),
            default=1.0,
            help="of a replay, times the recorded pace; 0: as fast as possible",
        )
        add(
            "--category",
            type=_category,
            help="of a raw recording (default: from its file name, or every one)",
        )
        add(
            "--fault",
            metavar="NAME=SECONDS",
            type=_fault,
            action="append",
            default=[],
            help=f"commit a fault again and again, on random targets: {', '.join(FAULTS)}",
        )
        add(
            "--refuse",
            metavar="[CATEGORY:]SYMBOL",
            type=_refused,
            action="append",
            default=[],
            help="do not know this symbol",
        )

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run whatever the settings are: none of them matters here."""
        return BaseCommand.execute(self, *args, **options)

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until a signal comes."""
        self.run_until_stopped(self._serve(options))

    async def _serve(self, options: dict[str, Any]) -> None:
        simulator = Simulator(
            options["port"],
            seed=options["seed"],
            symbols=options["symbols"],
            rate=options["rate"],
            replay=_recording(options["replay"], options["category"]),
            speed=options["speed"],
            refuse=[pair for pairs in options["refuse"] for pair in pairs],
            faults=dict(options["fault"]),
        )
        try:
            await simulator.__aenter__()
        except OSError as fault:
            why = os.strerror(fault.errno) if fault.errno else fault
            raise CannotStart(f"Cannot listen on port {options['port']}: {why}.") from None
        try:
            if conf.current().log_format == "json":
                logger.info("simulator listening on %s", simulator.url)
            else:
                print(f"simulator listening on {simulator.url}", flush=True)
            await report(_reporter(simulator), logger)
        finally:
            await simulator.__aexit__(None, None, None)


def _reporter(simulator: Simulator) -> Callable[[], str]:
    """Return what says how it stands."""
    source = simulator.replay or simulator.exchange
    pace = Pace(source.sent)

    def state() -> str:
        parts = []
        for category in Category:
            sockets = [socket for socket in simulator.sockets if socket.category is category]
            if sockets:
                topics = sum(len(socket.session.topics) for socket in sockets)
                parts.append(
                    f"{category}: {number(len(sockets), 'connection')}, {number(topics, 'topic')}"
                )
        kind = "replay" if simulator.replay else "market"
        rate = pace.per_second(source.sent)
        return " | ".join([f"{kind}: {rate:,.0f} messages/s", *(parts or ["nobody connected"])])

    return state


def _recording(path: Path | None, category: Category | None) -> Recording | None:
    if path is None:
        return None
    try:
        return Recording.read(path, category)
    except RecordingError as fault:
        raise CannotStart(f"--replay {path}: {fault}.") from None


def _number(kind: type[int] | type[float]) -> Callable[[str, float, float], Callable[[str], float]]:
    """Return a maker of readers for numbers between two limits."""

    def make(name: str, least: float, most: float) -> Callable[[str], float]:
        def read(text: str) -> float:
            try:
                value = kind(text)
            except ValueError:
                value = least - 1
            if not (isfinite(value) and least <= value <= most):
                words = "a whole number" if kind is int else "a number"
                raise CannotStart(
                    f"{name} must be {words} from {least:g} to {most:g}: {text[:80]!r}."
                )
            return value

        return read

    return make


def _seed(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise CannotStart(f"--seed must be a whole number: {text[:80]!r}.") from None


def _category(text: str) -> Category:
    try:
        return Category(text)
    except ValueError:
        known = ", ".join(Category)
        raise CannotStart(f"--category: expected one of {known}, found {text[:80]!r}.") from None


def _fault(text: str) -> tuple[str, float]:
    name, _, seconds = text.partition("=")
    if name not in FAULTS:
        raise CannotStart(f"--fault must be NAME=SECONDS with NAME one of {', '.join(FAULTS)}.")
    return name, _number(float)(f"--fault {name}", 0.01, 1e6)(seconds)


def _refused(text: str) -> list[tuple[Category, str]]:
    name, colon, symbol = text.rpartition(":")
    return [(one, symbol) for one in ([_category(name)] if colon else Category)]
