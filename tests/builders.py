"""Builds what Bybit sends, as Bybit writes it: compact JSON, prices as strings.

Every value has a default, so that a test names only what it is about.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from relay.bybit.frames import Frame, decode_frame
from relay.bybit.topics import Category, Topic
from relay.seam.envelopes import Envelope

SNAPSHOT_TIME = 1_700_000_000_000  # Unix ms
Rows = Sequence[tuple[str, str]]

BIDS: Rows = (("10.05", "3.2"), ("10.04", "1"))
ASKS: Rows = (("10.07", "1.5"), ("10.08", "2"))


def topic(text: str = "orderbook.50.BTCUSDT", category: Category = Category.LINEAR) -> Topic:
    return Topic.parse(category, text)


def compact(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def body_of(text: bytes | None) -> Any:
    assert text is not None
    return json.loads(text)


def kind_of(envelope: Envelope) -> str:
    return str(envelope.__struct_config__.tag)


def frame(text: bytes) -> Frame:
    return decode_frame(text)


def book(
    kind: str,
    u: int,
    bids: Rows = (),
    asks: Rows = (),
    *,
    of: str = "orderbook.50.BTCUSDT",
    **other: Any,
) -> bytes:
    """Return an order book message; `other` overrides or, as None, removes what is around it."""
    around = {"seq": 900_000 + u, "ts": SNAPSHOT_TIME + u, "cts": SNAPSHOT_TIME + u - 2} | other
    data = {"s": of.split(".", 2)[-1], "b": bids, "a": asks, "u": u, "seq": around["seq"]}
    body = {"topic": of, "type": kind, "ts": around["ts"], "data": data, "cts": around["cts"]}
    for part in (data, body):
        for key in [key for key, value in part.items() if value is None]:
            del part[key]
    return compact(body)


def snapshot(u: int = 5_000, bids: Rows = BIDS, asks: Rows = ASKS, **other: Any) -> bytes:
    return book("snapshot", u, bids, asks, **other)


def delta(u: int = 5_001, bids: Rows = (("10.04", "2"),), asks: Rows = (), **other: Any) -> bytes:
    return book("delta", u, bids, asks, **other)


def ticker(
    kind: str = "snapshot",
    *,
    of: str = "tickers.BTCUSDT",
    cs: int | None = 1,
    ts: int = 1,
    **data: Any,
) -> bytes:
    body = {"topic": of, "type": kind, "data": {"symbol": of.split(".", 1)[-1]} | data}
    return compact(body | ({} if cs is None else {"cs": cs}) | {"ts": ts})


def candle(
    *rows: tuple[int, bool], of: str = "kline.1.BTCUSDT", close: str = "10.3", ts: int | None = None
) -> bytes:
    """Return a candle message; each row is (number of the minute, whether it is closed)."""
    data = [
        {
            "start": SNAPSHOT_TIME + minute * 60_000,
            "end": SNAPSHOT_TIME + minute * 60_000 + 59_999,
            "interval": of.split(".")[1],
            "open": "10.1",
            "close": close,
            "high": "10.4",
            "low": "10",
            "volume": "812.5",
            "turnover": "8329.06",
            "confirm": is_closed,
            "timestamp": SNAPSHOT_TIME + minute * 60_000 + 51_120,
        }
        for minute, is_closed in rows
    ]
    at = data[-1]["timestamp"] if ts is None else ts
    return compact({"topic": of, "data": data, "ts": at, "type": "snapshot"})


def trade(number: int) -> dict[str, Any]:
    return {
        "T": SNAPSHOT_TIME + number,
        "s": "BTCUSDT",
        "S": "Buy",
        "v": "0.5",
        "p": "10.06",
        "i": f"trade-{number}",
        "BT": False,
    }


def trades(
    numbers: Iterable[int] = (1,), *, of: str = "publicTrade.BTCUSDT", ts: int = SNAPSHOT_TIME
) -> bytes:
    rows = [trade(number) for number in numbers]
    return compact({"topic": of, "type": "snapshot", "ts": ts, "data": rows})


def trade_numbers(text: bytes | None) -> list[int]:
    return [int(row["i"].removeprefix("trade-")) for row in body_of(text)["data"]]


def ack(request_id: str, op: str = "subscribe", **other: Any) -> bytes:
    """Return an ack of linear or inverse."""
    body = {"success": True, "ret_msg": "", "conn_id": "c", "req_id": request_id, "op": op}
    return compact(body | other)


def refusal(request_id: str | None, words: str, op: str = "subscribe") -> bytes:
    """Return a refusal; spot leaves the id out where it is None."""
    body = {"success": False, "ret_msg": words, "conn_id": "c", "req_id": request_id, "op": op}
    if request_id is None:
        del body["req_id"]
    return compact(body)


def command_response(agreed: Sequence[str] = (), failed: Sequence[str] = ()) -> bytes:
    """Return an ack of option, which names its topics and no request."""
    data = {"failTopics": failed, "successTopics": agreed}
    return compact({"success": not failed, "conn_id": "c", "data": data, "type": "COMMAND_RESP"})


def unknown_topic(text: str) -> str:
    return f"error:handler not found,topic:{text}"


def already_subscribed(text: str) -> str:
    return f"error:already subscribed,topic:{text}"
