"""Clients of every kind that comes by, each on a plain socket.

A kind is a coroutine that makes one visit. Most visits end by themselves, and the crowd begins the
next one; those that stay are told when the round is `over`, and leave in the way of their kind.
A kind whose name is in `OVERSTAY` keeps its socket open even then, until `released`: the relay has
to let it go by itself. `visit.did(...)` counts what a visit was for: a kind that never did it has
tested nothing.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

from tests.e2e.client import native

TEXT, CLOSE, PING, CONTINUATION = 1, 8, 9, 0
FINAL = 0x80
SMALL_BUFFER = 4_096  # bytes that the kernel takes for a client that reads little
READ_SIZE = 65_536
ANSWER_WITHIN = 60.0  # seconds
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"

SYMBOLS = {
    "spot": ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"),
    "linear": ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"),
    "inverse": ("BTCUSD", "ETHUSD", "XRPUSD"),
    "option": ("BTC-25JUN27-80000-C-USDT", "ETH-25JUN27-2500-C-USDT"),
}
DEPTHS = {"option": (25, 100)}
USUAL_DEPTHS = (1, 50, 200, 1000)
PAGES = (
    "/",
    "/admin/login/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/nothing",
    "/static/relay/marketfeed.js",
    "/symbols.json",
)


def topics_of(category: str) -> list[str]:
    """Return the topics of a category that clients may choose from."""
    topics = []
    for symbol in SYMBOLS[category]:
        depths = DEPTHS.get(category, USUAL_DEPTHS)
        topics += [f"orderbook.{depth}.{symbol}" for depth in depths]
        topics += [f"tickers.{symbol}", f"publicTrade.{symbol.partition('-')[0]}"]
    return list(dict.fromkeys(topics))


class Line:
    """One TCP connection: nothing is read or answered but what a kind reads and answers."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._read = b""

    async def connect(
        self, port: int, *, receive_buffer: int | None = None, address: str | None = None
    ) -> None:
        """Connect to a port of 127.0.0.1.

        Args:
            receive_buffer: Bytes that the kernel takes for this client, if not as many as usual.
            address: Of this client, if not 127.0.0.1.
        """
        if address is not None:
            self._socket.bind((address, 0))
        if receive_buffer is not None:  # before it connects: the window follows from it
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await self._loop.sock_connect(self._socket, ("127.0.0.1", port))

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._socket, data)

    async def read(self, most: int = READ_SIZE) -> bytes:
        """Return what has come; nothing when the relay has ended its side."""
        if self._read:
            data, self._read = self._read[:most], self._read[most:]
            return data
        return await self._loop.sock_recv(self._socket, most)

    async def read_head(self) -> str:
        """Return the head of an HTTP answer."""
        data = b""
        async with asyncio.timeout(ANSWER_WITHIN):
            while b"\r\n\r\n" not in data:
                part = await self.read()
                if not part:
                    raise ConnectionResetError("closed in the handshake")
                data += part
        head, _, self._read = data.partition(b"\r\n\r\n")
        return head.decode("latin1")

    async def read_body(self, head: str) -> None:
        """Read what follows the head of an HTTP answer."""
        length = re.search(r"(?i)^content-length: *(\d+)", head, re.MULTILINE)
        data = b""
        while not (data.endswith(b"0\r\n\r\n") if length is None else len(data) >= int(length[1])):
            part = await self.read()
            if not part:
                raise ConnectionResetError("closed in an answer")
            data += part

    async def get(self, path: str, headers: str = "") -> None:
        """Ask for a page and read it."""
        await self.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode())
        await self.read_body(await self.read_head())

    async def upgrade(self, path: str, headers: str = "") -> None:
        """Become a WebSocket."""
        key = base64.b64encode(os.urandom(16)).decode()
        await self.send(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"{headers}\r\n".encode()
        )
        head = await self.read_head()
        if " 101 " not in head.partition("\r\n")[0]:
            raise ConnectionRefusedError(head.partition("\r\n")[0])

    async def say(self, body: object, opcode: int = TEXT) -> None:
        """Send one message."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        await self.send(frame(data, opcode))

    async def frames(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield (opcode, payload) until the relay has ended its side."""
        data = b""
        while part := await self.read():
            data += part
            while (found := parse(data)) is not None:
                opcode, payload, size = found
                data = data[size:]
                yield opcode, payload

    async def until_closed(self) -> None:
        """Read until the relay has ended its side, whatever comes."""
        with contextlib.suppress(OSError):
            while await self.read():
                pass

    def half_close(self) -> None:
        """Say that nothing more will be sent; go on reading."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Vanish: the relay is told by a reset, and what it had sent is thrown away."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        """End the connection without a close frame."""
        self._socket.close()


def frame(payload: bytes, opcode: int = TEXT, *, final: bool = True) -> bytes:
    """Return one frame of a client, masked with zeros."""
    head = bytes([(FINAL if final else 0) | opcode])
    if len(payload) < 126:
        head += bytes([0x80 | len(payload)])
    elif len(payload) < 65_536:
        head += bytes([0x80 | 126]) + struct.pack(">H", len(payload))
    else:
        head += bytes([0x80 | 127]) + struct.pack(">Q", len(payload))
    return head + bytes(4) + payload


def parse(data: bytes) -> tuple[int, bytes, int] | None:
    """Return opcode, payload and size of the first frame of a server, if it is whole."""
    if len(data) < 2:
        return None
    size, length = 2, data[1] & 127
    if length > 125:
        form = ">H" if length == 126 else ">Q"
        size += struct.calcsize(form)
        if len(data) < size:
            return None
        (length,) = struct.unpack(form, data[2:size])
    if len(data) < size + length:
        return None
    return data[0] & 15, data[size : size + length], size + length


@dataclass
class Visit:
    """One visitor: where it goes, what chance decides for it, and when it has to go.

    Attributes:
        over: Set when those who stay are to leave.
        released: Set when the relay has had its time to let go of those who do not leave.
        tally: What visits did, by kind.
        cookie: Of an operator who has logged in.
    """

    kind: str
    port: int
    cookie: str
    random: Random
    over: asyncio.Event
    released: asyncio.Event
    tally: Counter[str] = field(default_factory=Counter)

    def did(self) -> None:
        """Count that this kind did what it is for."""
        self.tally[self.kind] += 1

    def choose(self) -> tuple[str, str]:
        """Choose a door and its category."""
        category = self.random.choice(list(SYMBOLS))
        door = self.random.choice((f"/ws?category={category}", f"/v5/public/{category}"))
        return door, category

    async def pause(self, least: float = 0.05, most: float = 0.5) -> None:
        """Let some time pass, not longer than the round."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.random.uniform(least, most)):
                await self.over.wait()


