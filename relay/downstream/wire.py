"""Messages on their way to many clients, framed once however many there are.

Frames from a server are not masked, so the same bytes serve every client. Source: RFC 6455,
section 5.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

_TEXT = 0x81  # final fragment, opcode 1
_COMPRESSED = 0x40  # the first reserved bit: RFC 7692, section 6
_SHORT = 126  # payload lengths from here on take two more bytes
_LONG = 65_536  # and from here on eight
_WORTH_DEFLATING = 128  # bytes: answers and level 1 of a book would hardly shrink
_LEVEL = 6  # measured on recorded deltas: 45 % of the bytes in 17 us; level 1 47 %, as long


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
        plain: All of them as WebSocket frames, for one write.
        deflated_to: How many clients took them compressed, as outbounds count.
    """

    __slots__ = ("_deflated", "deflated_to", "plain", "texts")

    def __init__(self, texts: Sequence[bytes]) -> None:
        self.texts = texts
        frames = [_header(_TEXT, len(text)) + text for text in texts]
        self.plain = frames[0] if len(frames) == 1 else b"".join(frames)
        self._deflated: bytes | None = None
        self.deflated_to = 0

    def size_for(self, readers: int) -> int:
        """Return how many bytes so many clients were sent, `deflated_to` of them compressed."""
        saved = self.deflated_to and len(self.plain) - len(self.deflated)
        return readers * len(self.plain) - self.deflated_to * saved

    @property
    def deflated(self) -> bytes:
        """The same for clients that negotiated permessage-deflate, each message by itself.

        No message refers to an earlier one, so the bytes are right for any client with a whole
        window, whatever it was sent before. What does not shrink is sent as it is. Made when the
        first client asks for it.
        """
        if self._deflated is None:
            self._deflated = b"".join([_deflated_frame(text) for text in self.texts])
        return self._deflated


def _deflated_frame(text: bytes) -> bytes:
    if len(text) >= _WORTH_DEFLATING:
        compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        packed = compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH)
        packed = packed[:-4]  # the tail of a sync flush is left out: RFC 7692, section 7.2.1
        if len(packed) < len(text):
            return _header(_TEXT | _COMPRESSED, len(packed)) + packed
    return _header(_TEXT, len(text)) + text
