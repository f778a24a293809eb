"""The folder of what an installation writes: `.env`, SQLite and the collected static files.

In a checkout it is the folder of `manage.py`, else the current folder; `MARKETFEED_HOME` names
another.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

from dotenv import dotenv_values

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parent

_PACKED_PAGES = PACKAGE / "templates"  # a wheel holds them there


def is_installed() -> bool:
    """Return whether this is an installed wheel, not a checkout."""
    return _PACKED_PAGES.is_dir()


def pages() -> Path:
    """Return the folder of the templates of the project's own pages."""
    return _PACKED_PAGES if is_installed() else CHECKOUT / "templates"


def folder(checkout: Path) -> Path:
    """Return where state lies, absolute, whether or not there is such a folder.

    Args:
        checkout: Where it lies in a checkout.
    """
    named = os.environ.get("MARKETFEED_HOME", "").strip()
    if named:
        return Path(named).expanduser().absolute()
    return Path.cwd() if is_installed() else checkout


def has_secret(home: Path) -> bool:
    """Return whether `.env` has a `SECRET_KEY`."""
    try:
        return bool(dotenv_values(home / ".env").get("SECRET_KEY"))
    except (OSError, ValueError):
        return False


def write_secret(home: Path) -> None:
    """Write a `SECRET_KEY` of this machine's own to `.env`, unless there is one already.

    The file is then readable by its owner alone. Two processes that start at once agree on a key.

    Raises:
        OSError: the file cannot be read or written.
        UnicodeDecodeError: it is not UTF-8.
    """
    path = home / ".env"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as dotenv:
        fcntl.flock(dotenv, fcntl.LOCK_EX)
        if dotenv_values(stream=dotenv).get("SECRET_KEY"):
            return
        os.fchmod(descriptor, 0o600)
        end = dotenv.seek(0, os.SEEK_END)
        before = "\n" if end else ""  # the last line may have no end
        dotenv.write(f"{before}SECRET_KEY={secrets.token_urlsafe(50)}\n")
