"""`manage.py watch`: topics of a relay in the terminal, or as plain lines in a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from io import TextIOWrapper
from typing import Any, cast
from urllib.parse import urlsplit

from django.core.management.base import BaseCommand, CommandParser
from rich.live import Live

from relay.bybit.frames import Frame
from relay.bybit.topics import Category, Topic
from relay.lib.clock import wall_ms
from relay.management.base import CannotStart, RelayCommand
from relay.management.state_line import is_terminal, logs_to, screen_console
from relay.management.topics import add_topics
from relay.terminal.feed import OnMessage, TopicFeed, Unwelcome
from relay.terminal.followed import Followed, Trade
from relay.terminal.lines import Output, ReaderGone, lines
from relay.terminal.screen import Screen

DEFAULT_URL = "ws://127.0.0.1:8000/ws"
REDRAW = 0.1  # seconds between two drawings at least
REDRAW_SHARE = 4  # and so many times what drawing one took: a quarter of a core at most
QUIET_REDRAW = 1.0  # seconds at most: ages and countdowns go on


class Command(RelayCommand):
    """Shows a live book, tape or ticker of each topic."""

    help = (
        "Follow topics of a relay: a panel each on a terminal; elsewhere a line for each message "
        "(for each trade), with the state of the connections on standard error."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        add_topics(parser, "what to watch")
        parser.add_argument(
            "--url", type=_url, default=DEFAULT_URL, help=f"of the relay (default: {DEFAULT_URL})"
        )

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run whatever the settings are: none of them matters here."""
        return BaseCommand.execute(self, *args, **options)

    def handle(self, *args: Any, **options: Any) -> None:
        """Follow until a signal."""
        if sys.stdout is None:
            raise CannotStart("There is no standard output to write to.")
        show = _draw if is_terminal() else _write
        try:
            self.run_until_stopped(show(options["url"], options["topics"]))
        except Unwelcome as fault:
            raise CannotStart(str(fault)) from None


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        is_usable = parts.scheme in ("ws", "wss") and parts.hostname and not parts.fragment
        _ = parts.port  # raises ValueError when it is none
    except ValueError:
        is_usable = False
    if not is_usable or not text.isprintable() or " " in text:
        raise CannotStart(f"--url must be a ws:// or wss:// address: {text[:80]!r}.")
    return text


async def _write(url: str, topics: list[Topic]) -> None:
    """Write plain lines."""
    output = Output(sys.stdout.fileno())

    async def write(followed: Followed, frame: Frame, trades: list[Trade]) -> None:
        await output.write("".join(f"{line}\n" for line in lines(followed, frame, trades)))

    with contextlib.suppress(ReaderGone):
        await _until_one_ends(_feeds(url, topics, write, lambda: None))


async def _draw(url: str, topics: list[Topic]) -> None:
    """Draw panels, at a bounded rate, when something has changed."""
    is_changed = asyncio.Event()

    async def note(followed: Followed, frame: Frame, trades: list[Trade]) -> None:
        is_changed.set()

    feeds = _feeds(url, topics, note, is_changed.set)
    loop = asyncio.get_running_loop()
    log = io.StringIO()
    if sys.stderr.isatty():
        logging.getLogger("relay.terminal").setLevel(logging.ERROR)  # the screen tells the rest
    cast(TextIOWrapper, sys.stdout).reconfigure(errors="replace")
    live = Live(
        console=screen_console(),
        screen=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )

    def suspend() -> None:
        live.stop()
        os.kill(os.getpid(), signal.SIGSTOP)
        live.start()
        is_changed.set()

    loop.add_signal_handler(signal.SIGWINCH, is_changed.set)
    loop.add_signal_handler(signal.SIGTSTP, suspend)
    try:
        with (
            contextlib.suppress(OSError),  # the terminal is gone
            logs_to(log if sys.stderr.isatty() else sys.stderr),
            live,
        ):
            drawing = _redraw(live, Screen(url, feeds), is_changed)
            await _until_one_ends(feeds, drawing)
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.write(log.getvalue())


async def _redraw(live: Live, screen: Screen, is_changed: asyncio.Event) -> None:
    while True:
        began = time.monotonic()
        is_changed.clear()
        columns, rows = os.get_terminal_size(sys.stdout.fileno())
        columns, rows = columns or 80, rows or 24  # what a serial line says of itself
        live.console.size = (columns, rows)
        drawn = screen.draw(columns, rows, began, wall_ms())
        live.update(drawn, refresh=True)
        took = time.monotonic() - began
        await asyncio.sleep(max(REDRAW - took, (REDRAW_SHARE - 1) * took))
        try:
            async with asyncio.timeout(QUIET_REDRAW):
                await is_changed.wait()
        except TimeoutError:
            pass


def _feeds(
    url: str, topics: list[Topic], on_message: OnMessage, on_change: Callable[[], None]
) -> list[TopicFeed]:
    """Return a feed for each category: a connection has one."""
    by_category: dict[Category, list[Topic]] = {}
    for topic in dict.fromkeys(topics):
        by_category.setdefault(topic.category, []).append(topic)
    return [
        TopicFeed(url, its_topics, on_message=on_message, on_change=on_change)
        for its_topics in by_category.values()
    ]


async def _until_one_ends(feeds: list[TopicFeed], *others: Awaitable[None]) -> None:
    """Run feeds, and what goes with them, until one fails or all topics have been refused.

    Raises:
        Unwelcome: nothing is left to follow.
    """
    running = {asyncio.ensure_future(feed.run()) for feed in feeds}
    beside = {asyncio.ensure_future(other) for other in others}
    try:
        while running:
            ended, _ = await asyncio.wait(running | beside, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
            running -= ended
    finally:
        for task in running | beside:
            task.cancel()
        await asyncio.gather(*running, *beside, return_exceptions=True)
    refused = [f"{one.topic} ({one.words})" for feed in feeds for one in feed.topics.values()]
    raise Unwelcome(f"The relay refuses {'; '.join(refused)}.")
