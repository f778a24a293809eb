"""The simulated exchange over real sockets on the loopback interface."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from relay.simulator.server import Simulator
from relay.simulator.topics import Category
from tests.processes import PATIENCE
from tests.simulator.reference import ReferenceBook, client, control, eventually, levels_of

BOOK = "orderbook.50.BTCUSDT"
START = 1_700_000_000_000


class Clock:
    """A clock that stands until it is told to go."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


async def test_a_followed_book_is_the_exchanges_book_at_rest() -> None:
    async with (
        Simulator(rate=100) as simulator,
        client(simulator, "linear") as one,
        control(simulator) as control_,
    ):
        book = ReferenceBook(50)
        *greeting, ack = await one.subscribe(BOOK)
        assert ack["success"]
        for message in greeting:
            book.apply(message)
        for _ in range(50):
            book.apply(await one.receive())
        await control_.do("pause")
        truth = await control_.do("book", category="linear", topic=BOOK)
        while book.u < truth["u"]:
            book.apply(await one.receive())
        assert (book.u, book.seq) == (truth["u"], truth["seq"])
        assert book.levels() == levels_of(truth)


async def test_two_sockets_read_the_same_frames() -> None:
    async with (
        Simulator() as simulator,
        client(simulator, "spot") as one,
        client(simulator, "spot") as other,
        control(simulator) as control_,
    ):
        await control_.do("pause")
        for reader in (one, other):
            await reader.subscribe(BOOK)
            await reader.receive()  # the snapshot
        await control_.do("step", category="spot", symbol="BTCUSDT", count=5)
        heard = [[await reader.receive() for _ in range(5)] for reader in (one, other)]
        assert heard[0] == heard[1]


@pytest.mark.parametrize("category", Category)
async def test_the_same_seed_gives_the_same_messages(category: Category) -> None:
    symbol = {"inverse": "BTCUSD", "option": "BTC-25JUN27-80000-C-USDT"}.get(category, "BTCUSDT")
    depth = 100 if category is Category.OPTION else 50

    async def hear(seed: int) -> list[Any]:
        clock = Clock()
        async with (
            Simulator(seed=seed, clock=clock) as simulator,
            client(simulator, category) as one,
            control(simulator) as control_,
        ):
            await control_.do("pause")
            topics = [f"orderbook.{depth}.{symbol}", f"tickers.{symbol}"]
            await one.send(op="subscribe", args=topics)
            for _ in range(30):
                clock.now += 100
                await control_.do("step", category=category, symbol=symbol)
            await one.send(op="ping")
            return await one.until(lambda m: "pong" in (m.get("ret_msg"), m.get("op")))

    first, again, other = await hear(1), await hear(1), await hear(2)
    assert first == again
    assert first != other
    assert len(first) > 50


async def test_a_quiet_level_one_is_said_again_with_its_update_id() -> None:
    clock = Clock()
    async with (
        Simulator(clock=clock) as simulator,
        client(simulator, "linear") as one,
        control(simulator) as control_,
    ):
        await control_.do("pause")
        first, _ = await one.subscribe("orderbook.1.BTCUSDT")
        clock.now += 3000
        again = await one.receive()
        assert again["data"]["u"] == first["data"]["u"]
        assert again["ts"] == START + 3000


async def test_a_path_that_is_not_the_exchanges_is_not_found() -> None:
    async with Simulator() as simulator:
        for path in ("/v5/public/spread", "/v5/public", "/", "/v5/private"):
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://127.0.0.1:{simulator.port}{path}")
            assert refused.value.response.status_code == 404


async def test_a_query_string_is_accepted() -> None:
    async with Simulator() as simulator, connect(f"{simulator.url}/spot?x=1") as connection:
        await connection.send('{"op":"ping"}')
        assert json.loads(await connection.recv())["ret_msg"] == "pong"


async def test_protocol_pings_are_answered() -> None:
    async with Simulator() as simulator, connect(f"{simulator.url}/linear") as connection:
        await asyncio.wait_for(await connection.ping(), PATIENCE)


