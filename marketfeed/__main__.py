"""The command `marketfeed`: the relay from an installed wheel, in any folder.

    marketfeed demo         # the relay, fed by the bundled simulator
    marketfeed run          # the relay of the live exchange
    marketfeed manage createsuperuser

What it writes goes to `MARKETFEED_HOME`, by default the current folder (see `marketfeed.home`).
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from marketfeed import __version__, home


class Command(NamedTuple):
    """One command, and the management command that it runs."""

    app: str
    name: str
    summary: str


COMMANDS = {
    "demo": Command("marketfeed", "demo", "serve the relay, fed by the bundled simulator"),
    "run": Command("marketfeed", "run", "serve the relay of the exchange"),
    "worker": Command("relay", "run_upstream", "hold the connections to the exchange (with Redis)"),
    "watch": Command("relay", "watch", "show topics of a relay in the terminal"),
    "record": Command("relay", "record", "write frames of the exchange to a file"),
    "simulator": Command("relay", "run_simulator", "serve a Bybit look-alike on this machine"),
    "check": Command("django.core", "check", "report settings that cannot be used"),
}
KEYED = ("demo", "run", "worker", "manage")  # they need a secret key, the same one each time

_SUMMARIES = "\n".join(f"  {name:<11}{command.summary}" for name, command in COMMANDS.items())
USAGE = f"""\
usage: marketfeed COMMAND ...

Relays Bybit's public market data from one upstream connection to many WebSocket clients.

{_SUMMARIES}
  manage     run a command of Django's, such as createsuperuser

`marketfeed COMMAND --help` says more. State (.env, the database, collected static files) lies in
the folder MARKETFEED_HOME, by default the current one.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that `arguments` name, by default those of the command line."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if name in ("-h", "--help", "help"):
        print(USAGE, end="")
    elif name == "--version":
        print(f"marketfeed {__version__}")
    elif name == "manage" or name in COMMANDS:
        folder = _prepare()
        if not _asks_for_help(rest):
            _provide_key(name, folder)
        if name == "manage":
            _manage(rest)
        else:
            _run(COMMANDS[name], ["marketfeed", name, *rest])
    else:
        fault = f"marketfeed: there is no command {name!r}.\n\n" if name else ""
        sys.stderr.write(f"{fault}{USAGE}")
        raise SystemExit(2)


def _prepare() -> Path:
    """Choose the settings and the folder of state; return the folder."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketfeed.settings")
    folder = home.folder(checkout=Path.cwd())
    os.environ["MARKETFEED_HOME"] = str(folder)  # for what is started from here, too
    return folder


def _provide_key(name: str, folder: Path) -> None:
    """Write a secret key at the first use of a command that needs one."""
    if "SECRET_KEY" in os.environ or not folder.is_dir() or home.has_secret(folder):
        return  # what is wrong is reported with the settings
    if name == "check":  # is to say what `run` would, and to write nothing
        os.environ["SECRET_KEY"] = secrets.token_urlsafe(50)
    elif name in KEYED:
        try:
            home.write_secret(folder)
        except (OSError, ValueError) as fault:
            _refuse(f"SECRET_KEY cannot be written to {folder / '.env'}: {fault}")


def _asks_for_help(arguments: Sequence[str]) -> bool:
    return not {"-h", "--help", "help"}.isdisjoint(arguments)


def _run(command: Command, argv: list[str]) -> None:
    import django  # noqa: PLC0415 - the settings are read from here on
    from django.core.management import load_command_class  # noqa: PLC0415

    django.setup()
    load_command_class(command.app, command.name).run_from_argv(argv)


def _manage(arguments: Sequence[str]) -> None:
    """Run a command of Django's; a user can be made before anything was served."""
    from django.core.management import execute_from_command_line  # noqa: PLC0415

    if arguments[:1] == ["createsuperuser"] and not _asks_for_help(arguments):
        execute_from_command_line(["marketfeed manage", "migrate", "--verbosity", "0"])
    execute_from_command_line(["marketfeed manage", *arguments])


def _refuse(words: str) -> NoReturn:
    sys.stderr.write(f"marketfeed cannot start: {words}.\n")
    raise SystemExit(2)


if __name__ == "__main__":
    main()
