"""The requests of one client: how many it may make, and those that wait for their turn.

Connectors send one request per topic, hundreds at once, and Bybit answers each. So a request
that comes too early may wait instead of being refused. What waits is bounded in number and in
bytes: the relay stops reading from a client long before it has to refuse anything.
"""

from __future__ import annotations

from collections import deque

from relay.lib.pacing import TokenBucket

BURST = 5  # times the requests of a second may come at once
FLOOD = 10  # times the requests of a second, in frames, close the connection
MAX_WAITING = 1_000  # requests: as many topics as a connection to `/v5` may have
PAUSE_READING = 256 * 1024  # bytes of waiting requests at which no more are read
MAX_WAITING_BYTES = 2 * PAUSE_READING  # one read may inflate: compressed messages are small

Message = str | bytes | None
"""What a client sent; None stands for a binary message."""


class Intake:
    """Limits the requests of one client and keeps those that wait."""

    __slots__ = ("_bytes", "_frames", "_requests", "_waiting")

    def __init__(self, rate: float, now: float) -> None:
        """Start with a full burst.

        Args:
            rate: Requests a second.
        """
        self._requests = TokenBucket(rate, max(1.0, rate * BURST), now)
        self._frames = TokenBucket(rate * FLOOD, max(1.0, rate * FLOOD), now)
        self._waiting: deque[Message] = deque()
        self._bytes = 0

    def take_frame(self, now: float) -> bool:
        """Count a frame of any kind; return False when there have been too many."""
        return self._frames.take(now)

    def give_frame_back(self) -> None:
        """Count a frame no longer: its request waits, which has bounds of its own."""
        self._frames.give_back()

    def take(self, now: float, price: float) -> bool:
        """Count a request; return False, and count nothing, when there have been too many.

        Args:
            price: How many simple requests it costs as much as. A request may overdraw, and the
                next one comes later for it.
        """
        return self._requests.take(now, price)

    def available_at(self, now: float) -> float:
        """Return `now`, or the time when `take` will allow the next request."""
        return self._requests.available_at(now)

    @property
    def is_waiting(self) -> bool:
        """Whether any request waits."""
        return bool(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether no more should be read until some of those that wait were taken."""
        return self._bytes >= PAUSE_READING

    def put(self, message: Message) -> bool:
        """Have a request wait behind the others; return False if that would be too many."""
        size = len(message or b"")
        if len(self._waiting) >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES:
            return False
        self._waiting.append(message)
        self._bytes += size
        return True

    def pop(self) -> Message:
        """Return the request that has waited longest; it no longer waits."""
        message = self._waiting.popleft()
        self._bytes -= len(message or b"")
        return message

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting.clear()
        self._bytes = 0
