"""WebSocket frames as a server writes them: unmasked, so that one serves every reader.

Written here because the library frames a message again for each connection, and because
some faults need frames that no library would write.
"""

from __future__ import annotations

_FINAL_TEXT = 0x81
_FINAL_BINARY = 0x82


def text_frame(payload: bytes) -> bytes:
    """Return one whole text frame; it is not checked that the payload is UTF-8."""
    return _header(_FINAL_TEXT, len(payload)) + payload


def binary_frame(payload: bytes) -> bytes:
    """Return one whole binary frame."""
    return _header(_FINAL_BINARY, len(payload)) + payload


def _header(first: int, length: int) -> bytes:
    if length < 126:
        return bytes((first, length))
    if length < 65536:
        return bytes((first, 126)) + length.to_bytes(2, "big")
    return bytes((first, 127)) + length.to_bytes(8, "big")
