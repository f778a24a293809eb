"""relay/outbound/daphne.py, on a real transport of Twisted's and a real socket, time apart."""

from __future__ import annotations

import json
import logging
import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from relay import conf
from relay.bybit.requests import Endpoint
from relay.downstream.close_codes import CloseCode
from relay.downstream.outbound.daphne import HELD_AT_MOST
from relay.downstream.wire import Batch, text_frame
from tests.downstream.outbound.lines import Line
from tests.processes import PATIENCE, until

MUCH = Batch([b"x" * 200_000])  # fits into the budget, but not into a socket


def client_frame(opcode: int, payload: bytes = b"") -> bytes:
    """Return a short frame as clients send it; a mask of zeros leaves the payload as it is."""
    return bytes((0x80 | opcode, 0x80 | len(payload))) + bytes(4) + payload


@pytest.fixture
def unhurried(settings: Any) -> None:
    """Let clients send as much as they like."""
    settings.RELAY = settings.RELAY | {"requests_per_second": 1e6}


@pytest.fixture
def line(make_line: Callable[..., Line]) -> Line:
    return make_line()


async def test_what_is_written_leaves_after_what_is_held_back(line: Line) -> None:
    line.outbound.corked = line.hub.corked
    line.outbound.deliver(Batch([b"market"]))
    line.outbound.write(Batch([b"answer"]))
    line.outbound.deliver(Batch([b"more"]))
    assert line.read() == b""
    line.hub.flush()
    assert line.read() == b"".join(map(text_frame, (b"market", b"answer", b"more")))


async def test_a_close_frame_leaves_after_what_is_held_back(line: Line) -> None:
    line.outbound.corked = line.hub.corked
    line.outbound.deliver(Batch([b"market"]))
    line.client.close(CloseCode.BAD_REQUEST, "words", word="word")
    received = line.read()
    assert received.startswith(text_frame(b"market") + text_frame(b'{"type":"bye"')[:1])
    assert received.endswith(b"\x88\x07\x0f\xa0words")
    line.hub.flush()
    assert line.read() == b""


@pytest.mark.parametrize("reason", ["x" * 200, "日" * 60, "a" + "日" * 60, "ab" + "é" * 80])
async def test_a_close_reason_is_cut_between_characters(line: Line, reason: str) -> None:
    line.outbound.close(4000, reason)
    frame = line.read()
    assert frame[:4] == bytes((0x88, len(frame) - 2)) + (4000).to_bytes(2, "big")
    assert len(frame) <= 127
    assert reason.startswith(frame[4:].decode())
    assert len(frame) > 120


