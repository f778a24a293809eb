"""Compiles the bench's C programs and installs its Node package, into a folder git ignores."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
FOLDER = HERE / ".build"
PROGRAMS = ("load", "floor", "exchange")
NODE_PACKAGE = "ws@8"


def build() -> None:
    """Have everything that is to be run ready.

    Raises:
        SystemExit: There is no C compiler, or a program does not compile.
    """
    FOLDER.mkdir(exist_ok=True)
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("the bench needs a C compiler (cc): apt-get install gcc libc6-dev")
    for name in PROGRAMS:
        source, program = HERE / f"{name}.c", FOLDER / name
        newest = max(source.stat().st_mtime, (HERE / "wire.h").stat().st_mtime)
        if program.exists() and program.stat().st_mtime > newest:
            continue
        command = [compiler, "-O2", "-Wall", "-o", str(program), str(source)]
        if subprocess.run(command, check=False).returncode:
            raise SystemExit(f"{source.name} does not compile")
    if shutil.which("node") and shutil.which("npm") and not has_node_package():
        options = ["--silent", "--no-fund", "--no-audit", "--prefix", str(FOLDER)]
        subprocess.run(["npm", "install", *options, NODE_PACKAGE], check=False)


def has_node_package() -> bool:
    """Whether Node can be asked to serve."""
    return (FOLDER / "node_modules" / "ws").is_dir()


def node_package_version() -> str:
    """Return the version of the Node package; empty if there is none."""
    manifest = FOLDER / "node_modules" / "ws" / "package.json"
    if not manifest.exists():
        return ""
    said = subprocess.run(
        ["node", "-p", f"require({str(manifest)!r}).version"],
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip()
