"""An HTTP answer that is made without Django's request and middleware."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

READ_METHODS = ("GET", "HEAD", "OPTIONS")

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; `Content-Length` is among its headers."""

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes = b""

    async def send(self, method: str, send: Any) -> None:
        """Send it by ASGI, without the body if the method is HEAD."""
        start = {"type": "http.response.start", "status": self.status, "headers": self.headers}
        await send(start)
        body = b"" if method == "HEAD" else self.body
        await send({"type": "http.response.body", "body": body})


def answer(
    status: int,
    body: bytes = b"",
    kind: str = "text/plain; charset=utf-8",
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> Answer:
    """Return an answer that no browser takes for another kind of content than it is."""
    own: Headers = [
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    if body:
        own.append((b"content-type", kind.encode()))
    return Answer(status, [*own, *headers], body)


def wrong_method(method: str) -> Answer | None:
    """Return the answer to a method that only asks what is allowed, or is not; None for GET."""
    if method in ("GET", "HEAD"):
        return None
    status = 204 if method == "OPTIONS" else 405
    return Answer(status, [(b"allow", ", ".join(READ_METHODS).encode())])


def come_back(status: int, seconds: float, words: bytes) -> Answer:
    """Return a refusal that says when to come back."""
    return answer(status, words, headers=[(b"retry-after", str(math.ceil(seconds)).encode())])
