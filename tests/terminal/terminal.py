"""A terminal with a program on it: what a person would see, and may type."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Callable

import pyte

from tests.processes import LEASH, PATIENCE, ROOT, environment, until

CTRL_C = b"\x03"

# The first terminal that a session's leader opens is the session's own: Ctrl-C and changes of
# the size become signals.
ON_TERMINAL = "import os; os.close(os.open(os.ttyname(1), os.O_RDWR))\n" + LEASH


class Terminal:
    """A terminal and the one program that runs on it.

    Attributes:
        raw: All that the program has written.
        process: The program.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self.raw = b""
        self.process: subprocess.Popen[bytes]
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._ours, self._theirs = pty.openpty()
        self.resize(columns, rows)

    @property
    def lines(self) -> list[str]:
        """What is on the screen now."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def settings(self) -> list[object]:
        """How the terminal treats what is typed: echo, whole lines and so on."""
        return list(termios.tcgetattr(self._theirs))

    def colours(self, word: str) -> set[str]:
        """Return the colours in which a word is shown."""
        found = set()
        for number, line in enumerate(self._screen.display):
            if (start := line.find(word)) >= 0:
                cells = self._screen.buffer[number]
                found |= {cells[start + n].fg for n in range(len(word))}
        return found

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._screen.resize(rows, columns)

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    async def until_shown(self, *words: str, seconds: float = PATIENCE) -> None:
        """Return when all the words are on the screen."""
        await self.until(lambda: all(word in self.text for word in words), f"{words}", seconds)

    async def until(
        self, condition: Callable[[], object], what: str = "", seconds: float = PATIENCE
    ) -> None:
        try:
            await until(condition, seconds, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text}") from None

    async def end(self, seconds: float = 10.0) -> int:
        """Wait until the program has ended and all it wrote is here; return its status."""
        await self.until(lambda: self.process.poll() is not None, "the program ends", seconds)
        self.catch_up()
        return self.process.returncode

    def catch_up(self) -> None:
        """Take all that the program has written so far."""
        while self._read():
            pass

    def _read(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._ours, 65_536)
            self.raw += data
            self._stream.feed(data)
            return bool(data)
        return False

    def _start(self, *command: str, **variables: str) -> None:
        self.process = subprocess.Popen(
            (sys.executable, "-I", "-S", "-c", ON_TERMINAL, *command),
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            env=environment(**variables),
            cwd=ROOT,
            start_new_session=True,
        )

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls, *command: str, columns: int = 100, rows: int = 30, **variables: str
    ) -> AsyncIterator[Terminal]:
        """Run a command on a terminal of that size; it does not outlive the test."""
        made = cls(columns, rows)
        os.set_blocking(made._ours, False)
        made._start(*command, **{"TERM": "xterm-256color", "COLORTERM": "truecolor", **variables})
        loop = asyncio.get_running_loop()
        loop.add_reader(made._ours, made._read)
        try:
            yield made
        finally:
            loop.remove_reader(made._ours)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(made.process.pid, signal.SIGKILL)
            made.process.wait()
            os.close(made._ours)
            os.close(made._theirs)
