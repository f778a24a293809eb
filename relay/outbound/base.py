"""What the relay needs of a way to one client, and what such a way tells it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol

from relay.core.frames import Batch


class Peer(Protocol):
    """Who uses an outbound: it is told what the outbound alone can know."""

    def crowded(self, batch: Batch, size: int) -> bool:
        """Bytes are waiting already: decide whether `size` more may; then call `write`."""

    def backlogged(self) -> None:
        """The socket did not accept everything."""

    def heard(self, text: bytes | None) -> None:
        """A message came in, past the server's queue; None stands for a binary one."""

    def is_flooding(self) -> bool:
        """A frame came in: count it, and say whether there have been too many."""


class Outbound(ABC):
    """A way to one client. Nothing here waits, and nothing raises because a client is gone."""

    __slots__ = ("corked",)

    way: ClassVar[str]
    """In a word, for operators."""

    corked: list[Any] | None
    """Where to leave itself when it holds bytes back for `uncork`, so that what leaves for a
    client in one flush leaves in one write; None for clients of a single topic."""

    @abstractmethod
    async def accept(self, subprotocol: str | None = None) -> None:
        """Finish the handshake, with one of the subprotocols that the client offers."""

    @abstractmethod
    def deliver(self, batch: Batch) -> bool:
        """Send market messages; where bytes are waiting already, as `Peer.crowded` decides.

        Returns whether they were taken.
        """

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Send messages, after everything written before, whatever is waiting."""

    def uncork(self) -> None:  # noqa: B027 - most ways hold nothing back
        """Send what was held back."""

    @abstractmethod
    def unsent(self) -> int:
        """Return how many bytes the client's socket has not accepted yet."""

    @abstractmethod
    def accepted(self) -> int:
        """Return a number that grows with every byte the socket accepts while any waited."""

    @abstractmethod
    def pause_reading(self) -> None:
        """Read no more from the client until `resume_reading`; what was read is still handed on."""

    @abstractmethod
    def resume_reading(self) -> None:
        """Read from the client again, if `pause_reading` had stopped that."""

    async def until_readable(self) -> None:  # noqa: B027 - most ways pause below the application
        """Wait while reading is paused; for ways whose messages the application receives."""

    @abstractmethod
    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame after everything written before; write nothing after it."""

    @abstractmethod
    def abort(self) -> None:
        """End the connection now, whatever is waiting."""

    def detach(self) -> None:  # noqa: B027 - most ways hold nothing
        """Let go: the connection is gone."""
