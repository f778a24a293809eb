"""If a private name of Twisted's is gone, clients are served by plain ASGI, and a line says so."""

from __future__ import annotations

import json
import sys

from websockets.asyncio.client import connect

from tests.e2e.scrapes import scrape, value
from tests.e2e.stand_in import BookFeed, StandIn
from tests.processes import Programs, WebServer
from tests.redis_server import free_port

RENAMED = """
import inspect
import twisted.internet.abstract as abstract

source = inspect.getsource(abstract.FileDescriptor).replace("_tempDataLen", "_pendingLength")
exec(compile(source, abstract.__file__, "exec"), vars(abstract))
from daphne.cli import CommandLineInterface

CommandLineInterface.entrypoint()
"""


async def test_without_a_private_name_clients_are_served_the_portable_way(
    programs: Programs, exchange: StandIn
) -> None:
    feed = BookFeed("BTCUSDT")
    exchange.feeds["linear", feed.topic] = feed.greeting
    port = free_port()
    program = programs.start(
        *("daphne", sys.executable, "-c", RENAMED, "-e", f"tcp:port={port}:interface=127.0.0.1"),
        "marketfeed.asgi:application",
        UPSTREAM_URL=exchange.url,
    )
    server = WebServer(await programs.listening(program, port), port)
    for _ in range(2):
        async with connect(server.url()) as socket:
            await socket.send(json.dumps({"op": "subscribe", "args": [feed.topic]}))
            assert json.loads(await socket.recv())["success"]
            assert json.loads(await socket.recv())["type"] == "snapshot"
            samples = await scrape(server.host)
            assert value(samples, "clients", door="ws", outbound="portable") == 1
            await socket.send("x" * 10_000)  # too long
            await socket.wait_closed()
    told = [
        line for line in program.output.splitlines() if "relay.downstream.outbound.trial" in line
    ]
    assert len(told) == 1, told
    assert "'_tempDataLen'" in told[0]
