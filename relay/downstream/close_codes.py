"""The codes with which the relay closes a WebSocket, and what each asks of the client.

A client needs no list of codes to know when to connect again: the hundred says it (`retry_policy`).
`backoff.js` and `relay.terminal.feed` follow the same rule, and the tests hold both, and the tables
of the documentation, to this module.
"""

from __future__ import annotations

from enum import Enum, IntEnum


class Retry(Enum):
    """What a client should do after its connection was closed."""

    NEVER = "do not retry"
    """The fault is the client's, and a further attempt would end the same."""

    BACK_OFF = "back off"
    """The client asked too much of the relay: wait for seconds, then for longer."""

    AT_ONCE = "reconnect now"
    """Another connection will do better, also one to the same address."""

    GROWING = "retry with growing pauses"
    """Something broke: try again soon, then later and later."""


class CloseCode(IntEnum):
    """A code that the relay sends in a close frame.

    Attributes:
        word: The reason in a word, as the `bye` message of `/ws` has it.
        meaning: The reason in words, where the relay has no closer ones.
    """

    word: str
    meaning: str

    TOO_LONG = 1009, "too_long", "a message is too long"
    INTERNAL_ERROR = 1011, "internal_error", "the relay failed"
    BAD_REQUEST = 4000, "bad_request", "the relay does not understand the request"
    NOT_PERMITTED = 4001, "forbidden", "staff with the view permission only"
    IDLE = 4002, "idle", "no subscription for too long"
    FOREIGN_ORIGIN = 4003, "foreign_origin", "this origin may not connect"
    NOT_FOUND = 4004, "not_found", "no such path"
    FULL = 4100, "full", "too many connections"
    SLOW = 4108, "slow", "messages are read too slowly"
    BY_OPERATOR = 4110, "disconnected", "disconnected by an operator"
    UNCHECKED = 4111, "unchecked", "the database does not say whether you may see this"
    TOO_MANY_REQUESTS = 4129, "too_many_requests", "too many requests"
    SHUTTING_DOWN = 4200, "shutting_down", "the relay is shutting down"
    DATA_LOST = 4201, "gap", "the relay lost messages"

    def __new__(cls, code: int, word: str, meaning: str) -> CloseCode:
        self = int.__new__(cls, code)
        self._value_ = code
        self.word = word
        self.meaning = meaning
        return self

    @property
    def retry(self) -> Retry:
        """What the client should do after it."""
        return retry_policy(self)


LIVE_PAGE_CODES = frozenset((CloseCode.NOT_PERMITTED, CloseCode.UNCHECKED))
"""Those that only the live page's socket is closed with, never a client's."""

_POLICY_OF_HUNDRED = {40: Retry.NEVER, 41: Retry.BACK_OFF, 42: Retry.AT_ONCE}


def retry_policy(code: int) -> Retry:
    """Return what a client should do after any close code, also one that is not the relay's."""
    return _POLICY_OF_HUNDRED.get(code // 100, Retry.GROWING)


NO_CODE = 1005  # RFC 6455, section 7.4.1: a close frame without a code
OTHER_CODE = 0  # any other that a client has sent
_STANDARD_CODES = frozenset(range(1000, 1016))  # RFC 6455, section 7.4.1, and the registry it began


def code_of_client(code: int | None) -> int:
    """Return the code of a client's close frame as it is counted.

    Clients must not be able to make up codes, each of which would be a further count.
    """
    if code is None:
        return NO_CODE
    return code if code in _STANDARD_CODES else OTHER_CODE
