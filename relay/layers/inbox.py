"""A channel of this process: made, joined to groups, and given up again, whatever happens.

Processes of several versions may share one Redis while a deployment is upgraded, so an envelope
that cannot be read is ignored, and never ends the step that received it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from relay.seam.envelopes import VERSION, UnknownEnvelope

logger = logging.getLogger(__name__)

KINDS_LOGGED = 100  # kinds of unreadable envelopes that are logged, once each


@contextlib.asynccontextmanager
async def channel_in(layer: Any, *groups: str) -> AsyncIterator[str]:
    """Make a channel that receives what is sent to groups, and give it up at the end.

    Whoever has it join further groups must have it leave them.
    """
    channel: str = await layer.new_channel()
    try:
        for group in groups:
            await layer.group_add(group, channel)
        yield channel
    finally:
        await _give_up(layer, channel, groups)


async def _give_up(layer: Any, channel: str, groups: Iterable[str]) -> None:
    # A channel layer that is away must not keep a step from ending.
    for group in groups:
        with contextlib.suppress(Exception):
            await layer.group_discard(group, channel)
    with contextlib.suppress(Exception):
        if hasattr(layer, "forget"):  # the relay's own layers
            await layer.forget(channel)
            return
        # Channels has no word for it; its layers forget a channel when `receive` is cancelled.
        while True:
            async with asyncio.timeout(0):
                await layer.receive(channel)


class Intake:
    """Hands on envelopes that this version can read; logs the first of each other kind."""

    def __init__(self, name: str, take: Callable[..., None]) -> None:
        """Prepare.

        Args:
            name: Of the receiver, for the log.
            take: Called with an envelope, and with what else is given. It raises
                `UnknownEnvelope` for one whose type it does not know.
        """
        self._name = name
        self._take = take
        self._logged: set[tuple[str, ...]] = set()

    def __call__(self, envelope: Any, *rest: Any) -> None:
        """Take one envelope."""
        try:
            version = envelope.get("v", VERSION)  # it is missing in envelopes of marketfeed 0.1
            if version == VERSION:
                self._take(envelope, *rest)
            else:
                self._ignore(envelope, f"version {version!r:.20}; this process has {VERSION}")
        except UnknownEnvelope:
            self._ignore(envelope, "unknown to this version")
        except Exception as fault:
            self._ignore(envelope, type(fault).__name__, fault)

    def _ignore(self, envelope: Any, words: str, fault: Exception | None = None) -> None:
        kind = envelope.get("type") if isinstance(envelope, dict) else envelope
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
