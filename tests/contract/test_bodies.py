"""A stranger cannot have Daphne read a request of any length, which Twisted writes to the disk."""

from __future__ import annotations

import asyncio
import socket

import pytest

from relay import conf
from tests.e2e.stand_in import StandIn
from tests.processes import DAPHNE, PATIENCE, Programs

TOTAL = 64 * 2**20  # bytes: far more than the kernel holds between two sockets
PART = 2**20


async def post(port: int, path: str, headers: bytes, *parts: bytes) -> tuple[bytes, int]:
    """Send a request; return the first line of the answer, and how many bytes were taken."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n" % (path.encode(), headers)
    taken = 0
    try:
        async with asyncio.timeout(PATIENCE):
            for part in (head, *parts):
                writer.write(part)
                await writer.drain()
                taken += len(part)
            return (await reader.readline()).rstrip(), taken
    except ConnectionError:
        return b"", taken
    except TimeoutError:
        raise AssertionError(f"no answer and no end after {taken} bytes: {headers!r}") from None
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("path", ["/", "/admin/login/", "/nothing"])
async def test_daphne_reads_no_body_of_any_length(
    path: str, exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url)
    announced = b"Content-Length: %d\r\n" % (conf.MAX_BODY + 1)
    line, _ = await post(relay.port, path, announced)
    assert line == b"HTTP/1.1 413 Content Too Large"

    whole = [bytes(PART)] * (TOTAL // PART)
    line, taken = await post(relay.port, path, b"Content-Length: %d\r\n" % TOTAL, *whole)
    assert line in (b"", b"HTTP/1.1 413 Content Too Large")
    assert taken < TOTAL

    chunks = [b"%x\r\n%s\r\n" % (PART, bytes(PART))] * (TOTAL // PART)
    line, taken = await post(relay.port, path, b"Transfer-Encoding: chunked\r\n", *chunks)
    assert line in (b"", b"HTTP/1.1 413 Content Too Large")
    assert taken < TOTAL

    form = b"next=" + b"x" * (conf.MAX_BODY - 5)
    kind = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n"
    line, _ = await post(relay.port, path, kind % len(form), form)
    assert line.split()[1] in (b"403", b"404", b"405")  # it was read, and answered as ever


async def test_a_request_that_waited_for_daphne_to_start_is_bounded_too(
    exchange: StandIn, programs: Programs
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        announced = b"Content-Length: %d\r\n" % (conf.MAX_BODY + 1)
        early = asyncio.create_task(post(port, "/", announced))
        await asyncio.sleep(0)  # the kernel takes it while nobody accepts
        options = ("--fd", str(listener.fileno()), "marketfeed.asgi:application")
        programs.start(
            "daphne",
            *(DAPHNE, *options),
            inherits=(listener.fileno(),),
            UPSTREAM_URL=exchange.url,
        )
        line, _ = await early
        assert line == b"HTTP/1.1 413 Content Too Large"
