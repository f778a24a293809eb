"""Build the wheel, install it into an environment of its own, and run what it brings."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL

from tests.processes import ALIEN, LEASH, PATIENCE, ROOT, until
from tests.settings import BLANK


def build(folder: Path) -> Path:
    """Build the wheel, with the build tools of the tests; return its path."""
    _pip("wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", str(folder), str(ROOT))
    [wheel] = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path) -> Installation:
    """Install the wheel into a fresh environment, which has its dependencies from the tests'."""
    venv.create(folder, symlinks=True)
    installation = Installation(folder / "bin")
    _pip("--python", installation.python, "install", "--no-deps", "--no-index", str(wheel))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site_packages = folder / "lib" / version / "site-packages"
    (site_packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return installation


def _pip(*arguments: str) -> None:
    command = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without any variable of the project but `variables`."""
    foreign = {
        name: value
        for name, value in os.environ.items()
        if name not in (*BLANK, *ALIEN, "PYTHONPATH") and not name.startswith("RELAY_")
    }
    return foreign | variables


@dataclass(frozen=True, slots=True)
class Installation:
    """An environment that has the wheel."""

    bin: Path

    @property
    def python(self) -> str:
        """The interpreter."""
        return str(self.bin / "python")

    @property
    def marketfeed(self) -> str:
        """The command."""
        return str(self.bin / "marketfeed")

    def run(self, *arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `marketfeed` to its end, in a folder."""
        return subprocess.run(
            (self.marketfeed, *arguments),
            env=environment(**variables),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=4 * PATIENCE,
            check=False,
        )

    @contextlib.contextmanager
    def running(self, *command: str, cwd: Path, **variables: str) -> Iterator[Running]:
        """Run a command beside the test, in a session of its own that is killed at the end."""
        log = cwd.with_name(f"{cwd.name}-{Path(command[0]).name}-{command[1]}.log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                (sys.executable, "-I", "-S", "-c", LEASH, *command),
                env=environment(**variables),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield Running(process, log)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, SIGKILL)
            process.wait()
        assert "Traceback" not in log.read_text(), log.read_text()[-6000:]


@dataclass(frozen=True, slots=True)
class Running:
    """A command that runs, and what it writes."""

    process: subprocess.Popen[bytes]
    log: Path

    async def says(self, words: str) -> None:
        """Return when it has written these words."""

        def is_said() -> bool:
            said = words in self.log.read_text()
            assert said or self.process.poll() is None, self.log.read_text()
            return said

        await until(is_said, PATIENCE, f"{words!r} in {self.log.name}")
