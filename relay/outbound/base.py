"""What the relay needs of a way to one client."""

from __future__ import annotations

from abc import ABC, abstractmethod

from relay.core.frames import Batch


class Outbound(ABC):
    """A way to one client. Nothing here waits, and nothing raises because a client is gone."""

    @abstractmethod
    async def accept(self) -> None:
        """Finish the handshake."""

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Send messages, after everything written before."""

    @abstractmethod
    def unsent(self) -> int:
        """Return how many bytes the client's socket has not accepted yet."""

    @abstractmethod
    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame after everything written before; write nothing after it."""

    def detach(self) -> None:  # noqa: B027 - most ways hold nothing
        """Let go: the connection is gone."""
