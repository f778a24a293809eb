"""relay/downstream/wire.py: frames as another implementation reads them."""

from __future__ import annotations

import hashlib

import pytest
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from relay.downstream.wire import Batch, text_frame
from tests.builders import snapshot


def read(wire: bytes) -> list[tuple[Opcode, bytes, bool]]:
    """Return the frames that a client of `websockets` finds in what came."""
    client = ClientProtocol(parse_uri("ws://example.org/"), state=OPEN, max_size=None)
    client.receive_data(wire)
    return [(frame.opcode, bytes(frame.data), frame.fin) for frame in client.events_received()]


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 1_000_000])
def test_a_message_of_any_length_is_one_whole_text_frame(length: int) -> None:
    text = b"x" * length
    assert read(text_frame(text)) == [(Opcode.TEXT, text, True)]


@pytest.mark.parametrize(("length", "header"), [(125, 2), (126, 4), (65_535, 4), (65_536, 10)])
def test_a_header_is_as_short_as_the_standard_demands(length: int, header: int) -> None:
    assert len(text_frame(b"x" * length)) == length + header


def test_a_batch_is_its_messages_one_after_another_framed_once() -> None:
    texts = [b"{}", b"", b"x" * 70_000, "é🙂".encode()]
    batch = Batch(texts)
    assert read(batch.plain) == [(Opcode.TEXT, text, True) for text in texts]
    assert batch.plain is batch.plain
    assert batch.texts == texts


def test_an_empty_batch_is_nothing() -> None:
    assert Batch([]).plain == b""


MESSAGES = [
    snapshot(),
    b"{}",
    b"x" * 127,
    b"x" * 128,
    "é🙂".encode() * 100,
    bytes(range(256)) * 300,
]


@pytest.mark.parametrize("texts", [MESSAGES, MESSAGES[::-1], [snapshot()] * 3, []])
def test_a_deflated_batch_is_read_by_any_client_that_negotiated_it(texts: list[bytes]) -> None:
    """With and without context takeover: no message refers to an earlier one."""
    for no_takeover in (True, False):
        inflater = PerMessageDeflate(no_takeover, no_takeover, 15, 15)
        client = ClientProtocol(parse_uri("ws://example.org/"), state=OPEN, max_size=None)
        client.extensions = [inflater]
        client.receive_data(text_frame(b"before") + Batch(texts).deflated)
        frames = client.events_received()
        assert [bytes(frame.data) for frame in frames] == [b"before", *texts]
        assert {frame.opcode for frame in frames} == {Opcode.TEXT}


def test_a_deflated_batch_is_shorter_where_that_is_possible_and_never_longer() -> None:
    book = Batch([snapshot(1, [(str(price), "1") for price in range(50)])])
    assert len(book.deflated) < len(book.plain) / 2
    noise = Batch([hashlib.sha256(bytes([number])).digest() for number in range(50)])
    assert len(noise.deflated) <= len(noise.plain)
    assert book.deflated is book.deflated
