"""How the exchange answers requests, which differs by category.

Source: Bybit v5 docs, WebSocket, Connect, and recorded replies. Where no source quotes a
reply (the limit of 21,000 characters, an empty `args`, a refusal on option) the shape of the
nearest known one is used.
"""

from __future__ import annotations

import msgspec

from relay.simulator.topics import Category

ARGS_LENGTH_LIMIT = 21_000  # characters of all args on one connection
SPOT_ARGS_LIMIT = 10  # args in one request
OPTION_ARGS_LIMIT = 2_000  # args on one connection


class Dialect:
    """The replies on one socket.

    Every method takes `req_id` as the client sent it, in text, or None if it sent none.
    """

    def __init__(self, category: Category, conn_id: str) -> None:
        self._category = category
        self._conn_id = conn_id

    def accepted(self, op: str, req_id: str | None, topics: list[str]) -> bytes:
        """Acknowledge a subscribe or unsubscribe."""
        if self._category is Category.OPTION:
            return self.partly(topics, [])
        return self._result(True, op if self._category is Category.SPOT else "", req_id, op)

    def refused(self, op: str, req_id: str | None, why: str) -> bytes:
        """Refuse a request whole."""
        if self._category is Category.OPTION:
            return _json(
                {
                    "success": False,
                    "ret_msg": why,
                    "conn_id": self._conn_id,
                    "type": "COMMAND_RESP",
                }
            )
        return self._result(False, why, req_id, op)

    def partly(self, succeeded: list[str], failed: list[str]) -> bytes:
        """Tell the fate of each topic, as option does."""
        return _json(
            {
                "success": not failed,
                "conn_id": self._conn_id,
                "data": {"failTopics": failed, "successTopics": succeeded},
                "type": "COMMAND_RESP",
            }
        )

    def unknown_topic(self, topic: str) -> str:
        """Return the words for a topic, depth or symbol that does not exist."""
        if self._category is Category.SPOT:
            return f"Invalid symbol :[{topic}]"
        return f"error:handler not found,topic:{topic}"

    def pong(self, req_id: str | None, now_ms: int) -> bytes:
        """Answer the JSON ping."""
        if self._category is Category.OPTION:
            return _json({"args": [str(now_ms)], "op": "pong"})
        return self._result(True, "pong", req_id, "ping")

    def _result(self, success: bool, ret_msg: str, req_id: str | None, op: str) -> bytes:
        reply = {"success": success, "ret_msg": ret_msg, "conn_id": self._conn_id}
        if req_id is not None:
            reply["req_id"] = req_id
        elif self._category is not Category.SPOT:
            reply["req_id"] = ""
        return _json(reply | {"op": op})


def undecodable(text: str) -> str:
    """Return the words for text that is not a JSON object."""
    start = text[:10]
    found = start[0] if start else "EOF"
    return (
        f"Failed to decode incoming data:readObjectStart: expect {{ or n, but found {found}, "
        f"error found in #1 byte of ...|{start}|..., bigger context ...|{start}|..."
    )


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)
