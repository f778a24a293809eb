"""How the relay's processes end: when told to, and when they cannot begin."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from contextlib import AsyncExitStack, ExitStack, suppress

import pytest

from tests.e2e.client import client
from tests.e2e.stand_in import BookFeed, StandIn, TradesFeed
from tests.e2e.steps import assert_right, listed, moves
from tests.processes import DAPHNE, MANAGE, PATIENCE, Program, Programs, WebServer, until
from tests.redis_server import free_port
from tests.stopwatch import Stopwatch

PROMISED = 5.0  # seconds from the signal to the end
SIGNALS = [signal.SIGTERM, signal.SIGINT]
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
NOWHERE = "ws://127.0.0.1:1/v5/public"


async def assert_ends(
    program: Program, number: signal.Signals, *, status: tuple[int, ...] = (0,)
) -> None:
    """The program ends in time with one of the statuses, and nothing of it is left."""
    with Stopwatch(program.process.pid) as watch:
        program.signal(number)
        assert await program.end() in status, program.output[-2000:]
    assert watch.seconds < PROMISED
    assert program.survivors() == []
    assert "Traceback" not in program.output


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
@pytest.mark.parametrize("number", SIGNALS)
async def test_a_signal_ends_the_relay_and_its_clients_are_asked_to_come_back(
    number: signal.Signals, server: str, exchange: StandIn, programs: Programs
) -> None:
    relay: WebServer = await getattr(programs, server)(exchange.url)
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    async with AsyncExitStack() as stack:
        native = await stack.enter_async_context(client(relay.url("/ws")))
        bybit = await stack.enter_async_context(client(relay.url("/v5/public/linear")))
        idle = await stack.enter_async_context(client(relay.url("/ws")))
        for one in (native, bybit):
            await one.subscribe(book.topic)
            await moves(exchange, "linear", book, 3)
            await assert_right(one, book)
        # uvicorn dies of the signal that it has obeyed: that is its own way
        status = (0,) if server == "daphne" else (0, -number)
        await assert_ends(relay.program, number, status=status)
        if server == "daphne":  # uvicorn closes its sockets itself, before it tells the relay
            for one in (native, bybit, idle):
                assert await one.until_closed() == 4200
            assert [notice["type"] for notice in native.notices] == ["bye"]
            assert native.notices[0]["code"] == "shutting_down"
        assert bybit.notices == []
        await exchange.until(lambda: not exchange.lines, "no connection is left")


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_relay_that_nobody_has_visited_ends_as_well(
    number: signal.Signals, programs: Programs
) -> None:
    relay = (await programs.daphne(NOWHERE)).program
    # Daphne listens before its reactor runs; in the moment between, a signal is Python's affair.
    await until(lambda: relay.catches(signal.SIGTERM), PATIENCE, "the reactor runs")
    await assert_ends(relay, number)


async def test_neither_a_reader_that_never_reads_nor_a_silent_exchange_delays_the_end(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url)
    trades = TradesFeed("BTCUSDT")
    async with client(relay.url("/ws")) as one:
        await one.subscribe(trades.topic)
        with socket.create_connection(("127.0.0.1", relay.port)) as mute:
            mute.sendall(HANDSHAKE)
            mute.setblocking(False)

            def has_begun() -> bool:
                try:
                    return mute.recv(64, socket.MSG_PEEK).startswith(b"HTTP/1.1 101")
                except BlockingIOError:
                    return False

            await until(has_begun, PATIENCE, "the handshake")
            body = b'{"op":"subscribe","args":["publicTrade.BTCUSDT"]}'
            mute.sendall(bytes((0x81, 0x80 | len(body), 0, 0, 0, 0)) + body)
            follower = one.followers[trades.topic]
            for count in range(1000, 51_000, 1000):  # 8 MB: more than the buffers on the way
                await exchange.say("linear", trades.topic, trades.trade(rows=1000))
                await one.until(lambda c=count: follower.position == c, f"{count} trades")
            for line in exchange.lines:
                line.is_silent = True
            await assert_ends(relay.program, signal.SIGTERM)


async def test_a_second_signal_does_no_harm(exchange: StandIn, programs: Programs) -> None:
    relay = await programs.daphne(exchange.url)
    async with client(relay.url("/ws")) as one:
        await one.subscribe("publicTrade.BTCUSDT")
        relay.program.signal(signal.SIGTERM)
        await one.until(lambda: one.notices or one.code, "the first word of the end")
        relay.program.signal(signal.SIGTERM)
        assert await relay.program.end() == 0
        assert relay.program.survivors() == []


async def knock(port: int) -> bool:
    """Return whether a WebSocket handshake with whatever listens on the port succeeds."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        writer.write(HANDSHAKE)
        return (await reader.readline()).startswith(b"HTTP/1.1 101")
    except OSError:
        return False
    finally:
        writer.close()


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
async def test_a_relay_that_ends_says_goodbye_only_after_it_has_stopped_listening(
    server: str, exchange: StandIn, programs: Programs
) -> None:
    relay: WebServer = await getattr(programs, server)(exchange.url)
    handshakes = 0
    async with client(relay.url("/ws")) as one:
        await one.subscribe("publicTrade.BTCUSDT")
        relay.program.signal(signal.SIGTERM)
        await one.until_closed()
        while relay.program.process.poll() is None:
            handshakes += await knock(relay.port)
    assert handshakes == 0