@contextlib.asynccontextmanager
async def line_to(
    visit: Visit, path: str | None = None, headers: str = "", receive_buffer: int | None = None
) -> AsyncIterator[Line]:
    """A connection to the relay, a WebSocket if there is a path; closed at the end."""
    line = Line()
    try:
        await line.connect(visit.port, receive_buffer=receive_buffer)
        if path is not None:
            await line.upgrade(path, f"User-Agent: {visit.kind}\r\n{headers}")
        yield line
    finally:
        line.close()


@contextlib.asynccontextmanager
async def reading(line: Line) -> AsyncIterator[asyncio.Task[None]]:
    """Read whatever comes meanwhile."""
    task = asyncio.create_task(line.until_closed())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def request(door: str, op: str, topic: str) -> dict[str, object]:
    """Return a subscribe or unsubscribe in the words of a door."""
    return (
        {"op": op, "args": [topic]} if door.startswith("/v5") else {"method": op, **native(topic)}
    )


async def subscribe_all(line: Line, category: str) -> None:
    """Subscribe every topic of a category, in Bybit's words, ten in a request."""
    topics = topics_of(category)
    for start in range(0, len(topics), 10):
        await line.say({"op": "subscribe", "args": topics[start : start + 10]})


# ---- clients that read ----


async def fast(visit: Visit, headers: str = "") -> None:
    """Follows a few topics for a while and says goodbye."""
    door, category = visit.choose()
    async with line_to(visit, door, headers) as line:
        for topic in visit.random.sample(topics_of(category), 3):
            await line.say(request(door, "subscribe", topic))
        messages, most = 0, visit.random.randrange(20, 200)
        async for opcode, _ in line.frames():
            messages += opcode == TEXT
            if opcode == CLOSE or messages > most or visit.over.is_set():
                break
        if messages > 10:
            visit.did()
        await line.say(struct.pack(">H", 1000), CLOSE)
        await line.until_closed()


async def compressed(visit: Visit) -> None:
    """The same with permessage-deflate."""
    await fast(visit, DEFLATE)


