"""How commands refuse, stop and end: status, words, time, and nobody left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from relay.management.base import CannotStart
from tests.processes import DAPHNE, MANAGE, PATIENCE, run, running, wait_for_port
from tests.redis_server import free_port
from tests.stopwatch import Stopwatch

PROMISE = 5.0  # seconds from a signal to the end
SECRET = {"SECRET_KEY": "a-key-for-tests"}

PROBE = """
import asyncio, logging, os, sys, time
os.environ["DJANGO_SETTINGS_MODULE"] = "marketfeed.settings"
import django
django.setup()
from relay.management.base import CannotStart, RelayCommand

async def wait_for_ever():
    print("ready", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.01)
        print("cleaned up", flush=True)

async def will_not_stop():
    print("ready", flush=True)
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            print("ignored", flush=True)

async def block_the_loop():
    print("ready", flush=True)
    time.sleep(60)

async def return_at_once():
    pass

async def crash():
    raise RuntimeError("ours")

async def refuse():
    raise CannotStart("Port 1 is taken.")

class Command(RelayCommand):
    def handle(self, **options):
        if sys.argv[1] == "slow_start":
            print("ready", flush=True)
            time.sleep(60)
        self.run_until_stopped(globals()[sys.argv[1]]())

Command().run_from_argv(["manage.py", "probe"])
"""


def probe(name: str) -> tuple[str, ...]:
    return (sys.executable, "-c", PROBE, name)


def stop(process: subprocess.Popen[str], *signals: int) -> tuple[int, float, str, str]:
    """Send the signals; return status, seconds taken, output and errors."""
    with Stopwatch(process.pid) as watch:
        for number in signals:
            process.send_signal(number)
        output, errors = process.communicate(timeout=PATIENCE)
        return process.returncode, watch.seconds, output, errors


def assert_one_sentence(errors: str, *words: str) -> None:
    assert errors.count("\n") == 1, errors
    assert errors.endswith(".\n")
    assert all(word in errors for word in words), errors


@pytest.mark.parametrize("command", [(DAPHNE, "marketfeed.asgi:application"), (*MANAGE, "demo")])
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, ["SECRET_KEY"]),
        (SECRET | {"UPSTREAM_URL": "https://x"}, ["UPSTREAM_URL", "ws://"]),
        (SECRET | {"RELAY_LINGER": "nan", "DEBUG": "?"}, ["RELAY_LINGER", "DEBUG"]),
        (SECRET | {"DATABASE_URL": "nothing"}, ["DATABASE_URL"]),
    ],
)
def test_wrong_settings_end_a_server_with_one_sentence_and_status_2(
    command: tuple[str, ...], variables: dict[str, str], words: list[str]
) -> None:
    result = run(*command, **variables)
    assert (result.returncode, result.stdout) == (2, "")
    assert_one_sentence(result.stderr, *words)


def test_a_wrong_argument_ends_a_command_with_one_sentence_and_status_2() -> None:
    result = run(*MANAGE, "demo", "--port", "many", **SECRET)
    assert (result.returncode, result.stdout) == (2, "")
    assert_one_sentence(result.stderr, "--port", "many")


def test_called_from_code_a_command_raises_instead_of_exiting() -> None:
    with (
        override_settings(RELAY={"linger": "x"}),
        pytest.raises(CannotStart, match="RELAY_LINGER"),
    ):
        call_command("demo")
    with pytest.raises(CommandError, match="--port"):
        call_command("demo", "--port", "many")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_work_clean_up_and_is_a_success(number: int) -> None:
    with running(*probe("wait_for_ever"), **SECRET) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        status, seconds, output, errors = stop(process, number, number, signal.SIGTERM)
    assert (status, output, errors) == (0, "cleaned up\n", "")
    assert seconds < PROMISE


@pytest.mark.parametrize("name", ["will_not_stop", "block_the_loop"])
def test_work_that_will_not_stop_is_ended_in_time(name: str) -> None:
    with running(*probe(name), **SECRET) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        status, seconds, _, errors = stop(process, signal.SIGTERM)
    assert status == 0
    assert "Stopped without cleaning up" in errors
    assert seconds < PROMISE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_work_begins_is_a_stop_too(number: int) -> None:
    with running(*probe("slow_start"), **SECRET) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        status, _, _, errors = stop(process, number)
    assert (status, errors) == (0, "")


def test_work_that_ends_by_itself_is_a_success() -> None:
    result = run(*probe("return_at_once"), **SECRET)
    assert (result.returncode, result.stderr) == (0, "")


def test_our_own_fault_is_loud() -> None:
    result = run(*probe("crash"), **SECRET)
    assert result.returncode == 1
    assert "RuntimeError: ours" in result.stderr


def test_a_refusal_out_of_the_work_is_one_sentence() -> None:
    result = run(*probe("refuse"), **SECRET)
    assert (result.returncode, result.stderr) == (2, "Port 1 is taken.\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_daphne_stops_with_success(number: int) -> None:
    port = free_port()
    with running(DAPHNE, "-p", str(port), "marketfeed.asgi:application", **SECRET) as process:
        wait_for_port(port, process)  # Daphne listens before it handles signals
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=PATIENCE) as answer:
            assert answer.status == 200
        status, seconds, _, errors = stop(process, number)
    assert status == 0
    assert "Traceback" not in errors
    assert seconds < PROMISE


def members(session: int) -> dict[int, str]:
    """Return pid -> command line of the living processes of a session (Linux, without `ps`)."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended while we looked
            state, _, _, its_session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state != "Z":
                words = (folder / "cmdline").read_bytes().decode().split("\0")
                found[int(folder.name)] = " ".join(words)
    return found


@pytest.mark.parametrize(
    ("victim", "number", "status"),
    [
        ("manage.py demo", signal.SIGTERM, 0),
        ("manage.py demo", signal.SIGINT, 0),
        ("run_simulator", signal.SIGKILL, 1),
        ("daphne", signal.SIGTERM, 1),
    ],
)
def test_when_one_part_of_the_demo_ends_all_end(victim: str, number: int, status: int) -> None:
    port = free_port()
    with running(*MANAGE, "demo", "--port", str(port), **SECRET) as process:
        wait_for_port(port, process)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as response:
            assert response.status == 200
        family = members(process.pid)
        assert len(family) == 3
        with Stopwatch(*family) as watch:
            os.kill(next(pid for pid, words in family.items() if victim in words), number)
            process.communicate(timeout=PATIENCE)
        assert watch.seconds < PROMISE
        assert members(process.pid) == {}
    assert process.returncode == status


def test_the_demo_says_when_its_port_is_taken() -> None:
    port = free_port()
    with running(*MANAGE, "demo", "--port", str(port), **SECRET) as process:
        wait_for_port(port, process)
        result = run(*MANAGE, "demo", "--port", str(port), **SECRET)
    assert result.returncode == 2
    assert_one_sentence(result.stderr, f":{port} (in use")
