"""Every block of the documents does what it says: it is run, or its own tool checks it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest
import yaml
from websockets.asyncio.client import connect

from tests.deploy.nginx import find_nginx
from tests.docs import rules
from tests.docs.documents import Block, blocks
from tests.processes import PATIENCE, ROOT, Program, Programs, until
from tests.redis_server import free_port

BLOCKS = blocks()
SESSIONS = [block for block in BLOCKS.values() if block.text.startswith("-> ")]
LINES = 4  # of a program that prints a market, until it has been seen to move
SUBSCRIBE = '{"method":"subscribe","topic":"orderbook","symbol":"BTCUSDT"}'
CLIENTS = Path(sys.prefix) / "clients" / "bin" / "python"
# ccxt asks api.bybit.com for its markets, which a test must not.
MARKETS = """
import ccxt.pro

async def fetch_markets(self, params={}):
    return [self.safe_market_structure({
        "id": "BTCUSDT", "symbol": "BTC/USDT:USDT", "base": "BTC", "quote": "USDT",
        "settle": "USDT", "baseId": "BTC", "quoteId": "USDT", "settleId": "USDT", "type": "swap",
        "spot": False, "margin": False, "swap": True, "future": False, "option": False,
        "contract": True, "linear": True, "inverse": False, "active": True, "contractSize": 1.0,
    })]

async def fetch_currencies(self, params={}):
    return {}

ccxt.pro.bybit.fetch_markets = fetch_markets
ccxt.pro.bybit.fetch_currencies = fetch_currencies
"""
CANDLES = """
import asyncio

async def main():
    exchange = ccxt.pro.bybit(CONFIGURATION["exchange"]["ccxt_async_config"])
    while True:
        print(await exchange.watch_ohlcv("BTC/USDT:USDT", "1m"))

asyncio.run(main())
"""


def test_each_block_has_one_rule_and_each_rule_a_block() -> None:
    """A block of `text` is a drawing or output, unless it is a session of the protocol."""
    ruled = [
        *(*rules.SHELL, *rules.PYTHON, *rules.CCXT, *rules.CONSOLE),
        *(*rules.OTHERS, *rules.CANNOT_RUN),
    ]
    assert len(ruled) == len(set(ruled))
    assert set(ruled) == {name for name, block in BLOCKS.items() if block.language != "text"}


def test_each_block_says_in_which_language_it_is() -> None:
    assert [name for name, block in BLOCKS.items() if not block.language] == []


def test_the_languages_are_those_of_the_rules() -> None:
    assert {BLOCKS[name].language for name in rules.SHELL} == {"sh"}
    assert {BLOCKS[name].language for name in rules.CANNOT_RUN} == {"sh"}
    assert {BLOCKS[name].language for name in rules.PYTHON} == {"python"}
    assert {BLOCKS[name].language for name in rules.CONSOLE} == {"console"}


# ---- commands ----


@pytest.mark.parametrize("name", rules.SHELL)
async def test_the_commands_run_as_printed(
    name: str, programs: Programs, checkout: Path, tmp_path: Path, redis_url: str
) -> None:
    rule, text = rules.SHELL[name], BLOCKS[name].text
    if rule.needs and shutil.which(rule.needs) is None:
        missing(f"{rule.needs} is not installed, so its commands are not run")
    market = f"ws://127.0.0.1:{await programs.simulator()}/v5/public"
    places = {
        "port": str(free_port()),
        "second": str(free_port()),
        "relay": "",
        "redis": redis_url,
        "folder": str(tmp_path),
        "checkout": str(checkout),
        "root": str(ROOT),
        "python": sys.executable,
    }
    programs.home = checkout
    if any("{relay}" in new for new in rule.replaced.values()):
        places["relay"] = str(await relay_with_a_watcher(programs, market))
    elif "{folder}/db.sqlite3" in rule.replaced.values():
        programs.manage("migrate")
    for old, new in rule.replaced.items():
        assert old in text, f"{name} has no {old}"
        text = text.replace(old, new.format(**places))
    programs.home = Path(rule.home.format(**places))
    bin_folder = Path(sys.executable).parent
    program = programs.start(
        *("block", "bash", "-e", "-c", text),
        inherits=(),
        UPSTREAM_URL=market,
        PATH=f"{bin_folder}:{os.environ['PATH']}",
        PASSWORD="secret",
        **{key: value.format(**places) for key, value in rule.variables.items()},
    )
    for port in rule.serves:
        await programs.listening(program, int(port.format(**places)))
        await follows_a_book(f"ws://127.0.0.1:{port.format(**places)}/ws")
    if rule.listens:
        await programs.listening(program, int(rule.listens.format(**places)))
    if rule.says:
        await until_it_says(program, rule.says)
    if not (rule.serves or rule.listens or rule.says):
        assert await program.end(4 * PATIENCE) == 0, program.output
    assert program.process.poll() in (None, 0), program.output


def missing(reason: str) -> NoReturn:
    """Skip a test for want of a program; in CI fail."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


