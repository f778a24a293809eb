"""How the long-running commands say how they stand: in place on a terminal, in a log elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import signal

import pytest
from websockets.asyncio.client import connect

from relay.management.state_line import Pace, number, report, size
from tests.e2e.client import client
from tests.e2e.stand_in import BookFeed, StandIn
from tests.processes import MANAGE, PATIENCE, Program, Programs, until
from tests.redis_server import RedisServer, free_port
from tests.terminal.terminal import CTRL_C, Terminal

UPSTREAM = (*MANAGE, "run_upstream")


async def test_the_simulator_tells_its_connections_topics_and_rate(programs: Programs) -> None:
    port = free_port()
    command = (*MANAGE, "run_simulator", "--port", str(port))
    async with Terminal.running(*command) as terminal:
        await terminal.until_shown("market: 0 messages/s | nobody connected")
        async with connect(f"ws://127.0.0.1:{port}/v5/public/linear") as one:
            topics = ["tickers.BTCUSDT", "orderbook.50.BTCUSDT"]
            await one.send(json.dumps({"op": "subscribe", "args": topics}))
            await terminal.until_shown("linear: 1 connection, 2 topics", "messages/s")
            await terminal.until(lambda: re.search(r"market: [1-9]\d* messages/s", terminal.text))
        await terminal.until_shown("nobody connected", "socket")
        assert terminal.text.count("messages/s") == 1
        terminal.type(CTRL_C)
        assert await terminal.end() == 0
        assert terminal.raw.endswith(b"\x1b[?25h")


async def test_two_workers_tell_who_leads_and_how_redis_is(
    programs: Programs, exchange: StandIn, redis_server: RedisServer
) -> None:
    book = BookFeed("AUSDT")
    exchange.feeds["spot", book.topic] = book.greeting
    variables = {
        "UPSTREAM_URL": exchange.url,
        "REDIS_URL": redis_server.url,
        "SECRET_KEY": "for-tests-only-" + "0" * 50,
    }
    options = ("--category", "spot", "--category", "linear")
    async with (
        Terminal.running(*UPSTREAM, *options, columns=150, **variables) as first,
        Terminal.running(*UPSTREAM, *options, columns=150, **variables) as second,
    ):

        def shows(words: str) -> list[Terminal]:
            return [one for one in (first, second) if words in one.text]

        # Which of them leads which category is for them to find out.
        await first.until(
            lambda: (
                len([*shows("leads spot idle, linear idle"), *shows("stands by for spot, linear")])
                == 2
                or len([*shows("leads spot idle | "), *shows("leads linear idle | ")]) == 2
            )
        )
        relay = await programs.daphne(exchange.url, REDIS_URL=redis_server.url)
        async with client(relay.url("/v5/public/spot")) as one:
            await one.subscribe(book.topic)
            words = "1 connection | leads spot live (1 topic)"
            await first.until(lambda: shows(words))
            leader = shows(words)[0]
            standby = second if leader is first else first
            assert re.search(r"messages/s \| Redis \d+\.\d ms", leader.text)
            leader.process.send_signal(signal.SIGTERM)
            assert await leader.end() == 0
            await standby.until_shown(words)
        redis_server.stop()
        await standby.until_shown("Redis is away")
        assert standby.text.count("messages/s") == 1
        redis_server.start()
        await standby.until_shown("messages/s | Redis ", " ms | ")
        standby.type(CTRL_C)
        assert await standby.end() == 0


@pytest.mark.parametrize("kind", ["text", "json"])
async def test_in_a_log_nothing_is_amended(
    kind: str, programs: Programs, exchange: StandIn, redis_url: str
) -> None:
    started: list[Program] = [
        programs.start(
            "upstream",
            *UPSTREAM,
            UPSTREAM_URL=exchange.url,
            REDIS_URL=redis_url,
            RELAY_LOG_FORMAT=kind,
        )
    ]
    await until(lambda: "option: acquired leadership" in started[0].output, PATIENCE, "it leads")
    started[0].signal(signal.SIGTERM)
    assert await started[0].end() == 0
    assert "\x1b" not in started[0].output
    assert "\r" not in started[0].output
    if kind == "json":
        lines = [json.loads(line) for line in started[0].output.splitlines()]
        assert {"level", "logger", "message", "time"} <= set(lines[0])


async def test_a_log_is_told_what_is_news(caplog: pytest.LogCaptureFixture) -> None:
    states = iter(["idle", "idle", "busy", "busy", "idle"])
    logger = logging.getLogger("relay.test")
    caplog.set_level(logging.INFO)
    with contextlib.suppress(RuntimeError):  # the iterator has ended
        await asyncio.wait_for(report(lambda: next(states), logger, 0.001), PATIENCE)
    assert caplog.messages == ["idle", "busy", "idle"]


def test_numbers_for_people() -> None:
    assert [size(n) for n in (0, 999, 1_000, 12_345_678, 5e12)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "12.3 MB",
        "5,000.0 GB",
    ]
    assert [number(n, "topic") for n in (0, 1, 1_200)] == ["0 topics", "1 topic", "1,200 topics"]
    assert Pace(5).per_second(5) == 0
