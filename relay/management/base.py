"""What the relay's commands share: how they refuse, and how they stop.

    class Command(RelayCommand):
        help = "..."

        def handle(self, **options: Any) -> None:
            self.run_until_stopped(serve(options["port"]))

Settings that cannot be used, and whatever a command raises as `CannotStart`, end it with one
sentence on standard error and exit status 2; `CannotContinue` is status 1. SIGINT and
SIGTERM end it with status 0.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Coroutine
from types import FrameType
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandParser

from relay import conf
from relay.lib import timing

logger = logging.getLogger(__name__)


class CannotStart(Exception):
    """The user's fault, said in one sentence: a setting, an argument, a port that is taken."""


class CannotContinue(Exception):
    """The command ran and cannot go on, said in one sentence."""


class RelayCommand(BaseCommand):
    """A command that starts with usable settings only and never shows a user a traceback."""

    # One sentence for the faults of the environment instead of the whole report of `check`.
    requires_system_checks = ()
    _is_process = False  # run by the command line, not by call_command

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return a parser that says what is wrong without the usage before it."""
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        if self._is_process:
            setattr(parser, "error", _refuse)  # noqa: B010 - Django asks for no class of parser
        return parser

    def run_from_argv(self, argv: list[str]) -> None:
        """Run as the command line does; a signal before the work begins is a stop, too."""
        self._is_process = True
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            super().run_from_argv(argv)
        except CannotStart as fault:
            self.stderr.write(str(fault))
            sys.exit(2)
        except CannotContinue as fault:
            self.stderr.write(str(fault))
            sys.exit(1)
        except KeyboardInterrupt:
            sys.exit(0)

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Refuse wrong settings, then do what the command does.

        Raises:
            CannotStart: settings cannot be used; the words name each.
        """
        if found := conf.faults():
            raise CannotStart(conf.sentence(found))
        return super().execute(*args, **options)

    def run_until_stopped(self, main: Coroutine[Any, Any, None]) -> None:
        """Run `main` until it returns, raises, or SIGINT or SIGTERM cancels it.

        A stop waits for `main` to clean up; past `timing.STOP_LIMIT` the process ends without it.
        """
        deadline = threading.Timer(timing.STOP_LIMIT, _end_unclean)
        deadline.daemon = True  # and not the loop's: it is the loop that may be stuck
        try:
            asyncio.run(_supervise(main, deadline))
        finally:
            if not self._is_process:
                deadline.cancel()


def _refuse(message: str) -> NoReturn:
    raise CannotStart(f"{message[:1].upper()}{message[1:]}.")


async def _supervise(main: Coroutine[Any, Any, None], deadline: threading.Timer) -> None:
    loop = asyncio.get_running_loop()
    task = loop.create_task(main)
    is_stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal is_stopping
        if not is_stopping:
            is_stopping = True
            deadline.start()
            loop.call_soon_threadsafe(task.cancel)

    # Not the loop's own handlers: those are gone while the process still tidies up, when a second
    # signal (the terminal's, then make's) would change the exit status.
    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        await task
    except asyncio.CancelledError:
        if not is_stopping:
            raise
    finally:
        if not is_stopping:
            for number, handler in previous.items():
                signal.signal(number, handler)


def _end_unclean() -> NoReturn:
    logger.error("Stopped without cleaning up: still busy after %s s", timing.STOP_LIMIT)
    logging.shutdown()
    os._exit(0)