async def test_a_batch_beyond_what_is_held_back_asks_for_room(line: Line) -> None:
    budget = conf.current().client_buffer
    line.outbound.corked = line.hub.corked
    half = Batch([b"x" * (HELD_AT_MOST // 2)])
    while line.outbound.deliver(half):
        assert line.outbound.unsent() <= budget


def pings(line: Line) -> None:
    line.say(client_frame(9, b"still here"))


def daphne_pings(line: Line) -> None:
    line.protocol._sendAutoPing()


@pytest.mark.parametrize("disturb", [pings, daphne_pings])
async def test_a_reader_that_accepts_nothing_is_closed_after_the_default_timeout(
    line: Line, disturb: Callable[[Line], None]
) -> None:
    timeout = conf.current().slow_timeout
    assert timeout == 30
    line.outbound.write(MUCH)
    start = time.monotonic()
    for second in range(int(timeout)):
        disturb(line)
        assert line.look(start + second)
        assert not line.client.is_closing
    assert line.look(start + timeout + 1)
    assert line.client.is_closing
    assert not line.is_ended
    disturb(line)
    line.look(start + timeout + 3)
    assert line.is_ended


async def test_a_reader_that_accepts_a_little_is_kept(line: Line) -> None:
    line.outbound.write(MUCH)
    start = time.monotonic()
    for minute in range(1, 10):
        line.theirs.recv(2_048)
        line.transport.doWrite()
        assert line.look(start + minute * 29)
    assert not line.client.is_closing


async def test_pongs_wait_within_the_budget(unhurried: None, line: Line) -> None:
    budget = conf.current().client_buffer
    line.outbound.write(MUCH)
    for number in range(2_000):
        line.say(client_frame(9, b"%100d" % number))
        assert line.outbound.unsent() <= budget
    assert line.outbound.unsent() > budget - 102
    line.read()
    assert not line.look(time.monotonic())
    assert line.read() == b"\x8a\x64%100d" % 1_999  # the latest


async def test_daphne_sends_no_ping_behind_bytes_that_wait(line: Line) -> None:
    daphne_pings(line)
    assert line.read()[:1] == b"\x89"
    line.outbound.write(MUCH)
    waiting = line.outbound.unsent()
    daphne_pings(line)
    assert line.outbound.unsent() == waiting


async def test_a_client_that_says_goodbye_leaves_the_hub_at_once(line: Line) -> None:
    line.say(client_frame(1, b'{"op":"subscribe","args":["orderbook.50.BTCUSDT"]}'))
    assert line.hub.audiences
    line.outbound.write(MUCH)
    line.say(client_frame(8, (1000).to_bytes(2, "big")))
    assert not line.hub.audiences
    assert not line.is_ended  # what waits may leave
    line.client.disconnect()
    assert line.is_ended


async def test_after_a_goodbye_what_waits_has_a_limited_time_to_leave(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.downstream.outbound.daphne.LAST_BYTES", 0.01)
    line.outbound.write(MUCH)
    line.say(client_frame(8, (1000).to_bytes(2, "big")))
    await until(lambda: line.is_ended, PATIENCE, "the connection ends")


async def test_an_operator_ends_a_connection_whose_goodbye_is_not_read(line: Line) -> None:
    line.outbound.write(MUCH)
    line.client.disconnect()
    assert line.client.is_closing
    assert not line.is_ended
    line.client.disconnect()
    assert line.is_ended


@pytest.mark.parametrize(
    ("hook", "data"),
    [
        ("on_message", client_frame(1, b"{}")),
        ("on_frame", client_frame(1, b"{}")),
        ("on_frame", client_frame(9)),
        ("on_left", client_frame(8, b"\x03\xe8")),
    ],
)
async def test_an_error_of_the_relay_is_logged_and_closes_with_1011(
    line: Line,
    hook: str,
    data: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("an error of the relay")

    monkeypatch.setattr(line.client, hook, fail)
    line.say(data)
    [record] = [record for record in caplog.records if record.name == "relay.downstream.session"]
    assert record.levelno == logging.ERROR
    assert "ZeroDivisionError" in caplog.text
    received = line.read()
    if hook == "on_left":
        assert received == b"\x88\x02\x03\xe8"  # it was answered before
        return
    bye = json.loads(received[2 : 2 + received[1]])
    assert (bye["type"], bye["code"]) == ("bye", "internal_error")
    assert received[2 + received[1] :] == b"\x88\x12\x03\xf3the relay failed"


async def test_answers_wait_within_the_budget(unhurried: None, line: Line) -> None:
    budget = conf.current().client_buffer
    line.outbound.write(MUCH)
    while not line.client.is_closing:
        line.say(client_frame(1, b'{"method":"ping"}'))
        line.runner.tick(time.monotonic())
        assert line.outbound.unsent() <= budget + 200  # the goodbye
    assert line.is_ended
    assert line.outbound.unsent() > budget - 200


async def test_a_snapshot_above_the_budget_is_not_to_blame_on_the_answers_behind_it(
    line: Line,
) -> None:
    budget = conf.current().client_buffer
    line.outbound.deliver(Batch([b"x" * (budget + 100_000)]))
    line.theirs.recv(2**20)
    line.transport.doWrite()
    assert line.outbound.unsent() > budget
    for _ in range(3):
        line.say(client_frame(1, b'{"method":"ping"}'))
    assert not line.client.is_closing
    assert line.read().count(b"pong") == 3


async def test_close_slow_is_said_where_it_can_be(make_line: Callable[..., Line]) -> None:
    line = make_line(Endpoint.BYBIT)
    line.outbound.write(MUCH)
    now = time.monotonic()
    line.look(now)
    line.look(now + conf.current().slow_timeout + 1)
    assert line.read().endswith(CloseCode.SLOW.to_bytes(2, "big") + b"nothing was read for 30 s")


def compressed_frame(packed: bytes) -> bytes:
    """Return a whole compressed message as clients send it."""
    assert 126 <= len(packed) < 65_536
    return b"\xc1\xfe" + len(packed).to_bytes(2, "big") + bytes(4) + packed


@pytest.fixture
def deflating(make_line: Callable[..., Line]) -> Line:
    line = make_line(compression=True)
    assert b"permessage-deflate" in line.handshake
    return line


async def test_a_small_message_that_inflates_beyond_the_limit_is_not_inflated(
    deflating: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bytes | None] = []
    monkeypatch.setattr(deflating.client, "on_message", heard.append)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = compressor.compress(bytes(7_000_000)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    frame = compressed_frame(packed[:-4])
    assert len(frame) < 8_192  # below the limit, as long as it is compressed
    tracemalloc.start()
    try:
        deflating.say(frame)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert heard == []
    assert deflating.read()[2:4] == (1009).to_bytes(2, "big")
    assert peak < 500_000


async def test_a_message_that_is_not_compressed_as_it_says_closes_with_1007(
    deflating: Line,
) -> None:
    deflating.say(compressed_frame(b"\xff" * 200))
    assert deflating.read()[2:4] == (1007).to_bytes(2, "big")


async def test_compression_is_declined_where_inflation_has_no_bound(
    make_line: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.downstream.outbound.daphne.BOUNDS_INFLATION", False)
    assert b"permessage-deflate" not in make_line(compression=True).handshake
