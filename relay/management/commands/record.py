"""`manage.py record`: the exchange's frames into a file, for `run_simulator --replay`."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from relay import conf
from relay.bybit.topics import truncate
from relay.management.base import CannotContinue, CannotStart, RelayCommand
from relay.management.state_line import Pace, report, size
from relay.management.topics import add_topics
from relay.upstream.connection import Connection, ConnectPacing
from relay.upstream.connects import Connects
from relay.upstream.recorder import BLOCK_BYTES, CategoryRecorder, FrameFile, Recorder

logger = logging.getLogger(__name__)

LOG_INTERVAL = 10.0  # seconds between two counts in a log
LOOK = 0.1  # seconds between looks at what there is to write


class Command(RelayCommand):
    """Writes raw frames, one JSON a line, until it is stopped."""

    help = (
        "Write the exchange's frames to a file, one JSON a line: of one category as they came, of "
        "several each as {category, message}. A line {at} before them says when they arrived, in "
        "Unix ms. run_simulator --replay plays it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        add_topics(parser, "what to record")
        parser.add_argument(
            "--out", type=Path, required=True, metavar="FILE", help="gzip if it ends in .gz"
        )
        parser.add_argument(
            "--overwrite", action="store_true", help="replace what FILE holds already"
        )

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run if the relay's own settings can be used: it serves nothing, so no other matters."""
        if found := conf.read(conf.given())[1]:
            raise CannotStart(conf.sentence(found))
        return BaseCommand.execute(self, *args, **options)

    def handle(self, *args: Any, **options: Any) -> None:
        """Record until a signal."""
        path: Path = options["out"]
        try:
            file = FrameFile(path, overwrite=options["overwrite"])
        except FileExistsError:
            raise CannotStart(
                f"{path} is not empty: choose another file, or say --overwrite."
            ) from None
        except BlockingIOError:
            raise CannotStart(f"{path} is being written by another recorder.") from None
        except (OSError, ValueError) as fault:
            raise CannotStart(f"Cannot write {path}: {_why(fault)}.") from None
        recorder = Recorder(options["topics"], file)
        began = time.monotonic()
        try:
            self.run_until_stopped(_record(recorder, file))
        except OSError as fault:
            raise CannotContinue(f"Cannot write on in {path}: {_why(fault)}.") from None
        finally:
            try:
                file.close()
            except OSError as fault:
                raise CannotContinue(f"Cannot finish {path}: {_why(fault)}.") from None
            if file.written:
                self.stderr.write(f"{_state(recorder, file)} in {time.monotonic() - began:,.0f} s")
            elif not recorder.is_hopeless:
                self.stderr.write(f"Nothing came from the exchange, so {path} was not written.")


def _why(fault: OSError | ValueError) -> str:
    number = getattr(fault, "errno", None)
    return os.strerror(number) if number else str(fault)


class _Connections:
    """The connections of one category, which read no faster than the file is written."""

    def __init__(self, part: CategoryRecorder, connects: Connects) -> None:
        """Prepare them; each is to be run."""
        self._part = part
        pacing = ConnectPacing(part.category, connects)
        url = f"{conf.current().upstream_url}/{part.category}"
        interval = conf.current().ping_interval
        self.all = [
            Connection(self, state, url=url, ping_interval=interval, pacing=pacing)
            for state in part.connections
        ]

    def resume(self) -> None:
        """Read on, unless too much waits to be written."""
        if not self._part.is_crowded:
            for connection in self.all:
                connection.resume()

    def on_opened(self, connection: Connection, now: float) -> None:
        """Hand it to the recorder."""
        self._part.on_opened(connection.state, now)

    def on_closed(self, connection: Connection, error: str) -> None:
        """Hand it to the recorder."""
        self._part.on_closed(connection.state)

    def on_frame(self, connection: Connection, text: bytes, now: float) -> None:
        """Hand it to the recorder; send what that asks for."""
        self._part.on_frame(connection.state, text, now)
        subscriptions = connection.state.subscriptions
        if subscriptions is not None and subscriptions.has_work:
            connection.wake()
        if self._part.is_crowded:
            connection.pause()

    def on_binary(self, size: int) -> None:
        """Hand it to the recorder."""
        self._part.on_binary(size)


async def _record(recorder: Recorder, file: FrameFile) -> None:
    """Keep what comes until cancelled.

    Raises:
        OSError: the file cannot be written.
        CannotStart: the exchange has none of the topics.
    """
    tasks: list[asyncio.Task[None]] = [
        asyncio.create_task(report(_reporter(recorder, file), logger, LOG_INTERVAL))
    ]
    connects = Connects(conf.current().upstream_url)
    parts = [_Connections(part, connects) for part in recorder.categories]
    tasks += [asyncio.create_task(connection.run()) for part in parts for connection in part.all]
    try:
        due = time.monotonic() + file.flush_interval
        while not recorder.is_hopeless:
            ended, _ = await asyncio.wait(tasks, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
            if file.waiting >= BLOCK_BYTES or time.monotonic() >= due:
                file.flush()
                due = time.monotonic() + file.flush_interval
                for part in parts:
                    part.resume()
        file.discard()
        raise CannotStart(_refusal(recorder))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _refusal(recorder: Recorder) -> str:
    refused = [
        f"{part.category}:{topic} ({truncate(words)})"
        for part in recorder.categories
        for topic, words in part.refused.items()
    ]
    return f"The exchange refuses {truncate('; '.join(refused))}."


def _reporter(recorder: Recorder, file: FrameFile) -> Callable[[], str]:
    """Return what says how it stands."""
    pace = Pace()

    def state() -> str:
        categories = ", ".join(
            f"{part.category} {'live' if part.is_live else 'not connected'}"
            for part in recorder.categories
        )
        rate = pace.per_second(recorder.messages)
        return f"{categories} | {rate:,.0f} messages/s | {_state(recorder, file)}"

    return state


def _state(recorder: Recorder, file: FrameFile) -> str:
    counts = f"{recorder.messages:,} messages, {size(recorder.size)}"
    return f"{counts} recorded, {size(file.written)} in {file.path.name}"
