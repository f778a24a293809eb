"""Run the project's own commands as a user does, in processes that never outlive a test."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.settings import BLANK

ROOT = Path(__file__).resolve().parent.parent
DAPHNE = str(Path(sys.executable).with_name("daphne"))
MANAGE = (sys.executable, str(ROOT / "manage.py"))
START_LIMIT = 20.0  # seconds: Django's start on a busy machine


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment with none of the project's variables but `variables`."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name != "DJANGO_SETTINGS_MODULE" and not name.startswith("RELAY_")
    }
    return inherited | BLANK | variables


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command,
        env=environment(**variables),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextlib.contextmanager
def running(*command: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command beside the test, in a session of its own that is killed at the end."""
    process = subprocess.Popen(
        command,
        env=environment(**variables),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for_port(port: int, process: subprocess.Popen[str]) -> None:
    """Return when somebody listens on the port of 127.0.0.1."""
    deadline = time.monotonic() + START_LIMIT
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"nothing listens on {port}"
        time.sleep(0.02)
