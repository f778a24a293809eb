"""`manage.py demo`: the relay and the bundled exchange, started, watched and ended together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from relay import conf
from relay.lib import timing
from relay.management.base import CannotStart, RelayCommand
from relay.management.serving import endpoint, host, import_path, is_free

logger = logging.getLogger(__name__)

START_LIMIT = 20.0  # seconds for each child to listen, on a busy machine


class Command(RelayCommand):
    """Runs the simulator and Daphne as children; when one of the three ends, all end."""

    help = "Serve the relay, fed by the bundled simulator: no internet, no Redis."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare where to listen."""
        parser.add_argument("--port", type=int, default=8000, help="of the pages and the relay")
        parser.add_argument("--interface", default="127.0.0.1", help="address to listen on")
        parser.add_argument("--simulator-port", type=int, help="default: one that is free")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until a signal, or until one of the children ends."""
        if getattr(settings, "ASGI_APPLICATION", "") != "marketfeed.asgi.application":
            raise CannotStart(
                "demo serves the project marketfeed, and these are the settings of another one: "
                "run marketfeed demo."
            )
        port, interface = options["port"], options["interface"]
        if not is_free(interface, port):
            raise CannotStart(
                f"Cannot bind {interface}:{port} (in use or not permitted): choose another port."
            )
        simulator_port = options["simulator_port"] or _free_port()
        is_quiet = options["verbosity"] < 2  # Django's usual verbosity is 1
        self.run_until_stopped(run(interface, port, simulator_port, is_quiet=is_quiet))


async def run(interface: str, port: int, simulator_port: int, *, is_quiet: bool) -> None:
    """Keep both children running, and say where they are; cancelled, end them.

    Args:
        is_quiet: Leave out Daphne's lines for each request, and its hints.

    Raises:
        CommandError: one of them ended by itself.
    """
    children: dict[str, Process] = {}
    try:
        children["simulator"] = await _start(
            *("-m", "django", "run_simulator", "--port", str(simulator_port)),
            output=DEVNULL,  # its state line would run through what Daphne logs
        )
        await _until_it_listens("127.0.0.1", simulator_port, children["simulator"])
        hosts = dict.fromkeys([*settings.ALLOWED_HOSTS, *_hosts_of(interface)])
        children["web server"] = await _start(
            "-m",
            "daphne",
            *(("-v", "0") if is_quiet else ()),
            "-e",
            endpoint(interface, port),
            *("--websocket_timeout", "-1"),  # else a page left open is closed after a day
            "marketfeed.asgi:application",
            UPSTREAM_URL=f"ws://127.0.0.1:{simulator_port}/v5/public",
            REDIS_URL="",  # empty hides the one in .env: the demo is one process
            ALLOWED_HOSTS=",".join(hosts),
        )
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(interface, interface)
        await _until_it_listens(reachable, port, children["web server"])
        _say("marketfeed: http://%s:%d/ (stop with Ctrl-C)", host(interface), port)
        _say("simulated exchange: ws://127.0.0.1:%d/v5/public/{category}", simulator_port)
        await asyncio.wait(
            [asyncio.create_task(child.wait()) for child in children.values()],
            return_when=asyncio.FIRST_COMPLETED,
        )
        raise CommandError(_say_who_ended(children))
    finally:
        await _end(children.values())


async def _start(*arguments: str, output: int | None = None, **variables: str) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", *arguments),
        stdout=output,
        env=os.environ | import_path() | variables,
    )


async def _until_it_listens(host: str, port: int, child: Process) -> None:
    """Return when a child can be reached, or has ended.

    Raises:
        CommandError: it does not listen in time.
    """
    try:
        async with asyncio.timeout(START_LIMIT):
            while child.returncode is None:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection(host, port)
                    writer.close()
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise CommandError(f"nothing listens on port {port} after {START_LIMIT:g} s.") from None


def _hosts_of(interface: str) -> list[str]:
    """Return the interface as `ALLOWED_HOSTS` wants it; none for all interfaces.

    The machine's other addresses stay foreign: any page could reach the demo by a name that leads
    to one of them.
    """
    if interface in ("0.0.0.0", "::"):
        return []
    return [f"[{interface}]" if ":" in interface else interface]


def _say(words: str, *values: object) -> None:
    """Tell the terminal, or the log where that is JSON."""
    if conf.current().log_format == "json":
        logger.info(words, *values)
    else:
        print(words % values, flush=True)


def _say_who_ended(children: dict[str, Process]) -> str:
    ended = {name: child.returncode for name, child in children.items()}
    return "; ".join(
        f"the {name} ended with status {status}"
        for name, status in ended.items()
        if status is not None
    )


async def _end(children: Iterable[Process]) -> None:
    """Ask them to end, and make them; no cancellation on the way leaves one behind."""
    living = [child for child in children if child.returncode is None]
    try:
        for child in living:
            child.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timing.CHILD_STOP_LIMIT):
                await asyncio.gather(*(child.wait() for child in living))
    finally:
        for child in living:
            if child.returncode is None:
                child.kill()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
