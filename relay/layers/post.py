"""Sends envelopes through a channel layer: the one place where they become its messages.

The relay's own layers offer two things that Channels' layers do not: `LocalChannelLayer` hands
messages over within the process (`shares_messages`), so nothing is encoded for it; both send
many messages in one call (`group_send_many`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from relay.layers.groups import naming, on_layer
from relay.seam.envelopes import Envelope, as_message


async def send(layer: Any, channel: str, envelope: Envelope) -> None:
    """Send one envelope to a channel.

    Raises:
        ChannelFull: the channel holds as many messages as it may.
        Exception: the channel layer is away.
    """
    await layer.send(channel, as_message(envelope, is_shared=_is_shared(layer)))


async def group_send(layer: Any, group: str, envelope: Envelope) -> None:
    """Send one envelope to a group.

    Raises:
        Exception: the channel layer is away.
    """
    await layer.group_send(on_layer(group), as_message(envelope, is_shared=_is_shared(layer)))


async def group_send_many(layer: Any, envelopes: Iterable[tuple[str, Envelope]]) -> None:
    """Send envelopes to groups, in this order.

    Raises:
        Exception: the channel layer is away; some of the envelopes may have been sent.
    """
    is_shared, name = _is_shared(layer), naming()
    messages = [(name(group), as_message(each, is_shared=is_shared)) for group, each in envelopes]
    if hasattr(layer, "group_send_many"):
        await layer.group_send_many(messages)
        return
    for group, message in messages:
        await layer.group_send(group, message)


def _is_shared(layer: Any) -> bool:
    return getattr(layer, "shares_messages", False)
