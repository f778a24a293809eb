"""Topics as the commands take them: `orderbook.50.BTCUSDT`, `spot:publicTrade.BTCUSDT`."""

from __future__ import annotations

from django.core.management.base import CommandParser

from relay.bybit.errors import Refusal
from relay.bybit.topics import Topic
from relay.management.base import CannotStart


def add_topics(parser: CommandParser, what: str) -> None:
    """Declare the topics of a command, as its arguments."""
    parser.add_argument(
        "topics",
        nargs="+",
        metavar="TOPIC",
        type=_topic,
        help=f"{what}, such as orderbook.50.BTCUSDT (linear) or spot:tickers.BTCUSDT",
    )


def _topic(text: str) -> Topic:
    try:
        return Topic.parse_qualified(text)
    except Refusal as refusal:
        words = refusal.message
        raise CannotStart(f"{words[:1].upper()}{words[1:]}.") from None
