"""relay/core/frames.py: frames as another implementation reads them."""

from __future__ import annotations

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from relay.core.frames import Batch, text_frame


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