async def relay_with_a_watcher(programs: Programs, market: str) -> int:
    """Start a relay with a user who may see the live page; return its port."""
    programs.manage("migrate")
    programs.manage(
        "shell",
        "-c",
        "from django.contrib.auth.models import Permission, User\n"
        "user = User.objects.create_user('watcher', password='secret', is_staff=True)\n"
        "user.user_permissions.add(Permission.objects.get(codename='view_livetopic'))",
    )
    return (await programs.daphne(market)).port


async def follows_a_book(url: str) -> None:
    """Return when a relay has sent the snapshot of a book and a delta."""
    async with asyncio.timeout(PATIENCE), connect(url) as socket:
        await socket.send(SUBSCRIBE)
        async for text in socket:
            if json.loads(text).get("type") == "delta":
                return


async def until_it_says(program: Program, pattern: str) -> None:
    """Return when the output of a program matches."""

    def says() -> object:
        is_over, output = program.process.poll() is not None, program.output
        found = re.search(pattern, output)
        assert found or not is_over, output
        return found

    await until(says, PATIENCE, f"it says {pattern}")


@pytest.mark.parametrize("name", rules.CANNOT_RUN)
def test_commands_that_cannot_run_are_right_as_far_as_can_be_seen(name: str) -> None:
    text = BLOCKS[name].text
    subprocess.run(["bash", "-n", "-c", text], check=True)
    for path in re.findall(r"(?<!\S)(?:deploy|compose|requirements)[\w./-]*", text):
        assert (ROOT / path).exists() or list(ROOT.glob(f"{path}*")), path
    for target in re.findall(r"(?m)^make (\w+)", text):
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("name", rules.CONSOLE)
async def test_a_command_prints_what_is_shown(
    name: str, programs: Programs, checkout: Path, tmp_path: Path
) -> None:
    [command, *shown] = BLOCKS[name].text.splitlines()
    relay = await relay_of(programs)
    command = command.removeprefix("$ ").replace("watch ", f"watch --url {relay}/ws ")
    programs.home = checkout
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    text = f"{{ {command}; }} 2> {tmp_path}/errors"
    program = programs.start("block", "bash", "-c", text, PATH=path)
    assert await program.end() == 0
    printed = program.output.splitlines()
    assert len(printed) == len(shown)
    for expected, line in zip(shown, printed, strict=True):
        pattern = re.sub(r"\d+", r"\\d+", re.escape(expected))
        assert re.fullmatch(pattern, line), line


# ---- programs ----


async def relay_of(programs: Programs) -> str:
    """Start a relay of a simulated market; return its address."""
    market = await programs.simulator("--rate", "20")
    server = await programs.daphne(f"ws://127.0.0.1:{market}/v5/public")
    return f"ws://{server.host}"


