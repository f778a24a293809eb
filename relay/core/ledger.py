"""What one connection to the exchange is subscribed to, and what it has been asked for.

Bybit refuses a whole request for one bad or already subscribed topic, its acks may come
after the data, and on option they carry no request id. The ledger knows for each topic
where it stands, writes the requests that are due, and reads the answers:

    IDLE --subscribe--> ASKED --ack or data--> CONFIRMED --unsubscribe--> LEAVING --ack--> IDLE

A topic that needs a new snapshot goes round once: CONFIRMED, RENEWING, LEAVING, and so on.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from relay.core.bybit import ARGS_PER_REQUEST, Frame, decode_ack, encode_request
from relay.core.limits import TokenBucket
from relay.core.topics import Category

ACK_PATIENCE = 5.0  # seconds until a request whose ack is lost is written off
REQUESTS_PER_SECOND = 25.0  # Bybit states no limit; invented symbols must not become a flood
REQUEST_BURST = 50.0
REQUESTS_IN_FLIGHT = 20
MAX_TRIES = 5  # requests without any answer, after which the last one counts as done


class _State(Enum):
    IDLE = auto()
    SPLIT = auto()  # waits in a part of a refused batch
    ASKED = auto()
    CONFIRMED = auto()
    RENEWING = auto()  # waits to be unsubscribed, for a new snapshot
    LEAVING = auto()


@dataclass(slots=True)
class _Entry:
    state: _State = _State.IDLE
    is_wanted: bool = True


@dataclass(frozen=True, slots=True)
class _Request:
    op: str
    topics: tuple[str, ...]
    sent_at: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the exchange said of one topic; `words` are its own if it refused."""

    topic: str
    is_confirmed: bool
    words: str = ""


def _words_of(text: str) -> set[str]:
    """Return what may be topics in the exchange's words."""
    return set(re.split(r"[\[\],:;\s\"']+", text))


