"""systemd's units, run without systemd: their very commands, with the socket as file 3."""

from __future__ import annotations

import shlex
import socket
import sys
from pathlib import Path

from tests.processes import DAPHNE, ROOT, Program, Programs
from tests.redis_server import free_port

FOLDER = ROOT / "deploy" / "systemd"
# Hands the command what systemd would: the socket as file 3, and two variables about it.
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="web")
os.execvp(sys.argv[2], sys.argv[2:])
"""


def read(name: str) -> dict[str, list[str]]:
    """Return the values of a unit by `Section.Key`."""
    values: dict[str, list[str]] = {}
    section = ""
    for line in (FOLDER / name).read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            values.setdefault(f"{section}.{key}", []).append(value)
    return values


def one(name: str, key: str) -> str:
    """Return the only value of a key."""
    [value] = read(name)[key]
    return value


def read_environment(path: Path) -> dict[str, str]:
    """Return the variables of a file as systemd's EnvironmentFile= reads it."""
    lines = [line for line in path.read_text().splitlines() if line and line[0] not in "#;"]
    return dict(line.split("=", 1) for line in lines)


def command(name: str, instance: str, **replaced: str) -> list[str]:
    """Return the command of a template unit, at home in this checkout."""
    text = one(name, "Service.ExecStart")
    for old, new in replaced.items():
        assert old in text, old
        text = text.replace(old, new)
    words = shlex.split(text.replace("%i", instance))
    homes = {"/opt/marketfeed/.venv/bin/daphne": DAPHNE}
    homes["/opt/marketfeed/.venv/bin/python"] = sys.executable
    assert one(name, "Service.WorkingDirectory") == "/opt/marketfeed"  # where tests run, too
    return [homes[words[0]], *words[1:]]


def listener() -> socket.socket:
    """Return the socket of `marketfeed-web.socket`, on a free port."""
    host, _, _ = one("marketfeed-web.socket", "Socket.ListenStream").partition(":")
    backlog = int(one("marketfeed-web.socket", "Socket.Backlog"))
    return socket.create_server((host, 0), backlog=backlog)


def web(
    programs: Programs, shared: socket.socket, instance: str, port: int, **variables: str
) -> Program:
    """Start `marketfeed-web@instance` on the shared socket and a port of its own."""
    words = command("marketfeed-web@.service", instance, **{"810%i": str(port)})
    fileno = shared.fileno()
    return programs.start(
        f"web{instance}",
        *(sys.executable, "-I", "-S", "-c", ACTIVATE, str(fileno), *words),
        inherits=(fileno,),
        **variables,
    )


def worker(programs: Programs, instance: str, *, port: int = 0, **variables: str) -> Program:
    """Start `marketfeed-worker@instance`, with its metrics at a port."""
    words = command("marketfeed-worker@.service", instance)
    name, _, value = one("marketfeed-worker@.service", "Service.Environment").partition("=")
    assert value == "910%i"
    settings = {name: str(port or free_port()), **variables}
    return programs.start(f"worker{instance}", *words, inherits=(), **settings)
