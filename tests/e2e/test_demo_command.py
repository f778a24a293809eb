"""`manage.py demo`: what it prints on a fresh terminal, and that it is true."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import aiohttp
import pytest
from websockets.sync.client import connect

from tests.processes import MANAGE, PATIENCE, ROOT, Programs, until
from tests.redis_server import free_port

PAGE = re.compile(r"^marketfeed: (http://\S+/)", re.M)
EXCHANGE = re.compile(r"^simulated exchange: (ws://\S+/v5/public/)", re.M)


async def printed(programs: Programs, *arguments: str) -> tuple[str, str]:
    """Start a demo; return what it says of its page and of its exchange."""
    program = programs.start("demo", *MANAGE, "demo", "--port", str(free_port()), *arguments)
    await until(lambda: EXCHANGE.search(program.output), PATIENCE, "it says where it is")
    page, exchange = PAGE.search(program.output), EXCHANGE.search(program.output)
    assert page is not None
    assert exchange is not None
    return page[1], exchange[1]


async def status(url: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status


@pytest.mark.parametrize(
    ("interface", "host"),
    [
        ("127.0.0.1", "localhost"),
        ("127.0.0.2", "127.0.0.2"),
        ("0.0.0.0", "localhost"),
        ("::1", "[::1]"),
    ],
)
async def test_the_demo_prints_an_address_that_answers(
    programs: Programs, interface: str, host: str
) -> None:
    page, exchange = await printed(programs, "--interface", interface)
    assert page.startswith(f"http://{host}:")
    assert await status(page) == 200
    own = page.replace("http://", "ws://") + "ws"
    with connect(own, origin=page.rstrip("/"), proxy=None) as socket:  # type: ignore[arg-type]
        socket.send('{"method":"ping"}')
        assert socket.recv(timeout=PATIENCE) == '{"method":"pong"}'
    with connect(f"{exchange}linear", proxy=None) as socket:
        socket.send('{"op":"ping"}')
        assert "pong" in str(socket.recv(timeout=PATIENCE))


async def test_a_fresh_terminal_is_quiet_unless_more_is_asked_for(programs: Programs) -> None:
    page, _ = await printed(programs)
    assert await status(page) == 200
    output = programs.started[-1].output
    assert "GET /" not in output
    assert "HTTP/2" not in output
    assert "Configuring endpoint" not in output


async def test_more_is_said_where_it_is_asked_for(programs: Programs) -> None:
    page, _ = await printed(programs, "-v", "2")
    assert await status(page) == 200
    program = programs.started[-1]
    await until(lambda: "GET /" in program.output, PATIENCE, "the access line")


@pytest.mark.parametrize(
    ("interface", "host"),
    [("127.0.0.1", "localhost"), ("127.0.0.2", "127.0.0.2"), ("::1", "[::1]"), ("::", "localhost")],
)
def test_make_run_prints_the_address_of_its_interface(
    tmp_path: Path, interface: str, host: str
) -> None:
    done = subprocess.run(
        ["make", "-n", "run", f"INTERFACE={interface}", "PORT=8123"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f'"marketfeed: http://{host}:8123/ (stop with Ctrl-C)"' in done.stdout