async def slow(visit: Visit) -> None:
    """Follows everything and reads a few kilobytes a second."""
    headers = visit.random.choice(("", DEFLATE))
    async with line_to(visit, "/ws?category=linear", headers, SMALL_BUFFER) as line:
        await subscribe_all(line, "linear")
        while not visit.over.is_set() and await line.read(1024):
            visit.did()
            await visit.pause(0.1, 0.3)


async def dropping(visit: Visit) -> None:
    """Follows something, reads a little and is gone without a close frame."""
    door, category = visit.choose()
    async with line_to(visit, door) as line:
        await line.say(request(door, "subscribe", visit.random.choice(topics_of(category))))
        await line.read()
        visit.did()
        await visit.pause()


async def vanishing(visit: Visit) -> None:
    """Is gone in the middle of everything, by a reset."""
    async with line_to(visit, "/v5/public/linear") as line:
        await subscribe_all(line, "linear")
        await visit.pause()
        visit.did()
        line.reset()


async def half_closed(visit: Visit) -> None:
    """Ends its own side and goes on reading."""
    door, category = visit.choose()
    async with line_to(visit, door) as line:
        await line.say(request(door, "subscribe", visit.random.choice(topics_of(category))))
        await line.read()
        line.half_close()
        await line.until_closed()
        visit.did()


# ---- clients that do not read ----


async def silent(visit: Visit) -> None:
    """Follows everything and reads nothing, until it is thrown out."""
    headers = visit.random.choice(("", DEFLATE))
    async with line_to(visit, "/v5/public/linear", headers, SMALL_BUFFER) as line:
        await subscribe_all(line, "linear")
        visit.did()
        await visit.released.wait()


async def pinging(visit: Visit) -> None:
    """The same, and sends pings."""
    async with line_to(visit, "/ws?category=linear", "", SMALL_BUFFER) as line:
        await subscribe_all(line, "linear")
        visit.did()
        with contextlib.suppress(ConnectionError):
            while not visit.released.is_set():
                await line.say(b"x" * 100, PING)
                await asyncio.sleep(0.05)
        await visit.released.wait()


async def asking(visit: Visit) -> None:
    """The same, and sends requests whose answers it does not read."""
    async with line_to(visit, "/ws?category=linear", "", SMALL_BUFFER) as line:
        await subscribe_all(line, "linear")
        visit.did()
        with contextlib.suppress(ConnectionError):
            while not visit.released.is_set():
                await line.say({"method": "list", "id": "x" * 60})
                await asyncio.sleep(0.1)
        await visit.released.wait()


async def closing(visit: Visit) -> None:
    """Follows everything, reads nothing, and sends a close frame when much is waiting for it."""
    async with line_to(visit, "/v5/public/linear", "", SMALL_BUFFER) as line:
        await subscribe_all(line, "linear")
        await visit.pause(2, 5)
        await line.say(struct.pack(">H", 1000), CLOSE)
        visit.did()
        await visit.released.wait()


# ---- clients that want much, or what is not there ----


async def changing(visit: Visit) -> None:
    """Subscribes and unsubscribes, in both orders and without waiting."""
    door, category = visit.choose()
    topics = topics_of(category)
    async with line_to(visit, door) as line, reading(line):
        for _ in range(visit.random.randrange(5, 30)):
            topic = visit.random.choice(topics)
            for op in visit.random.choice((("subscribe",), ("subscribe", "unsubscribe"))):
                await line.say(request(door, op, topic))
            await visit.pause(0.01, 0.1)
        visit.did()


async def inventing(visit: Visit) -> None:
    """Subscribes symbols that do not exist, among some that do."""
    door, category = visit.choose()
    async with line_to(visit, door) as line, reading(line):
        for _ in range(visit.random.randrange(1, 8)):
            name = f"NONE{visit.random.randrange(10**9)}USDT"
            await line.say(request(door, "subscribe", f"tickers.{name}"))
            await line.say(request(door, "subscribe", visit.random.choice(topics_of(category))))
            await visit.pause(0.1, 0.4)
        visit.did()


async def babbling(visit: Visit) -> None:
    """Says what is no request."""
    door, _ = visit.choose()
    things: list[bytes] = [
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"op":"subscribe","args":["candles.1.X",7]}',
        b'{"method":"subscribe","topic":"orderbook","symbol":"' + b"X" * 3000 + b'"}',
        b'{"method":"shout","id":[1]}',
        b"[" * 4000,
    ]
    async with line_to(visit, door) as line:
        for thing in visit.random.sample(things, 4):
            await line.say(thing)
            await line.read()
        visit.did()


