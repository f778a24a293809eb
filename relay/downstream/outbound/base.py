"""What the relay needs of a way to one client, and what such a way tells it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol

from relay.downstream.wire import Batch

REASON_LIMIT = 123  # bytes of a close frame's reason: RFC 6455, section 5.5, less the code's two


def close_reason(reason: str) -> bytes:
    """Return a reason that fits into a close frame, cut between two characters."""
    return reason.encode()[:REASON_LIMIT].decode(errors="ignore").encode()


class Peer(Protocol):
    """The user of an outbound: it is notified of what the outbound alone can know."""

    def on_crowded(self, batch: Batch, size: int) -> bool:
        """Bytes are waiting already: decide whether `size` more may; then call `write`."""

    def has_room_for(self, size: int) -> bool:
        """Whether so many bytes may wait beside those that do."""

    def on_backlog(self) -> None:
        """Bytes wait for the socket, of whatever kind."""

    def on_left(self, code: int | None) -> None:
        """The client has sent a close frame: nothing will be sent to it any more."""

    def on_failure(self) -> None:
        """Log the exception that is being handled, which the client's input caused, and close."""

    def on_message(self, text: bytes | None) -> None:
        """A message came in, past the server's queue; None stands for a binary one."""

    def on_frame(self) -> None:
        """A frame of any kind came in; read `wants_input` afterwards."""

    @property
    def wants_input(self) -> bool:
        """Whether to read on from the client; once False it stays so."""


class Outbound(ABC):
    """A way to one client. Nothing here waits, and nothing raises because a client is gone."""

    __slots__ = ("corked",)

    way: ClassVar[str]
    """In a word, for operators."""

    corked: list[Outbound] | None
    """Where to leave itself when it holds bytes back for `uncork`, so that what leaves for a
    client in one flush leaves in one write; None for clients of a single topic."""

    @abstractmethod
    async def accept(self, subprotocol: str | None = None) -> None:
        """Finish the handshake, with one of the subprotocols that the client offers."""

    @abstractmethod
    def deliver(self, batch: Batch) -> bool:
        """Send market messages; where bytes are waiting already, as `Peer.on_crowded` decides.

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
        """End the connection now, also when bytes wait or a close frame was exchanged."""

    def answer_ping(self) -> None:  # noqa: B027 - most servers answer pings themselves
        """Answer the latest ping for whose pong there was no room."""

    @abstractmethod
    def detach(self) -> None:
        """Release the peer and all hooks: the connection has ended. Do nothing from here on."""
