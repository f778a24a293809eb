"""A channel of this process: made, joined to groups, and given up again, whatever happens.

Processes of several versions may share one Redis while a deployment is upgraded, so an envelope
that cannot be read is ignored, and never ends the step that received it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Concatenate, Generic, TypeVar

import msgspec

from relay.layers.groups import on_layer
from relay.seam.envelopes import VERSION

logger = logging.getLogger(__name__)

UNVERSIONED = 1  # the version of an envelope without `v`
KINDS_LOGGED = 100  # kinds of unreadable envelopes that are logged, once each


@contextlib.asynccontextmanager
async def channel_in(layer: Any, *groups: str) -> AsyncIterator[str]:
    """Make a channel that receives what is sent to groups, and give it up at the end.

    A caller that joins further groups with it leaves them itself.
    """
    channel: str = await layer.new_channel()
    try:
        for group in groups:
            await layer.group_add(on_layer(group), channel)
        yield channel
    finally:
        await _give_up(layer, channel, groups)


async def _give_up(layer: Any, channel: str, groups: Iterable[str]) -> None:
    # A channel layer that is away must not keep a step from ending.
    for group in groups:
        with contextlib.suppress(Exception):
            await layer.group_discard(on_layer(group), channel)
    with contextlib.suppress(Exception):
        if hasattr(layer, "forget"):  # the relay's own layers
            await layer.forget(channel)
            return
        # Channels has no word for it; its layers forget a channel when `receive` is cancelled.
        while True:
            async with asyncio.timeout(0):
                await layer.receive(channel)


E = TypeVar("E")


class Inbox(Generic[E]):
    """Reads the messages of a channel and hands on their envelopes.

    It ignores a message that this version cannot read, and logs the first of each kind.
    """

    def __init__(
        self, name: str, decode: Callable[[bytes], E], take: Callable[Concatenate[E, ...], None]
    ) -> None:
        """Prepare.

        Args:
            name: Of the receiver, for the log.
            decode: One of the decoders of `relay.seam.envelopes`: says which kinds there are.
            take: Called with each envelope, and with what else `__call__` is given.
        """
        self._name = name
        self._decode = decode
        self._take = take
        self._logged: set[tuple[str, ...]] = set()

    def __call__(self, message: Any, *rest: Any) -> None:
        """Take one message of the channel layer; nothing that it holds raises here."""
        try:
            version = message.get("v", UNVERSIONED)
            if version != VERSION:
                self._ignore(message, f"version {version!r:.20}; this process has {VERSION}")
                return
            body = message["body"]
            if isinstance(body, bytes):  # else it was handed over within this process
                body = self._decode(body)
            self._take(body, *rest)
        except msgspec.ValidationError as fault:
            if str(fault).endswith("`$.type`"):
                self._ignore(message, "unknown to this version")
            else:
                self._ignore(message, type(fault).__name__, fault)
        except Exception as fault:
            self._ignore(message, type(fault).__name__, fault)

    def _ignore(self, message: Any, words: str, fault: Exception | None = None) -> None:
        kind = message.get("type") if isinstance(message, dict) else message
        key = (f"{kind!r:.40}", words)
        if key in self._logged or len(self._logged) >= KINDS_LOGGED:
            return
        self._logged.add(key)
        logger.log(
            logging.WARNING if fault is None else logging.ERROR,
            "%s: ignoring envelopes of type %s: %s",
            self._name,
            *key,
            exc_info=fault,
        )
