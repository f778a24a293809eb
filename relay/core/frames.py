"""Messages on their way to many clients, framed once however many there are.

Frames from a server are not masked, so the same bytes serve every client. Source: RFC 6455,
section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

_TEXT = 0x81  # final fragment, opcode 1
_SHORT = 126  # payload lengths from here on take two more bytes
_LONG = 65_536  # and from here on eight


def _header(opcode: int, length: int) -> bytes:
    if length < _SHORT:
        return bytes((opcode, length))
    if length < _LONG:
        return bytes((opcode, 126)) + length.to_bytes(2, "big")
    return bytes((opcode, 127)) + length.to_bytes(8, "big")


def text_frame(text: bytes) -> bytes:
    """Return the WebSocket frame of one whole text message."""
    return _header(_TEXT, len(text)) + text


class Batch:
    """Messages of one topic that leave together.

    Attributes:
        texts: The messages, in order, as JSON text.
    """

    def __init__(self, texts: Sequence[bytes]) -> None:
        self.texts = texts

    @cached_property
    def plain(self) -> bytes:
        """All messages as WebSocket frames, for one write."""
        return b"".join([_header(_TEXT, len(text)) + text for text in self.texts])
