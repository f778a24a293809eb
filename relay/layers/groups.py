"""The names of groups on the channel layer, apart from those of another relay.

Inside the relay a group has the name that `relay.seam.envelopes` and `relay.bybit.topics` give it.
Relays that share a channel layer, or a Redis under it, are told apart by `RELAY_PREFIX`, which
takes the place of the beginning of each name where that meets the layer.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable

from relay import conf

LONGEST = 99  # characters of a group, as Channels has it


def on_layer(group: str) -> str:
    """Return the name on the channel layer of a group of this relay."""
    return naming()(group)


def naming() -> Callable[[str], str]:
    """Return what `on_layer` does, for many groups at once: the settings are looked at here."""
    prefix = conf.current().prefix
    return str if prefix == conf.DEFAULT_PREFIX else functools.partial(_renamed, prefix)


def _renamed(prefix: str, group: str) -> str:
    name = prefix + group.removeprefix(conf.DEFAULT_PREFIX)
    if len(name) > LONGEST:
        name = f"{prefix}._{hashlib.blake2b(group.encode(), digest_size=20).hexdigest()}"
    return name
