"""The variables of the environment that are the project's; the relay's are in `relay.conf`."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Annotated

import dj_database_url
import msgspec
from dotenv import dotenv_values
from msgspec import Meta

from relay.conf import Switch
from relay.lib.settings import Fault, Rule, describe, parse, select

_DRIVERS = {"postgresql": ("psycopg", "psycopg2"), "mysql": ("MySQLdb",), "oracle": ("oracledb",)}


def _hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    if any("/" in host or " " in host for host in hosts):
        raise ValueError
    return hosts


def _origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    if not all(origin.startswith(("http://", "https://")) for origin in origins):
        raise ValueError
    return origins


def _database_url(url: str) -> str:
    engine = str(dj_database_url.parse(url)["ENGINE"])
    drivers = _DRIVERS.get(engine.rpartition(".")[2], ())
    if drivers and not any(map(importlib.util.find_spec, drivers)):
        # Django would import the missing driver while it loads the models, and end in a traceback.
        raise ValueError
    return url


class ProjectSettings(msgspec.Struct, frozen=True, kw_only=True, rename="upper"):
    """What an operator can set of Django, with its default."""

    debug: Switch = False

    https: Switch = False
    """Whether clients come by https alone."""

    hsts_include_subdomains: Switch = False

    hsts_preload: Switch = False

    secret_key: Annotated[str, Meta(description="a text"), Rule(is_secret=True)] = ""
    """May be missing only with `debug`."""

    allowed_hosts: Annotated[
        tuple[str, ...], Meta(description="host names by commas"), Rule(_hosts)
    ] = ("localhost", "127.0.0.1", "[::1]")

    csrf_trusted_origins: Annotated[
        tuple[str, ...],
        Meta(description="origins such as https://example.com, by commas"),
        Rule(_origins),
    ] = ()

    database_url: Annotated[
        str,
        Meta(
            description="a database address such as postgres://user@host/name, its driver installed"
        ),
        Rule(_database_url, "relay.E003", is_secret=True),
    ] = ""
    """Empty: SQLite, in the folder of `.env`."""


def read(dotenv: Path) -> tuple[dict[str, str], ProjectSettings, list[Fault]]:
    """Read the environment, and a file for the variables that it does not have.

    An empty variable counts as unset, and hides the one of the file.

    Returns:
        Every variable, the project's own settings, and what is wrong with them or with the file.
    """
    found: list[Fault] = []
    if not dotenv.parent.is_dir():
        expected = "a folder, or nothing for the current one"
        given = describe(str(dotenv.parent))
        found.append(Fault("MARKETFEED_HOME", expected, given, "relay.E001"))
    texts: dict[str, str | None] = {}
    try:
        if dotenv.exists():  # a folder raises, which dotenv itself would pass over
            with dotenv.open(encoding="utf-8") as lines:
                texts.update(dotenv_values(stream=lines))
    except (OSError, ValueError) as error:
        kind = type(error).__name__
        found.append(Fault(".env", "a readable file in UTF-8", f"a {kind}", "relay.E001"))
    texts.update(os.environ)
    variables = {name: (text or "").strip() for name, text in texts.items()}
    project, faults = parse(ProjectSettings, select(ProjectSettings, variables), "relay.E001")
    found += faults
    if not (project.secret_key or project.debug):
        hint = (
            "Put SECRET_KEY=... into the environment or .env; `make run` and `marketfeed run` "
            "write one to .env."
        )
        expected = "a long random text (or DEBUG=1)"
        found.append(Fault("SECRET_KEY", expected, "nothing", "relay.E002", hint))
    return variables, project, found
