"""`manage.py watch` as a user runs it: on a terminal, in a pipe, through losses, to its end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest

from relay.terminal.words import clock, countdown, fixed, moment, percent, printable
from tests.commands import refused
from tests.e2e.client import client
from tests.e2e.reference import Book, Sides, follow
from tests.e2e.stand_in import BookFeed, StandIn, TickerFeed, TradesFeed
from tests.processes import DAPHNE, MANAGE, PATIENCE, Programs, WebServer, run, running, until
from tests.redis_server import free_port
from tests.stopwatch import Stopwatch
from tests.terminal.terminal import CTRL_C, Terminal

LEVEL = re.compile(r"^│ +(\d+\.\d+) +(\d+)(?: |$)", re.MULTILINE)
SIGNALS = [signal.SIGINT, signal.SIGTERM]


def watch(relay: WebServer, *topics: str) -> tuple[str, ...]:
    return (*MANAGE, "watch", "--url", relay.url(), *topics)


def ladder(terminal: Terminal) -> Sides:
    """Return bids and asks as the one book on the screen has them."""
    asks, _, bids = terminal.text.partition("spread")
    found = [LEVEL.findall(part) for part in (bids, asks.rpartition("\n")[0])]
    sides = [{Decimal(price): Decimal(size) for price, size in side} for side in found]
    return sides[0], sides[1]


def truth(exchange: StandIn, category: str, feed: BookFeed) -> Sides:
    """Return what the exchange's words add up to."""
    said = exchange.said[category, feed.topic]
    last = max(n for n, text in enumerate(said) if json.loads(text)["type"] == "snapshot")
    book = follow(feed.topic, said[last:]).state
    assert isinstance(book, Book)
    return book.sides


@pytest.fixture
def book(exchange: StandIn) -> BookFeed:
    """A book of linear that is said to whoever subscribes."""
    made = BookFeed("AUSDT")
    exchange.feeds["linear", made.topic] = made.greeting
    return made


async def restarted(programs: Programs, exchange: StandIn, relay: WebServer) -> WebServer:
    """Start a relay where another one was."""
    endpoint = f"tcp:port={relay.port}:backlog=4096:interface=127.0.0.1"
    command = (DAPHNE, "-e", endpoint, "marketfeed.asgi:application")
    program = programs.start("daphne", *command, UPSTREAM_URL=exchange.url)
    return WebServer(await programs.listening(program, relay.port), relay.port)


# ---- on a terminal ----


async def test_the_screen_shows_the_book_that_an_independent_client_holds(
    exchange: StandIn, programs: Programs, book: BookFeed
) -> None:
    relay = await programs.daphne(exchange.url)
    async with (
        Terminal.running(*watch(relay, book.topic), rows=50) as terminal,
        client(relay.url("/v5/public/linear")) as other,
    ):
        await other.subscribe(book.topic)
        await terminal.until_shown("live", "spread")
        for steps in (0, 1, 1, 20, 100):
            for _ in range(steps):
                await exchange.say("linear", book.topic, book.delta())
            follower = await other.until_at(book.topic, book.u)
            assert isinstance(follower.state, Book)
            held = follower.state.sides
            assert held == truth(exchange, "linear", book)
            assert len(held[0]) > 2
            await terminal.until(lambda held=held: ladder(terminal) == held, f"{held}")
        bid, ask = max(held[0]), min(held[1])
        assert f"spread {ask - bid}" in terminal.text


LIMITS = '{"topic":"priceLimit.X","data":{"symbol":"X","buyLmt":"10.61","sellLmt":"9.59"},"ts":7}'
LIQUIDATION = '{"T":7,"s":"X","S":"Buy","v":"0.6","p":"9.87"}'
LIQUIDATIONS = '{"topic":"allLiquidation.X","type":"snapshot","ts":7,"data":[' + LIQUIDATION + "]}"


async def test_price_limits_and_liquidations_are_shown_and_written(
    exchange: StandIn, programs: Programs
) -> None:
    exchange.feeds["linear", "priceLimit.X"] = lambda: [LIMITS]
    relay = await programs.daphne(exchange.url)
    topics = ("priceLimit.X", "allLiquidation.X")
    written = programs.start("watch", *watch(relay, *topics))
    async with Terminal.running(*watch(relay, *topics), rows=40, columns=120) as terminal:
        await exchange.until_followed("linear", *topics)
        await terminal.until_shown("Buys up to", "10.61", "Sells from", "9.59")
        await exchange.say("linear", "allLiquidation.X", LIQUIDATIONS)
        await terminal.until_shown(LIQUIDATION)
    for words in ("priceLimit.X buys up to 10.61 sells from 9.59", LIQUIDATION):
        await until(lambda w=words: w in written.output, PATIENCE, words)


