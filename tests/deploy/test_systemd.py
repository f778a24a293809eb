"""deploy/systemd: the units' own commands, several of each, on one shared socket."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from relay import conf
from tests.deploy import units
from tests.e2e.client import Client, client
from tests.e2e.stand_in import BookFeed, StandIn
from tests.e2e.steps import QUICK, assert_right, listed, moves
from tests.processes import Program, Programs
from tests.redis_server import free_port
from tests.settings import DJANGO_VARIABLES

UNITS = ("marketfeed-web@.service", "marketfeed-worker@.service")


@pytest.fixture
def shared() -> Iterator[socket.socket]:
    with units.listener() as listener:
        yield listener


@asynccontextmanager
async def frozen(*programs: Program) -> AsyncIterator[None]:
    """Stop processes for a while, so that others take what comes."""
    for program in programs:
        program.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for program in programs:
            program.signal(signal.SIGCONT)


async def test_processes_on_one_socket_lose_no_client_but_those_of_the_one_that_stops(
    exchange: StandIn, programs: Programs, redis_url: str, shared: socket.socket
) -> None:
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    variables = {"UPSTREAM_URL": exchange.url, "REDIS_URL": redis_url, **QUICK}
    workers = [units.worker(programs, name, **variables) for name in "12"]
    ports = [free_port(), free_port()]
    webs = [
        units.web(programs, shared, name, port, **variables)
        for name, port in zip("12", ports, strict=True)
    ]
    for web, port in zip(webs, ports, strict=True):
        await programs.listening(web, port)
    url = f"ws://127.0.0.1:{shared.getsockname()[1]}/ws"
    async with AsyncExitStack() as stack:

        async def come(count: int) -> list[Client]:
            return [await stack.enter_async_context(client(url)) for _ in range(count)]

        async with frozen(webs[1]):
            doomed = await come(3)
        async with frozen(webs[0]):
            kept = await come(3)
        for one in [*doomed, *kept]:
            await one.subscribe(book.topic)
        await moves(exchange, "linear", book, 3)
        for one in [*doomed, *kept]:
            await assert_right(one, book)

        webs[0].signal(signal.SIGTERM)
        for one in doomed:
            assert await one.until_closed() == 4200
        assert await webs[0].end() == 0
        newcomers = await come(3)
        for one in newcomers:
            await one.subscribe(book.topic)
        await moves(exchange, "linear", book, 3)
        for one in [*kept, *newcomers]:
            await assert_right(one, book)
            assert one.code is None

        # Nobody is there: whoever comes waits in the socket, and is refused by nobody.
        webs[1].signal(signal.SIGTERM)
        assert await webs[1].end() == 0
        waiting = socket.create_connection(shared.getsockname())
        port = free_port()
        await programs.listening(units.web(programs, shared, "1", port, **variables), port)
        late = await stack.enter_async_context(client(url, sock=waiting))
        await late.subscribe(book.topic)
        await assert_right(late, book)
    for worker in workers:
        worker.signal(signal.SIGTERM)
    for worker in workers:
        assert await worker.end() == 0


async def test_each_process_is_probed_and_counted_at_a_port_of_its_own(
    exchange: StandIn, programs: Programs, redis_url: str, shared: socket.socket
) -> None:
    port, worker_port = free_port(), free_port()
    variables = {"UPSTREAM_URL": exchange.url, "REDIS_URL": redis_url}
    given = units.read_environment(units.FOLDER / "environment")
    variables |= {name: given[name] for name in ("ALLOWED_HOSTS", "HTTPS")}
    await programs.listening(units.web(programs, shared, "1", port, **variables), port)
    worker = units.worker(programs, "1", port=worker_port, **variables)
    await programs.listening(worker, worker_port)
    for asked, path in (
        (shared.getsockname()[1], "healthz"),
        (port, "healthz"),
        (port, "readyz"),
        (port, "metrics"),
        (worker_port, "metrics"),
    ):
        for _ in range(600):
            if (status := await ask(asked, path)) == 200:
                break
            await asyncio.sleep(0.1)  # a busy machine may take a moment to be ready
        assert status == 200, path


async def ask(port: int, path: str) -> int:
    """Return the status of an answer to a probe."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /{path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
    status = int((await reader.readline()).split()[1])
    writer.close()
    await writer.wait_closed()
    return status


def test_prometheus_asks_at_the_ports_of_the_units() -> None:
    asked = (units.FOLDER.parent / "prometheus" / "prometheus.yml").read_text()
    for number in "12":
        assert f'"127.0.0.1:810{number}"' in asked
        assert f'"127.0.0.1:910{number}"' in asked


async def test_clients_may_outnumber_the_soft_limit_of_open_files(
    exchange: StandIn, programs: Programs
) -> None:
    port = free_port()
    words = ("daphne", "-e", f"tcp:port={port}:interface=127.0.0.1", "marketfeed.asgi:application")
    script = 'ulimit -S -n 60; exec "$0" "$@"'
    program = programs.start(
        *("daphne", "sh", "-c", script, str(Path(units.DAPHNE)), *words[1:]),
        UPSTREAM_URL=exchange.url,
    )
    await programs.listening(program, port)
    async with AsyncExitStack() as stack:
        for _ in range(80):
            one = await stack.enter_async_context(client(f"ws://127.0.0.1:{port}/ws"))
        assert await one.ask({"method": "ping"}) == {"method": "pong"}


@pytest.mark.parametrize("unit", UNITS)
def test_a_stop_has_time_and_wrong_settings_are_not_tried_again(unit: str) -> None:
    assert float(units.one(unit, "Service.TimeoutStopSec")) > 5
    assert units.one(unit, "Service.KillSignal") == "SIGTERM"
    assert units.one(unit, "Service.Restart") == "always"
    assert units.one(unit, "Service.RestartPreventExitStatus") == "2"


async def test_wrong_settings_end_the_units_commands_with_status_2(
    programs: Programs, shared: socket.socket
) -> None:
    for program in (
        units.web(programs, shared, "1", free_port(), REDIS_URL="valkey"),
        units.worker(programs, "1", REDIS_URL="valkey"),
    ):
        assert await program.end() == 2
        assert "REDIS_URL" in program.output


def test_the_files_allowed_suffice_for_the_clients_let_in() -> None:
    files = int(units.one("marketfeed-web@.service", "Service.LimitNOFILE"))
    assert files > 2 * conf.RelaySettings().max_connections


def test_the_units_name_each_other_and_the_environment_names_settings() -> None:
    assert units.one("marketfeed-web@.service", "Service.Sockets") == "marketfeed-web.socket"
    assert units.one("marketfeed-web.socket", "Socket.Service") == "marketfeed-web@1.service"
    for unit in UNITS:
        assert units.one(unit, "Service.EnvironmentFile") == "/etc/marketfeed/environment"
    given = units.read_environment(units.FOLDER / "environment")
    assert set(given) <= {*DJANGO_VARIABLES, *conf.VARIABLES.values()}
    assert given["SECRET_KEY"] == ""


def test_systemd_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        reason = "systemd-analyze is not installed, so the units are not verified"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    for path in units.FOLDER.glob("marketfeed-*"):
        text = path.read_text()
        for program in ("daphne", "python"):
            text = text.replace(f"/opt/marketfeed/.venv/bin/{program}", "/bin/true")
        (tmp_path / path.name.replace("@.", "@1.")).write_text(text)
    found = subprocess.run(
        [analyze, "verify", *sorted(map(str, tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )
    assert (found.returncode, found.stderr) == (0, "")