async def flooding(visit: Visit) -> None:
    """Sends requests as fast as it can until it is thrown out."""
    door, _ = visit.choose()
    async with line_to(visit, door) as line:
        data = frame(b'{"op":"ping","method":"ping"}') * 50
        with contextlib.suppress(OSError):
            for _ in range(200):
                await line.send(data)
        await line.until_closed()
        visit.did()


async def flooding_with_pings(visit: Visit) -> None:
    """Sends pings as fast as it can and reads nothing."""
    async with line_to(visit, "/ws", "", SMALL_BUFFER) as line:
        data = frame(b"y" * 120, PING) * 50
        with contextlib.suppress(OSError):
            for _ in range(200):
                await line.send(data)
        await line.until_closed()
        visit.did()


async def too_long(visit: Visit) -> None:
    """Sends a message that is too long, or one that never ends."""
    async with line_to(visit, "/ws") as line:
        with contextlib.suppress(OSError):
            if visit.random.random() < 0.5:
                await line.say(b"x" * 100_000)
            else:
                await line.send(frame(b"z" * 4000, final=False))
                for _ in range(50):
                    await line.send(frame(b"z" * 4000, CONTINUATION, final=False))
        await line.until_closed()
        visit.did()


async def breaking(visit: Visit) -> None:
    """Breaks the rules of WebSocket: an unmasked frame, a reserved bit, an unknown opcode."""
    async with line_to(visit, "/ws") as line:
        await line.send(visit.random.choice((b"\x81\x02hi", b"\xf1\x80\0\0\0\0", frame(b"", 11))))
        await line.until_closed()
        visit.did()


# ---- strangers ----


async def refused(visit: Visit) -> None:
    """Knocks at a door that it may not enter."""
    path, headers = visit.random.choice(
        (
            ("/nowhere", ""),
            ("/v5/public/futures", ""),
            ("/ws?category=futures", ""),
            ("/ws", "Origin: https://elsewhere.example\r\n"),
        )
    )
    async with line_to(visit, path, headers) as line:
        await line.until_closed()
        visit.did()


async def idle(visit: Visit) -> None:
    """Connects and wants nothing."""
    async with line_to(visit, visit.choose()[0]) as line:
        visit.did()
        async with reading(line) as closed:
            waiting = asyncio.ensure_future(visit.over.wait())
            await asyncio.wait([closed, waiting], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()


async def unfinished(visit: Visit) -> None:
    """Begins a request or a handshake and never ends it."""
    beginnings = (
        b"",
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgr",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nabc",
    )
    async with line_to(visit) as line:
        await line.send(visit.random.choice(beginnings))
        visit.did()
        await visit.pause(1, 5)


async def browsing(visit: Visit) -> None:
    """Asks for pages over one connection that is kept alive, and stays a while."""
    paths = (
        "/",
        "/healthz",
        "/symbols.json",
        "/nothing",
        "/static/relay/marketfeed.js",
        "/metrics",
    )
    async with line_to(visit) as line:
        for path in visit.random.sample(paths, 3):
            await line.get(path)
        visit.did()
        await visit.pause(0.1, 2)


async def operating(visit: Visit) -> None:
    """An operator: looks at the live page's figures, by its socket and by its address."""
    headers = f"Cookie: {visit.cookie}\r\nOrigin: http://127.0.0.1\r\n"
    async with line_to(visit, "/admin/relay/livetopic/ws", headers) as line:
        async for opcode, _ in line.frames():
            if opcode == TEXT:
                break
    async with line_to(visit) as line:
        await line.get("/admin/relay/livetopic/live.json", headers)
    visit.did()


Kind = Callable[[Visit], Awaitable[None]]

KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        fast,
        compressed,
        slow,
        dropping,
        vanishing,
        half_closed,
        silent,
        pinging,
        asking,
        closing,
        changing,
        inventing,
        babbling,
        flooding,
        flooding_with_pings,
        too_long,
        breaking,
        refused,
        idle,
        unfinished,
        browsing,
        operating,
    )
}
OVERSTAY = ("silent", "pinging", "asking", "closing")
"""Kinds that do not leave: the relay has to let go of them."""