async def test_a_ticker_a_tape_and_a_book_of_two_categories_share_the_screen(
    exchange: StandIn, programs: Programs, book: BookFeed
) -> None:
    ticker, trades = TickerFeed("BUSDT"), TradesFeed("AUSDT")
    exchange.feeds["linear", ticker.topic] = ticker.greeting
    exchange.feeds["spot", trades.topic] = lambda: [trades.trade(3)]
    relay = await programs.daphne(exchange.url)
    topics = (book.topic, ticker.topic, f"spot:{trades.topic}")
    async with Terminal.running(*watch(relay, *topics), rows=60, columns=120) as terminal:
        await exchange.until_followed("spot", trades.topic)
        await terminal.until_shown("spread", "Last", f"spot:{trades.topic}")
        await exchange.say("linear", ticker.topic, ticker.delta())
        await exchange.say("spot", trades.topic, trades.trade(2))
        fields = {
            key: value
            for text in exchange.said["linear", ticker.topic]
            for key, value in json.loads(text)["data"].items()
        }
        rows = [
            f"{'buy ' if row['S'] == 'Buy' else 'sell'}  {row['p']}  {row['v']}"
            for text in exchange.said["spot", trades.topic]
            for row in json.loads(text)["data"]
        ]
        await terminal.until(
            lambda: (
                fields["lastPrice"] in terminal.text
                and all(row in terminal.text for row in rows[-2:])
            ),
            f"{fields} {rows}",
        )
        assert ladder(terminal)[0]


