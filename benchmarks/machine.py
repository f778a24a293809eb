"""What the kernel tells of processes and of the machine, from /proc."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")  # per second
PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes
HAS_SCHEDSTAT = Path("/proc/self/schedstat").exists()
PACKAGES = (
    "daphne",
    "channels",
    "Django",
    "channels-redis",
    "redis",
    "hiredis",
    "websockets",
    "picows",
    "uvloop",
)


def family(pid: int) -> list[int]:
    """Return a process and everything it has started, as far as it still runs."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                continue
    return found


def cpu_seconds(pid: int) -> float:
    """Return the CPU time, user and system, of a process and its children.

    From `schedstat`, which counts in ns and is what utime and stime of `stat` are scaled to; from
    `stat`, in ticks of 10 ms, where the kernel has none.
    """
    total = 0.0
    for member in family(pid):
        try:
            if HAS_SCHEDSTAT:
                for thread in Path(f"/proc/{member}/task").glob("*/schedstat"):
                    total += int(thread.read_text().split()[0]) / 1e9
            else:
                fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
                total += (int(fields[11]) + int(fields[12])) / TICK
        except OSError:
            continue  # it has just ended
    return total


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process and its children."""
    total = 0
    for member in family(pid):
        try:
            total += int(Path(f"/proc/{member}/statm").read_text().split()[1]) * PAGE
        except OSError:
            continue
    return total


def busy_seconds() -> float:
    """Return the CPU time that all processes of the machine have used, over all cores."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    idle = fields[3] + fields[4]
    return (sum(fields[:8]) - idle) / TICK


def describe() -> dict[str, str]:
    """Say what the figures were taken on and with."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    found = {
        "processor": model[1] if model else platform.machine(),
        "cores": str(os.cpu_count()),
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    for name, command in {
        "Node": ["node", "--version"],
        "nginx": ["nginx", "-v"],
        "compiler": ["cc", "--version"],
        "Redis": ["redis-server", "--version"],
    }.items():
        if shutil.which(command[0]):
            said = subprocess.run(command, capture_output=True, text=True, check=False)
            first = (said.stdout or said.stderr).strip().splitlines()[0]
            first = first.removeprefix("Redis server v=").partition(" sha=")[0]
            found[name] = first.removeprefix("nginx version: nginx/").removeprefix("v")
    return found
