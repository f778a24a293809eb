"""A name server that knows one name, in the place of Docker's own."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

QUESTION = slice(12, None)  # behind the header of a query with one question and no more
ADDRESS = 1  # record type A
EXISTS_NOT = 3


class Names(asyncio.DatagramProtocol):
    """Answers each question for `name` with every address, for one second."""

    def __init__(self, name: str) -> None:
        self.addresses: list[str] = []
        self._wanted = b"".join(bytes([len(part)]) + part for part in name.encode().split(b"."))

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        question = data[QUESTION]
        end = question.index(0) + 5  # the closing zero, type and class
        name, kind = question[: end - 5], struct.unpack("!H", question[end - 4 : end - 2])[0]
        known = name == self._wanted
        found = self.addresses if known and kind == ADDRESS else []
        flags = 0x8180 | (0 if known else EXISTS_NOT)
        answer = data[:2] + struct.pack("!5H", flags, 1, len(found), 0, 0) + question[:end]
        for one in found:
            answer += struct.pack("!3HIH", 0xC00C, ADDRESS, 1, 1, 4) + socket.inet_aton(one)
        self._transport.sendto(answer, address)


@asynccontextmanager
async def serving(name: str) -> AsyncIterator[tuple[Names, str]]:
    """Serve a name; yields what to amend, and where to ask."""
    transport, names = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Names(name), local_addr=("127.0.0.1", 0)
    )
    try:
        yield names, "127.0.0.1:{}".format(transport.get_extra_info("sockname")[1])
    finally:
        transport.close()
