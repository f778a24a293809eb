"""With RELAY_LOG_FORMAT=json, whatever real processes say is one JSON object a line."""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

import aiohttp

from tests.e2e.stand_in import BookFeed, StandIn
from tests.e2e.steps import QUICK, following, listed
from tests.processes import MANAGE, PATIENCE, Program, Programs, run, until
from tests.redis_server import RedisServer, free_port

JSON = {"RELAY_LOG_FORMAT": "json", "PYTHONUNBUFFERED": "1"}
# What reaches nobody's logger by itself.
OUTBURSTS = """
import asyncio, sys, threading, warnings
import django
django.setup()
warnings.warn("two\\nlines")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
class Unraisable:
    def __del__(self): raise KeyError("on the way out")
Unraisable()
async def forgotten():
    asyncio.get_running_loop().create_task(fail())
    await asyncio.sleep(0.01)
async def fail(): raise LookupError("nobody awaits this")
asyncio.run(forgotten())
raise RuntimeError("nobody catches this")
"""


def entries(output: str) -> list[dict[str, Any]]:
    """Return the log, each line of which must be an entry."""
    found = [json.loads(line) for line in output.splitlines()]
    assert found
    for entry in found:
        assert {"time", "level", "logger", "message"} <= entry.keys(), entry
    return found


def of(program: Program, logger: str) -> list[dict[str, Any]]:
    return [entry for entry in entries(program.output) if entry["logger"] == logger]


async def test_processes_that_serve_fail_and_stop_log_json_alone(
    exchange: StandIn, programs: Programs, redis_server: RedisServer
) -> None:
    redis = redis_server.url
    worker = programs.upstream(exchange.url, redis, **QUICK, **JSON)
    web = await programs.daphne(exchange.url, REDIS_URL=redis, **QUICK, **JSON)
    web.program.may_complain = worker.may_complain = True
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    async with following(web, book.topic), aiohttp.ClientSession() as session:
        await exchange.say_raw("linear", "no json\n\x00")
        foreign = {"Host": "foreign\u00e9.example"}
        for path, headers, status in (
            ("/", {}, 200),
            ("/nothing?a=1", {}, 404),
            ("/", foreign, 400),
            ("/admin/", {"Cookie": "sessionid=" + "x" * 32}, 500),  # there are no tables
        ):
            async with session.get(f"http://{web.host}{path}", headers=headers) as answer:
                assert answer.status == status, path
    redis_server.stop()
    await until(lambda: "Redis" in worker.output, PATIENCE, "the worker misses Redis")
    for program in (web.program, worker):
        program.signal(signal.SIGTERM)
        await program.end()

    accesses = of(web.program, "daphne.access")
    assert {"message": "GET /", "status": 200, "path": "/", "level": "INFO"}.items() <= accesses[
        2
    ].items()
    assert {entry["message"].split()[0] for entry in accesses} == {"GET", "websocket"}
    assert all(entry["client"].startswith("127.0.0.1:") for entry in accesses)
    [failed] = [entry for entry in of(web.program, "django.request") if entry["level"] == "ERROR"]
    assert failed["exc_info"].startswith("Traceback (most recent call last):\n")
    assert any("not understood" in entry["message"] for entry in entries(worker.output))


async def test_the_simulator_logs_json_alone(programs: Programs) -> None:
    port = free_port()
    command = (*MANAGE, "run_simulator", "--port", str(port))
    simulator = await programs.listening(programs.start("simulator", *command, **JSON), port)
    await until(lambda: simulator.output.endswith("\n"), PATIENCE, "it says where it listens")
    simulator.signal(signal.SIGINT)
    assert await simulator.end() == 0
    assert any(f":{port}/" in entry["message"] for entry in entries(simulator.output))


def test_warnings_and_exceptions_that_nobody_catches_are_entries_too() -> None:
    ended = run(
        *(sys.executable, "-W", "default", "-c", OUTBURSTS),
        DJANGO_SETTINGS_MODULE="marketfeed.settings",
        SECRET_KEY="for-tests-only",
        RELAY_LOG_FORMAT="json",
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    found = entries(ended.stderr)
    loggers = [entry["logger"] for entry in found]
    assert loggers == ["py.warnings", *["marketfeed.logs"] * 2, "asyncio", "marketfeed.logs"]
    assert "two\nlines" in found[0]["message"]
    words = ("ZeroDivisionError", "KeyError", "LookupError", "RuntimeError")
    for entry, word in zip(found[1:], words, strict=True):
        assert word in entry["exc_info"].splitlines()[-1]


async def test_uvicorn_s_lines_are_entries_too(exchange: StandIn, programs: Programs) -> None:
    server = await programs.uvicorn(exchange.url, **JSON)
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{server.host}/healthz") as answer,
    ):
        assert answer.status == 200
    server.program.signal(signal.SIGTERM)
    await server.program.end()
    loaded = [line for line in server.program.output.splitlines() if line.startswith("{")]
    assert any("/healthz" in entry["message"] for entry in entries("\n".join(loaded)))
    assert len(server.program.output.splitlines()) - len(loaded) <= 1  # said before it is loaded