async def prints_a_market(programs: Programs, python: Path | str, text: str) -> None:
    """Run a program until it has printed different things."""
    program = programs.start("block", str(python), "-c", text, PYTHONUNBUFFERED="1")

    def has_moved() -> bool:
        assert program.process.poll() is None, program.output
        lines = program.output.splitlines()
        return len(lines) >= LINES and len(set(lines)) > 1

    await until(has_moved, PATIENCE, f"it prints a market: {program.output}")
    assert "Error" not in program.output, program.output


@pytest.mark.parametrize("name", rules.PYTHON)
async def test_a_program_prints_a_market_that_moves(name: str, programs: Programs) -> None:
    relay = await relay_of(programs)
    text = BLOCKS[name].text
    assert "ws://localhost:8000" in text
    await prints_a_market(programs, sys.executable, text.replace("ws://localhost:8000", relay))


@pytest.mark.parametrize("name", rules.CCXT)
async def test_ccxt_prints_a_market_that_moves(name: str, programs: Programs) -> None:
    if not CLIENTS.exists():
        missing("ccxt is not installed (make test does), so its examples are not tested")
    relay = await relay_of(programs)
    block = BLOCKS[name]
    assert "ws://localhost:8000" in block.text
    text = block.text.replace("ws://localhost:8000", relay)
    if block.language == "json":
        text = f"CONFIGURATION = {json.loads(text)!r}\n{CANDLES}"
    await prints_a_market(programs, CLIENTS, f"{MARKETS}\n{text}")


# ---- the protocol ----


@pytest.mark.parametrize("block", SESSIONS, ids=str)
async def test_a_session_goes_as_printed(block: Block, programs: Programs) -> None:
    relay = await relay_of(programs)
    async with asyncio.timeout(PATIENCE), connect(f"{relay}/ws") as socket:
        for line in block.text.splitlines():
            way, _, words = line.partition(" ")
            if way == "->":
                await socket.send(words)
                continue
            assert way == "<-", line
            pattern = re.escape(words).replace(r"\.\.\.", ".*?")
            while re.fullmatch(pattern, text := str(await socket.recv())) is None:
                assert "data" in json.loads(text), f"{text} came instead of {words}"


# ---- configurations ----


def test_nginx_takes_its_block(tmp_path: Path) -> None:
    block = BLOCKS["docs/operations.md: Metrics"]
    assert block.language == "nginx"
    site = f"server {{ listen 127.0.0.1:{free_port()}; {block.text} }}"
    text = f"pid {tmp_path}/pid; events {{}} http {{ access_log off; {site} }}"
    (tmp_path / "nginx.conf").write_text(text)
    done = subprocess.run(
        [find_nginx(), "-t", "-e", "stderr", "-p", str(tmp_path), "-c", "nginx.conf"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_prometheus_looks_for_the_services_of_compose_and_the_jobs_of_the_alerts() -> None:
    given = yaml.safe_load(BLOCKS["docs/operations.md: Metrics 2"].text)
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    usual = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job["dns_sd_configs"][0] for job in given["scrape_configs"]}
    assert list(jobs) == [job["job_name"] for job in usual["scrape_configs"]]
    assert [name for job in jobs.values() for name in job["names"]] == ["web", "worker"]
    assert {"web", "worker"} <= set(compose["services"])
    assert str(jobs["marketfeed-web"]["port"]) in compose["services"]["web"]["command"]
    page = (ROOT / "docs" / "operations.md").read_text()
    assert f"RELAY_METRICS_ADDRESS=0.0.0.0:{jobs['marketfeed-worker']['port']}" in page


def test_make_secret_writes_one_key_for_its_owner_alone(tmp_path: Path) -> None:
    for _ in range(2):
        subprocess.run(
            ["make", "-f", str(ROOT / "Makefile"), "secret"],
            cwd=tmp_path,
            check=True,
            timeout=PATIENCE,
        )
    [line] = (tmp_path / ".env").read_text().split()
    assert re.fullmatch(r"SECRET_KEY=[\w-]{60,}", line)
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
