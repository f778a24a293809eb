"""Run the project's own commands as a user does, in processes that never outlive a test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, Signals

from tests.redis_server import free_port
from tests.settings import BLANK

ROOT = Path(__file__).resolve().parent.parent
DAPHNE = str(Path(sys.executable).with_name("daphne"))
MANAGE = (sys.executable, str(ROOT / "manage.py"))
# Runs a command that the kernel kills with its parent: also a killed pytest leaves nothing. The
# command hears SIGINT, also where a shell started pytest in the background, which ignores it.
LEASH = """
import ctypes, os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, kept over exec
os.execvp(sys.argv[1], sys.argv[1:])
"""
# What those who start the tests set for themselves: settings, and the size of their terminal.
ALIEN = ("DJANGO_SETTINGS_MODULE", "COLUMNS", "LINES")
# Seconds until something that must come is missing. Nobody waits for long where all is well, so it
# is generous: a machine may give a process no time for seconds.
PATIENCE = 60.0


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment with none of the project's variables but `variables`."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ALIEN and not name.startswith("RELAY_")
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
        timeout=4 * PATIENCE,
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
            os.killpg(process.pid, SIGKILL)
        process.communicate()


def wait_for_port(port: int, process: subprocess.Popen[str]) -> None:
    """Return when somebody listens on the port of 127.0.0.1."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"nothing listens on {port}"
        time.sleep(0.02)


class Program:
    """One running command, in a session of its own, whose output goes to a file."""

    def __init__(
        self,
        log: Path,
        *command: str,
        inherits: tuple[int, ...] = (),
        home: Path = ROOT,
        **variables: str,
    ) -> None:
        self.log = log
        self.may_complain = False  # whether a traceback in the log is what the test wants
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                (sys.executable, "-I", "-S", "-c", LEASH, *command),
                env=environment(**variables),
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=inherits,
            )

    @property
    def output(self) -> str:
        """All it has written so far."""
        return self.log.read_text(errors="replace")

    def signal(self, number: Signals) -> None:
        """Send a signal to the process alone, as an operator does."""
        self.process.send_signal(number)

    def catches(self, number: Signals) -> bool:
        """Whether the process has a handler of its own for a signal."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(int(caught.split()[1], 16) & 1 << number - 1)

    async def end(self, seconds: float = PATIENCE) -> int:
        """Wait until it has ended by itself; return its exit status."""
        await until(lambda: self.process.poll() is not None, seconds, "the process ends")
        assert self.process.returncode is not None
        return self.process.returncode

    def survivors(self) -> list[int]:
        """Return the processes of its session that are alive, zombies left out."""
        return [pid for pid, session, state in _processes() if session == self.process.pid]

    def kill(self) -> None:
        """End it and all it started with SIGKILL, and return when they are gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, SIGKILL)
        self.process.wait()
        deadline = time.monotonic() + PATIENCE
        while self.survivors() and time.monotonic() < deadline:
            time.sleep(0.01)  # what it started is not ours to wait for, and dies when it may run


def _processes() -> Iterator[tuple[int, int, str]]:
    """Yield process id, session and state of whatever runs on this machine."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if state != "Z":
                    yield int(entry.name), int(session), state


class Programs:
    """The project's own processes of one test; `close` leaves none of them.

    Attributes:
        home: The folder in which they run; `copy_project` makes one that may be written to.
        common: Settings that all of them have.
    """

    def __init__(self, folder: Path) -> None:
        self.started: list[Program] = []
        self.home = ROOT
        self._folder = folder
        self.common = {
            "SECRET_KEY": "for-tests-only-" + "0" * 50,
            "DATABASE_URL": f"sqlite:///{folder}/db.sqlite3",
            "PYTHONWARNINGS": "",
            # Tests ask again and again until something is so.
            "RELAY_HTTP_REQUESTS_PER_SECOND": "10000",
        }

    def copy_project(self) -> None:
        """Have what is started from here on run in a copy of the project."""
        self.home = self._folder / "project"
        self.home.mkdir()
        for name in ("marketfeed", "relay", "templates"):
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, self.home / name, ignore=ignore)
        shutil.copy(ROOT / "manage.py", self.home)

    def manage(self, *command: str, **variables: str) -> None:
        """Run a command of `manage.py` to its successful end."""
        ended = subprocess.run(
            (sys.executable, str(self.home / "manage.py"), *command),
            env=environment(**{**self.common, **variables}),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=4 * PATIENCE,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr

    def start(
        self, name: str, *command: str, inherits: tuple[int, ...] = (), **variables: str
    ) -> Program:
        """Start a command with usable settings, of which `variables` replace some.

        It has no open files of this process but those that it `inherits`.
        """
        log = self._folder / f"{len(self.started)}-{name}.log"
        settings = {**self.common, **variables}
        program = Program(log, *command, inherits=inherits, home=self.home, **settings)
        self.started.append(program)
        return program

    async def listening(self, program: Program, port: int) -> Program:
        """Return the program when somebody listens on the port."""

        def is_listening() -> bool:
            assert program.process.poll() is None, program.output
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        await until(is_listening, PATIENCE, f"{program.log.name} listens")
        return program

    async def daphne(
        self, upstream_url: str, *options: str, port: int | None = None, **variables: str
    ) -> WebServer:
        """Start the relay under Daphne, as the documents say; on the port of one that has ended."""
        port = port or free_port()
        endpoint = f"tcp:port={port}:backlog=4096:interface=127.0.0.1"
        command = (DAPHNE, "-e", endpoint, *options, "marketfeed.asgi:application")
        program = self.start(
            "daphne", *command, inherits=(), UPSTREAM_URL=upstream_url, **variables
        )
        return WebServer(await self.listening(program, port), port)

    async def uvicorn(self, upstream_url: str, *options: str, **variables: str) -> WebServer:
        """Start the relay under uvicorn."""
        port = free_port()
        command = (
            *(sys.executable, "-m", "uvicorn", "marketfeed.asgi:application"),
            *("--host", "127.0.0.1", "--port", str(port), *options),
        )
        program = self.start(
            "uvicorn", *command, inherits=(), UPSTREAM_URL=upstream_url, **variables
        )
        return WebServer(await self.listening(program, port), port)

    def upstream(
        self, upstream_url: str, redis_url: str, *options: str, **variables: str
    ) -> Program:
        """Start the upstream worker as a process of its own."""
        return self.start(
            "upstream",
            *(*MANAGE, "run_upstream", *options),
            inherits=(),
            UPSTREAM_URL=upstream_url,
            REDIS_URL=redis_url,
            **variables,
        )

    async def simulator(self, *options: str) -> int:
        """Start the simulator; return its port."""
        port = free_port()
        command = (*MANAGE, "run_simulator", "--port", str(port), *options)
        await self.listening(self.start("simulator", *command), port)
        return port

    def close(self) -> None:
        """Kill what still runs, and see that nothing is left and nobody complained."""
        for program in reversed(self.started):  # nobody is to miss what it was started upon
            program.kill()
        left = [pid for program in self.started for pid in program.survivors()]
        assert not left, f"processes survived: {left}"
        for program in self.started:
            if not program.may_complain:
                assert "Traceback" not in program.output, program.output[-6000:]


@dataclass(frozen=True, slots=True)
class WebServer:
    """A web process of the relay and where it listens."""

    program: Program
    port: int

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str = "/ws") -> str:
        return f"ws://{self.host}{path}"


async def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Return when the condition holds.

    Raises:
        AssertionError: it did not for so many seconds; `what` was awaited.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.01)