async def test_a_reader_that_does_not_read_is_cut_off_alone() -> None:
    async with (
        Simulator(rate=1000, unsent_limit=100_000) as simulator,
        client(simulator, "linear") as good,
    ):
        stuck = socket.create_connection(("127.0.0.1", simulator.port))
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        loop = asyncio.get_running_loop()
        stuck.setblocking(False)
        await loop.sock_sendall(
            stuck,
            b"GET /v5/public/linear HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n",
        )
        request = b'{"op":"subscribe","args":["orderbook.1000.BTCUSDT"]}'
        frame = bytes((0x81, 0x80 | len(request), 0, 0, 0, 0)) + request
        await eventually(lambda: len(simulator.sockets) == 2)
        await good.subscribe(BOOK)
        again = request.replace(b"subscribe", b"unsubscribe")
        undo = bytes((0x81, 0x80 | len(again), 0, 0, 0, 0)) + again

        async def flood() -> None:
            while True:
                await loop.sock_sendall(stuck, frame + undo)

        flooding = asyncio.create_task(flood())
        try:
            await eventually(lambda: len(simulator.sockets) == 1)
        finally:
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)
            stuck.close()
        assert (await good.receive())["topic"] == BOOK


async def test_leaving_the_simulator_ends_every_connection_at_once() -> None:
    async with Simulator() as simulator:
        one = await connect(f"{simulator.url}/linear")
    with pytest.raises(ConnectionClosedError):
        await asyncio.wait_for(one.recv(), PATIENCE)
    await one.wait_closed()


async def test_many_symbols_can_be_followed() -> None:
    async with (
        Simulator(symbols=300, rate=5) as simulator,
        client(simulator, "linear") as one,
    ):
        topics = [f"orderbook.50.SIM{n:04}USDT" for n in range(1, 201)]
        *greeting, ack = await one.subscribe(*topics)
        assert ack["success"]
        books = {topic: ReferenceBook(50) for topic in topics}
        for message in greeting:
            books[message["topic"]].apply(message)
        live = set()
        while len(live) < len(topics):
            message = await one.receive()
            books[message["topic"]].apply(message)
            live.add(message["topic"])


async def test_a_market_that_nobody_follows_stands_still() -> None:
    async with (
        Simulator(rate=100) as simulator,
        client(simulator, "linear") as one,
    ):
        await one.subscribe(BOOK)
        await one.receive()
        await one.send(op="unsubscribe", args=[BOOK])
        await one.until(lambda message: message.get("op") == "unsubscribe")
        assert simulator.exchange.followed == {}
        one_more = simulator.exchange.listing(Category.LINEAR, "BTCUSDT", 0)
        await eventually(lambda: not one_more.is_scheduled)
        await one.subscribe(BOOK)
        assert (await one.receive())["topic"] == BOOK


async def test_a_client_that_is_gone_is_forgotten() -> None:
    async with Simulator() as simulator:
        async with client(simulator, "linear") as one:
            await one.subscribe(BOOK, "tickers.BTCUSDT")
            assert len(simulator.exchange.followed) == 2
        await eventually(lambda: not simulator.exchange.followed)


async def test_a_step_is_told_as_trades_then_books_then_ticker() -> None:
    async with (
        Simulator() as simulator,
        client(simulator, "linear") as one,
        control(simulator) as control_,
    ):
        await control_.do("pause")
        feeds = ["tickers", "orderbook.50", "orderbook.1", "publicTrade"]
        await one.subscribe(*[f"{feed}.BTCUSDT" for feed in feeds])
        told: dict[int, list[str]] = {}
        await control_.do("step", category="linear", symbol="BTCUSDT", count=20)
        await one.send(op="ping")
        *messages, _ = await one.until(lambda message: message.get("ret_msg") == "pong")
        for message in messages:
            data = message["data"]
            seq = message.get("cs") or (data[0] if isinstance(data, list) else data)["seq"]
            told.setdefault(seq, []).append(message["topic"].removesuffix(".BTCUSDT"))
        assert max(map(len, told.values())) == 4
        assert all(topics == [t for t in feeds[::-1] if t in topics] for topics in told.values())
