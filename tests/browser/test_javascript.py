"""The browser's modules without DOM, tested by Node on the fixtures that Python uses too."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.processes import PATIENCE

HERE = Path(__file__).parent
OLDEST = 18  # Node's major version, as in Debian 12
HAS_CUSTOM_EVENT = 19  # from here on without being asked for, as browsers do


def node() -> tuple[str, int]:
    """Return Node's path and major version; a skip where it is missing or old, a failure in CI."""
    path = shutil.which("node")
    reason = "Node is not installed, so the browser's modules are not tested"
    if path is not None:
        version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
        major = int(re.match(r"v(\d+)", version.stdout)[1])
        if major >= OLDEST:
            return path, major
        reason = f"expected Node {OLDEST} or later, found {version.stdout.strip()}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def test_the_browsers_modules_pass_their_own_tests():
    files = sorted(str(path) for path in HERE.glob("*.test.mjs"))
    assert files
    path, major = node()
    wanted = "" if major >= HAS_CUSTOM_EVENT else "--experimental-global-customevent"
    done = subprocess.run(
        [path, "--test", "--test-reporter=spec", *files],
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
        env={**os.environ, "NODE_OPTIONS": wanted},  # which the processes of its files inherit
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"pass (\d+)", done.stdout)
    assert passed is not None
    assert int(passed[1]) > len(files), done.stdout
