"""A channel layer for one process, behind Channels' interface.

The stock in-memory layer drops without a word at 100 messages, copies each message for each
channel and walks every group on each send. This one hands the same message to each channel
in constant time; a channel that is full drops it and counts it, and the positions in the
envelopes show the receiver that something is missing. Messages must not be changed by
the consumer that receives them.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Sequence
from typing import Any

from channels.exceptions import ChannelFull
from channels.layers import BaseChannelLayer

BEHIND = 500  # messages waiting in a channel, at which a sender lets the receiver run
CAPACITY = 20_000  # messages a channel holds: a second of the busiest market


class LocalChannelLayer(BaseChannelLayer):  # type: ignore[misc]
    """Channels and groups within one event loop.

    Attributes:
        dropped: Messages that found their channel full.
        shares_messages: A receiver gets the object that was sent, not a copy.
    """

    extensions = ("groups", "flush")
    shares_messages = True

    def __init__(self, capacity: int = CAPACITY, **kwargs: Any) -> None:
        super().__init__(capacity=capacity, **kwargs)
        self.dropped = 0
        self._queues: dict[str, Queue] = {}
        self._groups: dict[str, dict[str, None]] = {}

    async def new_channel(self, prefix: str = "specific") -> str:
        """Return the name of a new channel of this process."""
        name = f"{prefix}.local!{uuid.uuid4().hex}"
        self._queues[name] = Queue()
        return name

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Put a message on a channel.

        Raises:
            ChannelFull: it holds `capacity` messages that no consumer has received.
        """
        queue = self._queues.setdefault(channel, Queue())
        if not queue.put(message, self.capacity):
            self.dropped += 1
            raise ChannelFull

    async def receive(self, channel: str) -> dict[str, Any]:
        """Wait for the next message of a channel; one waiter at a time."""
        queue = self._queues.setdefault(channel, Queue())
        return await queue.get()

    async def group_add(self, group: str, channel: str) -> None:
        """Have a channel receive what is sent to a group."""
        self._groups.setdefault(group, {})[channel] = None
        self._queues.setdefault(channel, Queue())

    async def group_discard(self, group: str, channel: str) -> None:
        """End that; does nothing if the channel is not in the group."""
        members = self._groups.get(group, {})
        members.pop(channel, None)
        if not members:
            self._groups.pop(group, None)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Put a message on every channel of a group; full ones miss it.

        Waits a little for receivers that have fallen behind, so that a sender cannot outrun them.
        """
        is_behind = False
        for channel in self._groups.get(group, ()):
            queue = self._queues[channel]
            if not queue.put(message, self.capacity):
                self.dropped += 1
            is_behind = is_behind or len(queue) > BEHIND
        if is_behind:
            await asyncio.sleep(0)

    async def group_send_many(self, messages: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Send messages to groups, in this order."""
        for group, message in messages:
            await self.group_send(group, message)

    async def forget(self, channel: str) -> None:
        """Give a channel up, with what waits in it."""
        for group in [group for group, members in self._groups.items() if channel in members]:
            await self.group_discard(group, channel)
        self._queues.pop(channel, None)

    async def flush(self) -> None:
        """Forget every channel and group."""
        self._queues.clear()
        self._groups.clear()


class Queue:
    """Messages of one channel and the consumers that wait for them."""

    def __len__(self) -> int:
        return len(self._messages)

    __slots__ = ("_messages", "_waiter")

    def __init__(self) -> None:
        self._messages: deque[dict[str, Any]] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def put(self, message: dict[str, Any], capacity: int) -> bool:
        if len(self._messages) >= capacity:
            return False
        self._messages.append(message)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        return True

    async def get(self) -> dict[str, Any]:
        while not self._messages:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._messages.popleft()