class Ledger:
    """The subscriptions of one connection, from its opening to its end."""

    def __init__(self, category: Category, topics: Iterable[str], now: float) -> None:
        self._category = category
        self._entries: dict[str, _Entry] = {}
        self._pending: dict[str, _Request] = {}
        self._splits: deque[list[str]] = deque()
        self._changed: dict[str, None] = {}  # topics that may need a request, oldest first
        self._tries: dict[str, int] = {}
        self._is_splits_turn = False
        self._last_id = 0
        self._bucket = TokenBucket(REQUESTS_PER_SECOND, REQUEST_BURST, now)
        for topic in topics:
            self.want(topic)

    def want(self, topic: str) -> None:
        """Have the topic subscribed."""
        entry = self._entries.setdefault(topic, _Entry())
        if entry.state is _State.CONFIRMED and not entry.is_wanted:
            entry.state = _State.RENEWING  # whoever wants it now has seen no snapshot
        entry.is_wanted = True
        self._changed[topic] = None

    def unwant(self, topic: str) -> None:
        """Have the topic unsubscribed."""
        entry = self._entries.get(topic)
        if entry is None:
            return
        entry.is_wanted = False
        if entry.state is _State.IDLE:
            self._remove(topic)
        else:
            self._changed[topic] = None

    def resync(self, topic: str) -> None:
        """Have the topic unsubscribed and subscribed again, for a new snapshot."""
        entry = self._entries.get(topic)
        if entry is not None and entry.state is _State.CONFIRMED:
            entry.state = _State.RENEWING
            self._changed[topic] = None

    def saw(self, topic: str) -> bool:
        """Note that data of the topic came; True if that confirms a subscription."""
        if not self._pending:
            return False  # nothing is asked for: the usual case
        entry = self._entries.get(topic)
        if entry is None or entry.state is not _State.ASKED:
            return False
        entry.state = _State.CONFIRMED
        self._changed[topic] = None
        return True

    def confirmed(self) -> int:
        """Return how many topics the exchange has confirmed."""
        return sum(entry.state is _State.CONFIRMED for entry in self._entries.values())

    def next_request_id(self) -> str:
        """Return the next request id; they count up from 1 on each connection."""
        self._last_id += 1
        return str(self._last_id)

    def __contains__(self, topic: str) -> bool:
        """Whether data of the topic may come: it is subscribed, or was until the next ack."""
        return topic in self._entries

    @property
    def has_work(self) -> bool:
        """Whether there are topics that may need a request."""
        return bool(self._changed or self._splits)

    def due_at(self, now: float) -> float | None:
        """Return when `requests` may have something to send; None if nothing is waiting."""
        times = [request.sent_at + ACK_PATIENCE for request in self._pending.values()]
        if self.has_work and len(self._pending) < REQUESTS_IN_FLIGHT:
            times.append(self._bucket.available_at(now))
        return min(times, default=None)

    def requests(self, now: float) -> list[bytes]:
        """Return the requests to send now, within the limits of size and rate."""
        self._write_off(now)
        sent: list[bytes] = []
        limit = ARGS_PER_REQUEST[self._category]
        while len(self._pending) < REQUESTS_IN_FLIGHT and self._bucket.available_at(now) <= now:
            op, batch = self._next_batch(limit)
            if not batch:
                break
            self._bucket.take(now)
            request_id = self.next_request_id()
            self._pending[request_id] = _Request(op, tuple(batch), now)
            sent.append(encode_request(op, batch, request_id))
        return sent

    def _next_batch(self, limit: int) -> tuple[str, list[str]]:
        """Take up to `limit` topics that need the same request, and mark them as asked."""
        leaving: list[str] = []
        asking: list[str] = []
        for topic in list(self._changed):
            entry = self._entries[topic]
            if entry.state is _State.RENEWING or (
                entry.state is _State.CONFIRMED and not entry.is_wanted
            ):
                if len(leaving) < limit:
                    leaving.append(topic)
            elif entry.state is _State.IDLE and entry.is_wanted:
                if len(asking) < limit:
                    asking.append(topic)
            else:  # in flight or settled: the answer brings it back if need be
                del self._changed[topic]
                continue
            if len(leaving) == limit or len(asking) == limit:
                break
        if leaving:
            for topic in leaving:
                self._entries[topic].state = _State.LEAVING
                del self._changed[topic]
            return "unsubscribe", leaving
        # In turns: neither may a flow of new topics delay the good ones of a refused batch, nor
        # the other way round.
        if self._is_splits_turn or not asking:
            part: list[str] = []
            while not part and self._splits:
                part = self._from_split(self._splits.popleft())
            asking = part or asking
        self._is_splits_turn = not self._is_splits_turn
        for topic in asking:
            self._entries[topic].state = _State.ASKED
            self._changed.pop(topic, None)
        return "subscribe", asking

    def _from_split(self, part: list[str]) -> list[str]:
        """Return what of a refused batch's part is still to be asked for."""
        asking = []
        for topic in part:
            entry = self._entries.get(topic)
            if entry is None or entry.state is not _State.SPLIT:
                continue
            if entry.is_wanted:
                asking.append(topic)
            else:
                self._remove(topic)
        return asking

    def reply(self, frame: Frame) -> list[Verdict]:
        """Read an ack or a refusal; return what it decides of topics that are still wanted.

        A refusal is told of the others as well, so that it can be remembered.
        """
        listed = decode_ack(frame)
        request = self._match(frame, listed.successTopics + listed.failTopics)
        if request is None:
            return []
        if request.op == "unsubscribe":
            self._left(request)
            return []
        asked = [topic for topic in request.topics if self._is_asked(topic)]
        if frame.success:
            failed = set(listed.failTopics)
            verdicts = [
                self._refuse(topic, f"refused: {topic}")
                if topic in failed
                else self._confirm(topic)
                for topic in asked
            ]
        else:
            words = frame.ret_msg or "refused without words"
            verdicts = self._refused(asked, listed.failTopics, words)
        return [v for v in verdicts if not v.is_confirmed or self._entries[v.topic].is_wanted]

    def _match(self, frame: Frame, listed: list[str]) -> _Request | None:
        """Find the request that a reply answers: by its id, else by its topics, else by age."""
        if frame.req_id is not None and frame.req_id in self._pending:
            return self._pending.pop(frame.req_id)
        if frame.req_id:
            return None  # of a request that was written off
        candidates = [
            key
            for key, request in self._pending.items()
            if frame.op is None or request.op == frame.op
        ]
        spoken_of = set(listed) | _words_of(frame.ret_msg or "")
        named = [key for key in candidates if spoken_of & set(self._pending[key].topics)]
        if listed or named:
            candidates = named
        return self._pending.pop(candidates[0]) if candidates else None

    def _is_asked(self, topic: str) -> bool:
        entry = self._entries.get(topic)
        return entry is not None and entry.state is _State.ASKED

    def _confirm(self, topic: str) -> Verdict:
        self._entries[topic].state = _State.CONFIRMED
        self._tries.pop(topic, None)
        self._changed[topic] = None
        return Verdict(topic, is_confirmed=True)

    def _refuse(self, topic: str, words: str) -> Verdict:
        self._remove(topic)
        return Verdict(topic, is_confirmed=False, words=words)

    def _refused(self, asked: list[str], failed: list[str], words: str) -> list[Verdict]:
        """Find out who is to blame for a refused batch; the others are asked for again."""
        if len(asked) == 1:
            if "already subscribed" in words:
                return [self._confirm(asked[0])]
            return [self._refuse(asked[0], words)]
        spoken_of = set(failed) | _words_of(words)
        named = [topic for topic in asked if topic in spoken_of]
        if "already subscribed" in words:
            verdicts = [self._confirm(topic) for topic in named]
        else:
            verdicts = [self._refuse(topic, words) for topic in named]
        rest = [topic for topic in asked if topic not in named]
        # Halves, so that the good topics of a batch with many bad ones are soon among themselves.
        middle = (len(rest) + 1) // 2
        for part in (rest[:middle], rest[middle:]):
            if part:
                for topic in part:
                    self._entries[topic].state = _State.SPLIT
                self._splits.appendleft(part)
        return verdicts

    def _left(self, request: _Request) -> None:
        for topic in request.topics:
            entry = self._entries.get(topic)
            if entry is None or entry.state is not _State.LEAVING:
                continue
            entry.state = _State.IDLE
            if entry.is_wanted:
                self._changed[topic] = None
            else:
                self._remove(topic)

    def _write_off(self, now: float) -> None:
        """Give up requests whose ack is lost; their topics are asked for again."""
        for key, request in list(self._pending.items()):
            if now < request.sent_at + ACK_PATIENCE:  # as `due_at` counts
                continue
            del self._pending[key]
            if request.op == "unsubscribe":
                for topic in request.topics:
                    entry = self._entries.get(topic)
                    if entry is None or entry.state is not _State.LEAVING or entry.is_wanted:
                        continue
                    if self._may_try_again(topic):  # the request itself may be lost
                        entry.state = _State.CONFIRMED
                        self._changed[topic] = None
                self._left(request)
                continue
            for topic in request.topics:
                if not self._is_asked(topic):
                    continue
                if self._may_try_again(topic) and self._entries[topic].is_wanted:
                    self._entries[topic].state = _State.IDLE
                else:  # it may be subscribed: what is not wanted must be unsubscribed
                    self._confirm(topic)
                self._changed[topic] = None

    def _may_try_again(self, topic: str) -> bool:
        tries = self._tries[topic] = self._tries.get(topic, 0) + 1
        return tries < MAX_TRIES

    def _remove(self, topic: str) -> None:
        self._entries.pop(topic, None)
        self._changed.pop(topic, None)
        self._tries.pop(topic, None)
