"""Read a book that moves."""

from __future__ import annotations

import json
from typing import Any

from websockets.sync.client import connect

from tests.processes import PATIENCE


def moving_book(url: str, **options: Any) -> tuple[int, int]:
    """Subscribe to a book on `/ws`; return its update ids, of the snapshot and of a later delta."""
    with connect(url, proxy=None, **options) as socket:
        socket.send('{"method":"subscribe","topic":"orderbook","symbol":"BTCUSDT","levels":50}')
        snapshot = _next(socket, "snapshot")
        assert snapshot["b"]
        assert snapshot["a"]
        return snapshot["u"], _next(socket, "delta")["u"]


def _next(socket: Any, kind: str) -> Any:
    while True:
        message = json.loads(socket.recv(timeout=PATIENCE))
        if message.get("type") == kind and message["topic"] == "orderbook.50.BTCUSDT":
            return message["data"]
