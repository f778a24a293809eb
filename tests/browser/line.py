"""A line between a page and the relay that a test can hold up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Self

from tests.redis_server import free_port

CHUNK = 4_096  # bytes: nothing waits on the line itself


class Line:
    """A port that leads to the relay's; while `may_read` is clear, nothing comes from there."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.may_read = asyncio.Event()
        self.may_read.set()
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *fault: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK)
        line.setblocking(False)
        await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", self._target))
        far, forth = await asyncio.open_connection(sock=line, limit=CHUNK)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(near, forth, is_held=False))
                both.create_task(self._pump(far, back, is_held=True))
        finally:
            self._tasks.discard(task)
            for writer in (forth, back):
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, is_held: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK):
                if is_held:
                    await self.may_read.wait()
                target.write(data)
                await target.drain()
        with contextlib.suppress(OSError):
            if target.can_write_eof():
                target.write_eof()
