"""The network between one process and Redis, to be cut by a test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field

PART = 65_536  # bytes; the kernel holds no more either, so that who does not read is felt


@dataclass(eq=False, slots=True)
class _Pipe:
    """One connection through the cable."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter | None = None
    flows: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, *, reset: bool) -> None:
        for writer in (self.near, self.far):
            if writer is not None:
                if reset:
                    _reset_on_close(writer)
                writer.transport.abort()


class Cable:
    """Carries TCP connections to a port of this machine, until it is cut.

    Attributes:
        port: Where to connect instead.
        pipes: Connections through it that have not ended.
    """

    def __init__(self, far_port: int) -> None:
        self.port = 0
        self.pipes: set[_Pipe] = set()
        self._far_port = far_port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_black_hole = False
        self._refuses = False

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for pipe in list(self.pipes):
            pipe.end(reset=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def black_hole(self) -> None:
        """Swallow whatever comes from either side, newcomers included, and say nothing."""
        self._is_black_hole = True
        for pipe in self.pipes:
            pipe.flows.clear()

    def cut(self) -> None:
        """Reset every connection and those that are tried."""
        self._refuses = True
        for pipe in list(self.pipes):
            pipe.end(reset=True)

    def mend(self, *, forget: bool = False) -> None:
        """Carry again.

        Args:
            forget: What was swallowed never arrives, and connections of before stay dead without
                a word, as behind a router that has lost its table; else TCP has repeated it all.
        """
        self._is_black_hole = self._refuses = False
        if not forget:
            for pipe in self.pipes:
                pipe.flows.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        pipe = _Pipe(writer)
        self.pipes.add(pipe)
        try:
            if self._refuses:
                return
            if not self._is_black_hole:
                pipe.flows.set()
            await pipe.flows.wait()
            far_reader, pipe.far = await self._reach()
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PART)
            async with asyncio.TaskGroup() as group:
                there = group.create_task(_carry(reader, pipe.far, pipe.flows))
                back = group.create_task(_carry(far_reader, writer, pipe.flows))
                await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
                there.cancel()
                back.cancel()
        except (OSError, asyncio.CancelledError):
            pass  # nobody listens at the far end, or the test is over
        finally:
            self.pipes.discard(pipe)
            self._tasks.discard(task)
            pipe.end(reset=self._refuses)

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PART)  # only before it connects
        raw.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self._far_port))
        except BaseException:
            raw.close()
            raise
        return await asyncio.open_connection(sock=raw)


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event
) -> None:
    with contextlib.suppress(OSError):
        while True:
            await flows.wait()
            part = await reader.read(PART)
            await flows.wait()
            if not part:
                return
            writer.write(part)
            await writer.drain()


def _reset_on_close(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
