"""The relay's commands as the command line runs them, without a process of their own."""

from __future__ import annotations

import contextlib
import io
import signal
from typing import NamedTuple

import pytest
from django.core.management import load_command_class


class Ended(NamedTuple):
    """How a command ended."""

    status: object
    output: str
    errors: str


def refused(name: str, *arguments: str) -> Ended:
    """Return how a command ended that refuses its arguments, which it does before it serves."""
    output, errors = io.StringIO(), io.StringIO()
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        with (
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
            pytest.raises(SystemExit) as exit_,
        ):
            load_command_class("relay", name).run_from_argv(["manage.py", name, *arguments])
    finally:
        signal.signal(signal.SIGTERM, terminate)
    return Ended(exit_.value.code, output.getvalue(), errors.getvalue())