async def test_what_may_be_outdated_has_no_colour_and_says_so(
    exchange: StandIn, programs: Programs, book: BookFeed
) -> None:
    relay = await programs.daphne(exchange.url)
    async with Terminal.running(*watch(relay, book.topic), rows=50) as terminal:
        await terminal.until_shown("linear live", "spread")
        best = f"{max(truth(exchange, 'linear', book)[0])}"
        assert terminal.colours(best) == {"green"}
        exchange.is_shut = True
        exchange.lines[0].cut()
        await terminal.until_shown("linear stale", "STALE", "the relay has lost the exchange")
        assert terminal.colours(best) == {"default"}
        assert ladder(terminal) == truth(exchange, "linear", book)  # the last that was known
        exchange.is_shut = False
        book.delta()  # unheard
        await exchange.until_followed("linear", book.topic)
        await terminal.until(
            lambda: (
                "STALE" not in terminal.text and ladder(terminal) == truth(exchange, "linear", book)
            )
        )
        await terminal.until_shown("linear live")
        best = f"{max(truth(exchange, 'linear', book)[0])}"
        assert terminal.colours(best) == {"green"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_it_survives_a_relay_that_is_restarted(
    number: signal.Signals, exchange: StandIn, programs: Programs, book: BookFeed
) -> None:
    relay = await programs.daphne(exchange.url)
    async with Terminal.running(*watch(relay, book.topic), rows=50) as terminal:
        await terminal.until_shown("linear live", "spread")
        relay.program.signal(number)
        await terminal.until_shown("linear reconnecting", "RECONNECTING", "next try in")
        await relay.program.end()
        for _ in range(5):
            book.delta()
        await restarted(programs, exchange, relay)
        await exchange.until_followed("linear", book.topic)
        await terminal.until_shown("linear live", seconds=40)
        await terminal.until(lambda: ladder(terminal) == truth(exchange, "linear", book))
        await exchange.say("linear", book.topic, book.delta())
        await terminal.until(lambda: ladder(terminal) == truth(exchange, "linear", book))


async def test_a_full_relay_is_asked_again_later(
    exchange: StandIn, programs: Programs, book: BookFeed
) -> None:
    relay = await programs.daphne(exchange.url, RELAY_MAX_CONNECTIONS="1")
    async with client(relay.url()) as first:
        await first.subscribe(book.topic)
        async with Terminal.running(*watch(relay, book.topic), rows=50) as terminal:
            await terminal.until_shown("linear reconnecting: ", "next try in")
            found = re.search(r"next try in (\d+) s", terminal.text)
            assert found
            assert int(found[1]) >= 3
            await first.socket.close()
            await terminal.until_shown("linear live", "spread", seconds=40)


async def test_a_refused_topic_does_not_disturb_the_others(
    exchange: StandIn, programs: Programs, book: BookFeed
) -> None:
    # What the exchange says must not command the terminal.
    exchange.refused["linear", "tickers.NONE"] = "no \x1b[2J\x1b[31msuch,topic:tickers.NONE"
    relay = await programs.daphne(exchange.url)
    async with Terminal.running(*watch(relay, book.topic, "tickers.NONE"), rows=50) as terminal:
        await terminal.until_shown("REFUSED", "such,topic:tickers.NONE", "live", "spread")
        assert b"\x1b[2J\x1b[31msuch" not in terminal.raw


async def test_it_fits_whatever_size_the_terminal_gets(
    exchange: StandIn, programs: Programs, book: BookFeed
) -> None:
    ticker, trades = TickerFeed("BUSDT"), TradesFeed("AUSDT")
    exchange.feeds["linear", ticker.topic] = ticker.greeting
    exchange.feeds["linear", trades.topic] = lambda: [trades.trade(30)]
    relay = await programs.daphne(exchange.url)
    topics = (book.topic, ticker.topic, trades.topic)
    async with Terminal.running(*watch(relay, *topics), columns=200, rows=60) as terminal:
        await terminal.until_shown("spread", "Last", trades.topic)
        for columns, rows in [(80, 24), (30, 10), (12, 4), (3, 2), (1, 1), (300, 90), (60, 30)]:
            terminal.resize(columns, rows)
            before = len(terminal.raw)
            await terminal.until(lambda n=before + columns: len(terminal.raw) > n, "a picture")
            await exchange.say("linear", book.topic, book.delta())
        await terminal.until_shown("spread", "Last", book.topic)
        assert all(len(line) <= 60 for line in terminal.lines)
        best = truth(exchange, "linear", book)
        await terminal.until(
            lambda: (shown := ladder(terminal)) and max(shown[0], default=0) == max(best[0])
        )
        terminal.resize(40, 9)
        await terminal.until_shown("2 more do not")
        assert terminal.process.poll() is None


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "Ctrl-C"])
async def test_it_ends_with_success_and_gives_the_terminal_back(
    how: str, exchange: StandIn, programs: Programs, book: BookFeed
) -> None:
    relay = await programs.daphne(exchange.url)
    async with Terminal.running(*watch(relay, book.topic)) as terminal:
        before = terminal.settings
        await terminal.until_shown("spread")
        assert b"\x1b[?1049h" in terminal.raw
        with Stopwatch(terminal.process.pid) as stopwatch:
            if how == "Ctrl-C":
                terminal.type(CTRL_C)
            else:
                terminal.process.send_signal(signal.Signals[how])
            assert await terminal.end() == 0
        assert stopwatch.seconds < 5
        assert terminal.settings == before
        assert terminal.raw.rfind(b"\x1b[?1049l") > terminal.raw.rfind(b"\x1b[?1049h")
        assert terminal.raw.rfind(b"\x1b[?25h") > terminal.raw.rfind(b"\x1b[?25l")
        assert b"Traceback" not in terminal.raw


async def test_a_suspended_one_leaves_the_terminal_and_comes_back(
    exchange: StandIn, programs: Programs, book: BookFeed
) -> None:
    relay = await programs.daphne(exchange.url)
    async with Terminal.running(*watch(relay, book.topic)) as terminal:
        await terminal.until_shown("spread")
        terminal.process.send_signal(signal.SIGTSTP)
        await terminal.until(lambda: terminal.raw.endswith(b"\x1b[?1049l"), "it leaves the screen")
        terminal.process.send_signal(signal.SIGCONT)
        await terminal.until(lambda: terminal.raw.count(b"\x1b[?1049h") == 2, "it comes back")
        await terminal.until_shown("live", "spread")
        terminal.process.send_signal(signal.SIGTERM)
        assert await terminal.end() == 0


async def test_a_fast_market_is_drawn_ten_times_a_second_at_most(programs: Programs) -> None:
    port = await programs.simulator("--rate", "200")
    relay = await programs.daphne(f"ws://127.0.0.1:{port}/v5/public")
    async with Terminal.running(*watch(relay, "orderbook.50.BTCUSDT")) as terminal:
        await terminal.until_shown("live", "spread")
        terminal.catch_up()
        began, before = time.monotonic(), terminal.raw.count(b"\x1b[H")
        await asyncio.sleep(2)
        await terminal.until(lambda: terminal.raw.count(b"\x1b[H") > before + 2, "pictures")
        drawn = terminal.raw.count(b"\x1b[H") - before
        assert drawn <= 10 * (time.monotonic() - began) + 2


