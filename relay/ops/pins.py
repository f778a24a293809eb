"""Topics that operators pinned, as the database has them."""

from __future__ import annotations

import logging

from relay.bybit.errors import Refusal
from relay.bybit.topics import Category, Topic
from relay.models import PinnedTopic

logger = logging.getLogger(__name__)

MAX_PINS = 1_000


def read() -> list[Topic]:
    """Return what is pinned; what is not a topic (any more) is left out."""
    found = []
    for category, text in PinnedTopic.objects.values_list("category", "topic")[:MAX_PINS]:
        try:
            found.append(Topic.parse(Category(category), text))
        except (Refusal, ValueError) as fault:
            logger.warning("%s:%s is pinned and is not a topic: %s", category, text, fault)
    return found
