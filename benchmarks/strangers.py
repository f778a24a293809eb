"""Strangers who ask a web process by HTTP while its sockets are measured.

    python -m benchmarks.strangers PORT PATH RATE

100 strangers, each with an address of loopback and a connection of its own, send RATE requests a
second in all, evenly. The first line of the output comes when all are connected; `stop` on the
input is answered by what came back: `{"200": 1600, "slowest_ms": 4.1}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter

STRANGERS = 100


class Stranger:
    """One address: asks for a path, one request after the other."""

    def __init__(self, number: int, port: int, path: str) -> None:
        self._address = f"127.0.9.{number + 1}"
        self._port = port
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
        self._request = head.encode()
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None

    async def connect(self) -> None:
        """Open a connection."""
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._port, local_addr=(self._address, 0)
        )

    async def ask(self) -> str:
        """Return the status of an answer, read whole."""
        if self._writer is None:
            await self.connect()
        assert self._writer is not None
        try:
            self._writer.write(self._request)
            head = await self._reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin1").lower().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
            if "content-length" in headers:
                await self._reader.readexactly(int(headers["content-length"]))
            elif "chunked" in headers.get("transfer-encoding", ""):
                await self._reader.readuntil(b"0\r\n\r\n")
            return lines[0].split()[1]
        except (OSError, EOFError):
            self._writer = None
            return "lost"


async def _ask_evenly(strangers: list[Stranger], rate: float, seen: Counter[str]) -> None:
    """Send requests until cancelled; each waits until its stranger has had its last answer."""
    slowest = 0.0
    free = asyncio.Queue[Stranger]()
    for stranger in strangers:
        free.put_nowait(stranger)

    async def ask(stranger: Stranger) -> None:
        nonlocal slowest
        begun = time.monotonic()
        seen[await stranger.ask()] += 1
        slowest = max(slowest, time.monotonic() - begun)
        seen["slowest_ms"] = round(slowest * 1000)
        free.put_nowait(stranger)

    tasks: set[asyncio.Task[None]] = set()
    due = time.monotonic()
    while True:
        task = asyncio.create_task(ask(await free.get()))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _main(port: int, path: str, rate: float) -> None:
    strangers = [Stranger(number, port, path) for number in range(STRANGERS)]
    await asyncio.gather(*(stranger.connect() for stranger in strangers))
    print("{}", flush=True)
    seen: Counter[str] = Counter()
    asking = asyncio.create_task(_ask_evenly(strangers, rate, seen))
    while (line := await asyncio.to_thread(sys.stdin.readline)).strip() != "stop":
        if not line:
            break
        seen.clear()  # `start`
        print("{}", flush=True)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
