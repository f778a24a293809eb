"""`manage.py run_simulator` as a user runs it."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.commands import refused
from tests.processes import MANAGE, PATIENCE, run, running
from tests.stopwatch import Stopwatch

COMMAND = (*MANAGE, "run_simulator")


@contextmanager
def simulator(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command on a free port; yield it with the address that it prints."""
    with running(*COMMAND, "--port", "0", *options) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"simulator listening on (ws://127\.0\.0\.1:\d+/v5/public)\n", line)
        assert found, (line, process.communicate() if process.poll() is not None else "")
        yield process, found[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_and_stops_within_five_seconds(number: signal.Signals) -> None:
    with simulator("--refuse", "linear:ETHUSDT", "--rate", "50") as (process, url):
        with connect(f"{url}/linear") as one:
            one.send('{"op":"subscribe","args":["orderbook.50.ETHUSDT"]}')
            assert "handler not found" in str(one.recv(PATIENCE))
            one.send('{"op":"subscribe","args":["orderbook.50.BTCUSDT"]}')
            assert json.loads(one.recv(PATIENCE))["type"] == "snapshot"
            with Stopwatch(process.pid) as watch:
                process.send_signal(number)
                _, errors = process.communicate(timeout=PATIENCE)
        assert watch.seconds < 5
        assert process.returncode == 0
        assert "Traceback" not in errors


def test_faults_and_replay_are_options(tmp_path: Path) -> None:
    recording = tmp_path / "spot.jsonl"
    recording.write_text('{"topic":"tickers.XUSDT","ts":1,"data":{}}\n')
    options = ("--replay", str(recording), "--speed", "0", "--fault", "drop=0.2")
    with simulator(*options) as (_, url), connect(f"{url}/spot") as one:
        one.send('{"op":"subscribe","args":["tickers.XUSDT"]}')
        assert json.loads(one.recv(PATIENCE))["success"]
        assert one.recv(PATIENCE) == recording.read_text().strip()
        assert "the replay has ended" in json.loads(one.recv(PATIENCE))["ret_msg"]
        with pytest.raises(Exception, match="no close frame"):
            one.recv(PATIENCE)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--port", "x"], "--port must be a whole number from 0 to 65535: 'x'."),
        (["--port", "70000"], "--port must be a whole number from 0 to 65535: '70000'."),
        (["--seed", "one"], "--seed must be a whole number: 'one'."),
        (["--symbols", "0"], "--symbols must be a whole number from 1 to 9999: '0'."),
        (["--rate", "nan"], "--rate must be a number from 0.01 to 1000: 'nan'."),
        (["--rate", "0"], "--rate must be a number from 0.01 to 1000: '0'."),
        (["--speed", "-1"], "--speed must be a number from 0 to 1e+09: '-1'."),
        (
            ["--category", "x"],
            "--category: expected one of spot, linear, inverse, option, found 'x'.",
        ),
        (
            ["--refuse", "x:BTCUSDT"],
            "--category: expected one of spot, linear, inverse, option, found 'x'.",
        ),
        (["--fault", "flood=1"], "--fault must be NAME=SECONDS with NAME one of drop, "),
        (["--fault", "drop"], "--fault drop must be a number from 0.01 to 1e+06: ''."),
        (["--replay", "/nowhere"], "--replay /nowhere: cannot be read: "),
        (["--nonsense"], "Unrecognized arguments: --nonsense."),
    ],
)
def test_a_wrong_option_ends_with_one_sentence_and_status_2(options: list[str], words: str) -> None:
    ended = refused("run_simulator", *options)
    assert (ended.status, ended.output) == (2, "")
    assert ended.errors.startswith(words)
    assert len(ended.errors.splitlines()) == 1


def test_a_port_that_is_taken_ends_with_one_sentence_and_status_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run(*COMMAND, "--port", str(port))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"Cannot listen on port {port}: Address already in use.\n"