async def test_a_kept_http_connection_is_closed_by_a_relay_that_ends(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url)
    async with client(relay.url("/ws")) as one:
        await one.subscribe("publicTrade.BTCUSDT")
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        await reader.readuntil(b"\r\n\r\nok\n")
        relay.program.signal(signal.SIGTERM)
        await one.until_closed()
        answer = b""
        with suppress(ConnectionError):
            writer.write(HANDSHAKE)
            answer = await reader.read()
        writer.close()
        assert answer == b""
        assert await relay.program.end() == 0


async def test_newcomers_wait_in_a_shared_socket_for_the_next_process(
    exchange: StandIn, programs: Programs
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        port = listener.getsockname()[1]
        options = ("--fd", str(listener.fileno()), "marketfeed.asgi:application")
        shared = {"inherits": (listener.fileno(),), "UPSTREAM_URL": exchange.url}
        old = programs.start("daphne", DAPHNE, *options, **shared)
        async with client(f"ws://127.0.0.1:{port}/ws", open_timeout=PATIENCE) as one:
            await one.subscribe("publicTrade.BTCUSDT")
            old.signal(signal.SIGTERM)
            assert await one.until_closed() == 4200, old.output
        newcomer = asyncio.create_task(knock(port))
        assert await old.end() == 0
        assert not newcomer.done()
        programs.start("daphne", DAPHNE, *options, **shared)
        assert await newcomer


async def test_the_kernel_queues_hundreds_who_come_at_once_to_plain_daphne(
    programs: Programs,
) -> None:
    port = free_port()
    command = (DAPHNE, "--port", str(port), "marketfeed.asgi:application")
    relay = await programs.listening(programs.start("daphne", *command), port)
    assert await knock(port)  # so the relay has started
    relay.signal(signal.SIGSTOP)  # it accepts nobody: only the queue takes them
    with ExitStack() as stack:
        stack.callback(relay.signal, signal.SIGCONT)
        for _ in range(500):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))


@pytest.mark.parametrize("number", SIGNALS)
async def test_the_simulator_ends_on_a_signal_with_clients_connected(
    number: signal.Signals, programs: Programs
) -> None:
    port = await programs.simulator()
    relay = await programs.daphne(f"ws://127.0.0.1:{port}/v5/public")
    async with client(relay.url("/ws")) as one:
        await one.subscribe("orderbook.50.BTCUSDT")
        await assert_ends(programs.started[0], number)
        await one.until(lambda: one.notices, "a notice")
        assert one.notices[0]["upstream"] == "down"
        assert one.code is None


# One of each way to be read: tests/test_conf.py has every sentence.
WRONG = {
    "SECRET_KEY": "",
    "UPSTREAM_URL": "http://127.0.0.1/v5/public",
    "REDIS_URL": "127.0.0.1:6379",
    "RELAY_LINGER": "soon",
    "RELAY_LOG_FORMAT": "xml",
    "DEBUG": "perhaps",
}


async def assert_refuses(program: Program, word: str) -> None:
    """It ends with status 2 and one sentence that says the word."""
    assert await program.end() == 2, program.output
    lines = program.output.strip().splitlines()
    assert len(lines) == 1, program.output
    assert word in lines[0]


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_setting_is_one_sentence_and_status_2(name: str, programs: Programs) -> None:
    wrong = {"UPSTREAM_URL": NOWHERE, name: WRONG[name]}
    endpoint = f"tcp:port={free_port()}:interface=127.0.0.1"
    web = programs.start("daphne", DAPHNE, "-e", endpoint, "marketfeed.asgi:application", **wrong)
    redis = {"REDIS_URL": "redis://127.0.0.1:1/0", **wrong}
    worker = programs.start("upstream", *MANAGE, "run_upstream", **redis)
    await assert_refuses(web, name)
    await assert_refuses(worker, name)


async def test_uvicorn_refuses_a_wrong_setting_with_the_same_sentence(programs: Programs) -> None:
    command = (sys.executable, "-m", "uvicorn", "marketfeed.asgi:application")
    port = str(free_port())
    program = programs.start("uvicorn", *command, "--port", port, RELAY_LINGER="soon")
    await assert_refuses(program, "RELAY_LINGER")


async def test_a_port_that_is_taken_is_one_sentence_and_status_2(programs: Programs) -> None:
    port = await programs.simulator()
    second = programs.start("simulator", *MANAGE, "run_simulator", "--port", str(port))
    await assert_refuses(second, str(port))
