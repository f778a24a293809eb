"""A copy of the project as a fresh clone in which `make` has installed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from tests.processes import ROOT

FOLDERS = ("deploy", "marketfeed", "relay", "templates")
FILES = ("Makefile", "manage.py", "requirements.txt", "pyproject.toml")


def make_checkout(folder: Path) -> Path:
    """Copy the project into a folder, with the environment of this very Python as its `.venv`."""
    folder.mkdir()
    for name in FOLDERS:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in FILES:
        shutil.copy2(ROOT / name, folder)
    home, venv = Path(sys.prefix), folder / ".venv"
    venv.mkdir()
    for path in home.iterdir():
        if path.is_dir():
            (venv / path.name).symlink_to(path)
    shutil.copy(home / "pyvenv.cfg", venv)
    (venv / ".installed").touch()  # newer than requirements.txt, so make installs nothing
    os.utime(folder / "requirements.txt", (0, 0))
    return folder