# ---- in a pipe ----


@contextmanager
def piped(*command: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run a command whose lines a thread reads; yield it with the list that they go to."""
    with running(*command) as process:
        os.set_blocking(process.stdout.fileno(), False)  # type: ignore[union-attr]
        lines: list[str] = []
        yield process, lines


def drain(process: subprocess.Popen[str], into: list[str]) -> list[str]:
    """Take what has been written so far."""
    assert process.stdout is not None
    while chunk := process.stdout.readline():
        into.append(chunk)
    return into


async def test_each_message_is_a_line_with_the_best_prices(
    exchange: StandIn, programs: Programs, book: BookFeed
) -> None:
    relay = await programs.daphne(exchange.url)
    with piped(*watch(relay, book.topic)) as (process, lines):
        await until(lambda: drain(process, lines), PATIENCE, "the snapshot")
        for _ in range(50):
            await exchange.say("linear", book.topic, book.delta())
        await until(lambda: len(drain(process, lines)) >= 51, PATIENCE, "all lines")
        said = follow(book.topic, exchange.said["linear", book.topic])
        assert isinstance(said.state, Book)
        best = [
            (max(bids), bids[max(bids)], min(asks), asks[min(asks)])
            for bids, asks in said.state.history.values()
        ]
        shown = [
            tuple(map(Decimal, found.groups()))
            for line in lines
            if (found := re.search(r" bid (\S+) x (\S+) ask (\S+) x (\S+) spread", line))
        ]
        assert shown == best
        moments = [line.split()[0] for line in lines]
        last = json.loads(said.texts[-1])
        assert moments[-1] == moment(last["cts"])
        assert all(line.split()[1] == f"linear:{book.topic}" for line in lines)


async def test_each_trade_is_a_line_once_even_after_a_loss(
    exchange: StandIn, programs: Programs
) -> None:
    trades = TradesFeed("AUSDT")
    relay = await programs.daphne(exchange.url)
    with piped(*watch(relay, trades.topic)) as (process, lines):
        await exchange.until_followed("linear", trades.topic)
        await exchange.say("linear", trades.topic, trades.trade(5))
        await until(lambda: len(drain(process, lines)) == 5, PATIENCE, "five trades")
        async with client(relay.url()) as other:  # keeps the relay's memory of them
            await other.subscribe(trades.topic)
            relay.program.signal(signal.SIGTERM)
            await other.until_closed()
        await relay.program.end()
        relay = await restarted(programs, exchange, relay)
        await exchange.until_followed("linear", trades.topic)
        await exchange.say("linear", trades.topic, trades.trade(4))
        await until(lambda: len(drain(process, lines)) >= 9, PATIENCE, "nine trades")
        rows = [
            row
            for text in exchange.said["linear", trades.topic]
            for row in json.loads(text)["data"]
        ]
        assert [line.split(None, 2)[2].strip() for line in lines] == [
            f"{row['S']} {row['v']} @ {row['p']}" for row in rows
        ]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


async def test_a_reader_that_leaves_ends_it_quietly(programs: Programs) -> None:
    port = await programs.simulator("--rate", "50")
    relay = await programs.daphne(f"ws://127.0.0.1:{port}/v5/public")
    with running(*watch(relay, "orderbook.50.BTCUSDT", "spot:tickers.BTCUSDT")) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert await asyncio.to_thread(process.stdout.readline)
        process.stdout.close()
        assert await asyncio.to_thread(process.wait, PATIENCE) == 0
        errors = await asyncio.to_thread(process.stderr.read)
        assert all(" is live" in line for line in errors.splitlines())
        process.stdout = None


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_reader_that_stands_still_does_not_keep_it_from_ending(
    number: signal.Signals, programs: Programs
) -> None:
    port = await programs.simulator("--rate", "500")
    relay = await programs.daphne(f"ws://127.0.0.1:{port}/v5/public")
    with running(*watch(relay, "orderbook.1.BTCUSDT", "orderbook.50.ETHUSDT")) as process:
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        await until(lambda: _waiting(descriptor) > 60_000, PATIENCE, "the pipe is full")
        with Stopwatch(process.pid) as stopwatch:
            process.send_signal(number)
            assert await asyncio.to_thread(process.wait, PATIENCE) == 0
        assert stopwatch.seconds < 5
        _, errors = process.communicate()
        assert "Stopped without" not in errors
        assert "Traceback" not in errors


def _waiting(descriptor: int) -> int:
    """Return how many bytes of a pipe nobody has read."""
    import array
    import fcntl
    import termios

    count = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return count[0]


# ---- what it refuses ----


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "The following arguments are required: TOPIC."),
        (["candles.X"], "Unknown topic: candles.X."),
        (["spot:orderbook.7.X"], "Bad levels: 7; spot has 1, 50, 200, 500, 1000."),
        (["tickers.-BTC"], "Bad symbol: -BTC."),
        (["tickers.X", "--url", "http://x"], "--url must be a ws:// or wss:// address: 'http://x'"),
        (["tickers.X", "--url", "ws://x:y"], "--url must be a ws:// or wss:// address: 'ws://x:y'"),
        (["tickers.X", "--url", "ws:///x"], "--url must be a ws:// or wss:// address: 'ws:///x'"),
        (["tickers.X", "--nonsense"], "Unrecognized arguments: --nonsense."),
    ],
)
def test_a_wrong_argument_ends_it_with_one_sentence_and_status_2(
    arguments: list[str], words: str
) -> None:
    ended = refused("watch", *arguments)
    assert (ended.status, ended.output) == (2, "")
    assert ended.errors.startswith(words)
    assert ended.errors.count("\n") == 1


@pytest.mark.parametrize(
    ("path", "topics", "words"),
    [
        ("/nope", ["tickers.X"], "The relay closed the connection: there is no such path"),
        ("/v5/public/linear", ["tickers.X"], "speaks Bybit's dialect alone: name the relay's /ws."),
        ("/ws?category=spot", ["tickers.X"], "The relay refuses linear:tickers.X (this connection"),
        ("/ws", ["tickers.NONE", "spot:tickers.NO"], "linear:tickers.NONE (no such thing); spot:"),
    ],
)
async def test_a_relay_that_will_not_have_it_ends_it_with_status_2(
    path: str, topics: list[str], words: str, exchange: StandIn, programs: Programs
) -> None:
    exchange.refused["linear", "tickers.NONE"] = "no such thing"
    exchange.refused["spot", "tickers.NO"] = "nor this"
    relay = await programs.daphne(exchange.url)
    command = (*MANAGE, "watch", "--url", relay.url(path), *topics)
    result = await asyncio.to_thread(run, *command)
    assert (result.returncode, result.stdout) == (2, "")
    assert words in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    async with Terminal.running(*command, columns=200) as terminal:
        assert await terminal.end() == 2
        assert words in terminal.text
        assert terminal.raw.rfind(b"\x1b[?1049l") > terminal.raw.rfind(b"\x1b[?1049h")


async def test_an_address_that_is_no_relay_ends_it_and_a_dead_one_is_tried_again(
    exchange: StandIn, programs: Programs
) -> None:
    address = f"ws://127.0.0.1:{await programs.simulator()}/ws"  # answers 404
    result = await asyncio.to_thread(run, *MANAGE, "watch", "tickers.X", "--url", address)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"{address} is not a relay: it answers HTTP 404.\n"
    dead = f"ws://127.0.0.1:{free_port()}/ws"
    program = programs.start("watch", *MANAGE, "watch", "tickers.X", "--url", dead)
    await until(lambda: program.output.count("linear is reconnecting") >= 2, PATIENCE, "two tries")
    assert "refused; next try in 0.5 s" in program.output
    program.signal(signal.SIGTERM)
    assert await program.end() == 0


# ---- words ----


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (printable("a\x1b[2Jb\x00\u202ec"), "a?[2Jb??c"),
        (fixed("80682", 2), "80682.00"),
        (fixed("0.5", 3), "0.500"),
        (fixed("7", 0), "7"),
        (percent("0.0204"), "+2.04 %"),
        (percent("-0.000125", 4), "-0.0125 %"),
        (percent("0.00005461", 4), "+0.005461 %"),
        (percent(""), "-"),
        (percent("nonsense"), "+0.00 %"),
        (moment(1_700_000_000_007), "2023-11-14T22:13:20.007Z"),
        (clock(1_700_000_000_007), "22:13:20.007"),
        (moment(10**30), "1" + "0" * 30),
        (countdown(3_725.9), "1:02:05"),
        (countdown(-5), "0:00:00"),
    ],
)
def test_words(written: Any, expected: str) -> None:
    assert written == expected
