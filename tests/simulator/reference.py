"""A reader of the exchange's messages that shares nothing with the simulator nor the relay."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from relay.simulator.server import Simulator
from tests.processes import PATIENCE, until

Message = dict[str, Any]


class ReferenceBook:
    """A local book that is strict about every promise of the exchange."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.bids: dict[Decimal, Decimal] = {}
        self.asks: dict[Decimal, Decimal] = {}
        self.u = self.seq = 0

    def apply(self, message: Message) -> None:
        data = message["data"]
        assert data["seq"] >= self.seq, "seq went back"
        if message["type"] == "snapshot":
            self.bids, self.asks = {}, {}
        else:
            assert data["u"] == self.u + 1, f"u {data['u']} after {self.u}"
            assert data["b"] or data["a"], "an empty delta"
        self._amend(self.bids, data["b"], falling=True)
        self._amend(self.asks, data["a"], falling=False)
        self.u, self.seq = data["u"], data["seq"]
        assert len(self.bids) == len(self.asks) == self.depth
        assert max(self.bids) < min(self.asks), "crossed"
        assert message["cts"] <= message["ts"]

    def _amend(
        self, side: dict[Decimal, Decimal], levels: list[list[str]], *, falling: bool
    ) -> None:
        prices = [Decimal(price) for price, _ in levels]
        assert prices == sorted(set(prices), reverse=falling), "not sorted, or a price twice"
        for price, size in zip(prices, (Decimal(size) for _, size in levels), strict=True):
            assert side.get(price, Decimal(0)) != size, f"a level that changes nothing: {price}"
            if size:
                side[price] = size
            else:
                del side[price]

    def levels(self) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        return sorted(self.bids.items(), reverse=True), sorted(self.asks.items())


def levels_of(data: Message) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
    """Return the levels of a message's `data`, or of a control answer, as numbers."""
    bids, asks = ([(Decimal(p), Decimal(s)) for p, s in data[side]] for side in "ba")
    return bids, asks


class Client:
    """One client of the simulated exchange."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, **request: Any) -> None:
        await self.connection.send(json.dumps(request))

    async def receive(self) -> Message:
        async with asyncio.timeout(PATIENCE):
            message: Message = json.loads(await self.connection.recv())
            return message

    async def ask(self, **request: Any) -> Message:
        """Send a request and return what comes next."""
        await self.send(**request)
        return await self.receive()

    async def subscribe(self, *topics: str) -> list[Message]:
        """Subscribe and return everything up to the ack, the ack last."""
        await self.send(op="subscribe", args=list(topics))
        return await self.until(lambda message: "success" in message)

    async def until(self, condition: Callable[[Message], bool]) -> list[Message]:
        """Return everything up to the first message that meets the condition."""
        seen = [await self.receive()]
        while not condition(seen[-1]):
            seen.append(await self.receive())
        return seen


class Control(Client):
    """The control endpoint of a simulator."""

    async def do(self, name: str, **arguments: Any) -> Message:
        answer = await self.ask(do=name, **arguments)
        assert answer.pop("ok"), answer
        return answer


@asynccontextmanager
async def client(simulator: Simulator, category: str) -> AsyncIterator[Client]:
    async with connect(
        f"{simulator.url}/{category}",
        compression=None,
        max_size=None,
        ping_interval=None,
        close_timeout=0.5,  # a simulator that was struck dumb does not answer
    ) as connection:
        yield Client(connection)


@asynccontextmanager
async def control(simulator: Simulator) -> AsyncIterator[Control]:
    async with connect(simulator.control_url, max_size=None) as connection:
        yield Control(connection)


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition holds; it is asked again and again."""
    await until(condition, PATIENCE, "what the test waits for")
