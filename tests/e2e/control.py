"""The simulator's control endpoint, asked and told by a test."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect


class Control:
    """Commands to one simulator."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def do(self, name: str, **rest: Any) -> dict[str, Any]:
        """Have a command carried out; return its answer."""
        await self._socket.send(json.dumps({"do": name, **rest}))
        answer = json.loads(await self._socket.recv())
        assert answer.pop("ok"), answer
        return answer


@asynccontextmanager
async def control(port: int) -> AsyncIterator[Control]:
    """Reach the simulator that listens on that port."""
    async with connect(f"ws://127.0.0.1:{port}/control", max_size=None) as socket:
        yield Control(socket)
