"""How each block of the documents is tested, by its name.

A block runs as it is printed, but for ports, hosts and folders. `{port}` and `{second}` are free
ports, `{relay}` is the port of a relay that the test has started, `{redis}` is a Redis of the test,
`{folder}` the test's own folder and `{checkout}` a copy of the project.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Run:
    """How a block of commands runs in bash.

    Attributes:
        replaced: Texts of the block, and what stands in their place.
        serves: Ports at which a relay must then serve a book that moves.
        listens: A port on which something must then listen.
        says: A regular expression that its output must then match.
        home: Where it runs.
        variables: Of its environment.
        needs: A program that it calls and that not every machine has.

    A block with none of `serves`, `listens` and `says` must end by itself; in every case a
    status that is not 0 is a failure.
    """

    replaced: Mapping[str, str] = field(default_factory=dict)
    serves: tuple[str, ...] = ()
    listens: str = ""
    says: str = ""
    home: str = "{checkout}"
    variables: Mapping[str, str] = field(default_factory=dict)
    needs: str = ""


_INSTALL = "python3 -m venv .venv && . .venv/bin/activate && pip install -r requirements.txt"
_REDIS = {"redis://127.0.0.1:6379/0": "{redis}"}

_RECORDING = "{folder}/btc.jsonl.gz"
_UNTIL_IT_IS_THERE = f"& until [ -s {_RECORDING} ]; do sleep 0.1; done; kill -INT $!; wait $!"

SHELL: dict[str, Run] = {
    "README.md: Quick start": Run(
        {"git clone ADDRESS marketfeed": "cp -a {checkout} marketfeed"},
        serves=("{port}",),
        home="{folder}",
        variables={"PORT": "{port}"},
    ),
    "README.md: Quick start 2": Run(serves=("{port}",), variables={"PORT": "{port}"}),
    "CONTRIBUTING.md: Set up 2": Run({".venv/bin/python": "{python}"}, home="{root}"),
    "docs/commands.md: manage.py": Run(),
    "docs/commands.md: record": Run(
        {"--out btc.jsonl.gz": f"--out {_RECORDING} {_UNTIL_IT_IS_THERE}"}
    ),
    "docs/commands.md: run_simulator": Run({"--port 9001": "--port {port}"}, listens="{port}"),
    "docs/commands.md: run_upstream": Run(_REDIS, says=r"linear: .*epoch \d+"),
    "docs/commands.md: demo": Run({"--port 8001": "--port {port}"}, serves=("{port}",)),
    "docs/servers.md: Servers": Run(),
    "docs/servers.md: One process": Run({"-p 8000": "-p {port}"}, serves=("{port}",)),
    "docs/servers.md: One process 2": Run(
        {"-b 0.0.0.0 -p 8000": "-b 127.0.0.1 -p {port}"}, serves=("{port}",)
    ),
    "docs/servers.md: Several processes": Run(
        {**_REDIS, "-p 8000": "-p {port}", "-p 8001": "-p {second}"}, serves=("{port}", "{second}")
    ),
    "docs/servers.md: Another server than Daphne": Run(
        {"pip install uvicorn\n": "", "--port 8000": "--port {port}"}, serves=("{port}",)
    ),
    "docs/deployment.md: Plain": Run(
        {
            _INSTALL: ". .venv/bin/activate",
            **_REDIS,
            "-p 8001": "-p {port}",
            "-p 8002": "-p {second}",
        },
        serves=("{port}", "{second}"),
    ),
    "docs/deployment.md: systemd 2": Run(says=r"[\w-]{60,}"),
    "docs/deployment.md: Backup": Run(
        {
            "/var/lib/marketfeed/db.sqlite3": "{folder}/db.sqlite3",
            "/backup/marketfeed.sqlite3": "{folder}/copy.sqlite3",
        },
        needs="sqlite3",
    ),
    "docs/operations.md: The admin": Run(says="Superuser creation skipped"),
    "docs/operations.md: Scripts": Run(
        {
            "http://localhost:8000": "http://127.0.0.1:{relay}",
            "cookies.txt": "{folder}/cookies.txt",
        },
        says=r'"topics": ?\[',
        needs="curl",
    ),
}

PYTHON = (
    "README.md: Clients of Bybit",
    "docs/clients.md: pybit",
    "docs/clients.md: Without a library",
)
"""Programs that print a market that moves."""

CCXT = ("README.md: Clients of Bybit 2", "docs/clients.md: ccxt", "docs/clients.md: freqtrade")
"""The same with ccxt, whose list of markets a test has to give; the last is a configuration."""

CONSOLE = ("docs/commands.md: watch",)
"""A command behind `$`, and what it prints."""

OTHERS = {
    "docs/commands.md: marketfeed": "tests/packaging/test_wheel.py installs it and runs it",
    "docs/mounting.md: Mounting": "tests/packaging/test_mount.py puts it into a project",
    "docs/mounting.md: Mounting 2": "tests/packaging/test_mount.py serves it",
    "docs/operations.md: Metrics": "nginx -t reads it",
    "docs/operations.md: Metrics 2": "compared with compose.yaml and prometheus.yml",
    "docs/clients.md: Web pages": "tests/browser/test_documents.py runs it in Chromium",
    "docs/deployment.md: Redis": "tests/ops/test_deploy_checks.py starts Redis with it",
}
"""Blocks that a test of their own checks."""

CANNOT_RUN = {
    "CONTRIBUTING.md: Set up": "make test is this very suite; the targets are looked up",
    "docs/deployment.md: systemd": "needs root; test_systemd.py runs the units",
    "docs/deployment.md: systemd 3": "needs systemd; test_systemd.py runs the units",
    "docs/deployment.md: Docker Compose": "needs Docker; test_compose.py runs its commands",
    "docs/deployment.md: Docker Compose 2": "needs Docker; test_compose.py reads the file",
    "docs/deployment.md: Upgrades without an outage": "needs systemd; see test_systemd.py",
    "docs/deployment.md: Upgrades without an outage 2": "needs Docker; see test_compose.py",
}
"""Blocks whose syntax is checked, and whether the files and targets that they name exist."""
