"""The browser's modules without DOM, tested by Node on the fixtures that Python uses too."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from relay.downstream.close_codes import LIVE_PAGE_CODES, CloseCode, Retry
from tests.processes import PATIENCE, ROOT

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


# What the two clients of the browser do after each close code, as one JSON object.
TREATMENT = """
import { delay, reason, verdict } from "./relay/static/relay/backoff.js";
import { LiveFeed } from "./relay/static/relay/live/feed.js";
globalThis.CustomEvent ??= class extends Event {};
let socket;
class WebSocket { constructor() { socket = this; } close() {} }
const environment = {
  WebSocket,
  fetch: () => new Promise(() => {}),
  now: () => 0,
  random: () => 0,
  setTimeout: () => 0,
  clearTimeout: () => {},
};
const treatment = {};
for (const code of JSON.parse(process.argv[1])) {
  const page = new LiveFeed({ socketUrl: "ws://h/", jsonUrl: "http://h/", environment });
  page.start();
  socket.onclose({ code });
  treatment[code] = {
    verdict: verdict(code),
    delay: delay(code, 0, 0.5),
    reason: reason(code),
    page: page.reason,
    pageRetries: page.retryAt !== null,
  };
}
console.log(JSON.stringify(treatment));
"""


def test_the_browsers_modules_treat_every_close_code_as_the_relay_means_it():
    path, _ = node()
    codes = json.dumps([*CloseCode, 1006])
    done = subprocess.run(
        [path, "--input-type=module", "-e", TREATMENT, codes],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    treatment = {int(code): found for code, found in json.loads(done.stdout).items()}
    lost = treatment.pop(1006)
    assert set(treatment) == set(CloseCode)
    for code, found in treatment.items():
        policy = CloseCode(code).retry
        is_final = policy is Retry.NEVER
        verdict = {Retry.NEVER: "stop", Retry.AT_ONCE: "at once"}.get(policy, "later")
        assert (found["verdict"], found["delay"] is None) == (verdict, is_final), code
        assert found["pageRetries"] is not is_final, code
        if policy is Retry.AT_ONCE:
            assert found["delay"] < lost["delay"], code
        elif policy is Retry.BACK_OFF:
            assert found["delay"] > 4 * lost["delay"], code
        elif policy is Retry.GROWING:
            assert found["delay"] == lost["delay"], code
        if code in LIVE_PAGE_CODES:
            assert str(code) not in found["page"], "the page has words for it"
        else:
            assert found["reason"] != lost["reason"], "the client has words for it"


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


def test_what_checks_the_pages_is_locked_and_comes_from_whatever_registry_npm_is_set_to():
    lock = json.loads((HERE / "package-lock.json").read_text())
    wanted = json.loads((HERE / "package.json").read_text())["devDependencies"]
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert lock["packages"][""]["devDependencies"] == wanted
    assert all(re.fullmatch(r"[\d.]+", version) for version in wanted.values())
    assert all(entry["integrity"] for entry in packages.values())
    assert not [name for name, entry in packages.items() if "resolved" in entry]
