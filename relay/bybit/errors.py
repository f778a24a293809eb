"""Every fault the relay knows, by whose fault it is.

RelayError
├── Refusal           the client's: answered, and goes no further
└── ExchangeFault     the exchange's: costs one message or one topic, never the process
    ├── BadFrame          a frame that cannot be understood
    ├── NoSnapshotYet     a delta before its snapshot: to be ignored
    ├── SequenceGap       an update id that does not follow
    └── CrossedBook       best bid at or above best ask
"""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """What a refusal is called on the wire (native dialect)."""

    BAD_JSON = "bad_json"
    BAD_REQUEST = "bad_request"
    UNKNOWN_METHOD = "unknown_method"
    UNKNOWN_TOPIC = "unknown_topic"
    BAD_LEVELS = "bad_levels"
    BAD_SYMBOL = "bad_symbol"
    BAD_CATEGORY = "bad_category"
    NOT_SUBSCRIBED = "not_subscribed"
    TOO_MANY_TOPICS = "too_many_topics"
    RATE_LIMITED = "rate_limited"
    REFUSED_BY_EXCHANGE = "refused_by_exchange"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"


class RelayError(Exception):
    """The root of everything raised on purpose."""


class Refusal(RelayError):
    """A client asked for something it cannot have; `message` tells it why."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ExchangeFault(RelayError):
    """The exchange sent what it should not have."""


class BadFrame(ExchangeFault):
    """A frame that cannot be understood; the words say what was wrong."""


class NoSnapshotYet(ExchangeFault):
    """A delta that came before the snapshot it amends; Bybit's rule is to ignore it."""


class SequenceGap(ExchangeFault):
    """An update id that does not follow the one before it."""

    def __init__(self, expected: int, received: int) -> None:
        super().__init__(f"expected u {expected}, received {received}")
        self.expected = expected
        self.received = received


class CrossedBook(ExchangeFault):
    """The best bid is not below the best ask."""
