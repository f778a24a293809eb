"""What one connection to the exchange is subscribed to, and what it has been asked for.

Bybit refuses a whole request for one bad or already subscribed topic, its acks may come
after the data, and on option they carry no request id. `Subscriptions` knows for each topic
where it stands, writes the requests that are due, and reads the answers:

    IDLE --subscribe--> ASKED --ack or data--> CONFIRMED --unsubscribe--> LEAVING --ack--> IDLE

A topic that needs a new snapshot goes round once: CONFIRMED, RENEWING, LEAVING, and so on.

Not every refusal says that there is no such topic. An exchange that has just been restarted
refuses everything for a while, so a refusal is a verdict only on a topic that the exchange has
never confirmed, and only if its words are not about the moment. Everything else is asked for again:
a topic that was refused alone after pauses of its own, and the rest of a refused batch as soon as a
single topic, the probe, has been accepted. A topic that is refused for a minute is given up.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Container, Iterable
from dataclasses import dataclass
from enum import Enum, auto

from relay.bybit.frames import ARGS_PER_REQUEST, Frame, decode_ack, encode_request
from relay.bybit.topics import Category
from relay.lib.pacing import Backoff, TokenBucket
from relay.seam import timing

REQUESTS_PER_SECOND = 25.0  # Bybit states no limit; invented symbols must not become a flood
# Each invented topic costs one request, so the burst covers what one client of /v5 may ask for.
# Within it the exchange sets the pace: no more than REQUESTS_IN_FLIGHT are unanswered.
REQUEST_BURST = 1_000.0
REQUESTS_IN_FLIGHT = 20
MAX_TRIES = 5  # requests without any answer, after which the last one counts as done

_MOMENTARY = re.compile(
    r"internal|server error|system error|service|too many|too fast|visits|frequen|rate.?limit"
    r"|time.?out|timed out|busy|overload|unavailable|temporar|try again|retry|later"
    r"|restart|mainten|upgrad|reconnect",
    re.IGNORECASE,
)
_NO_SUCH_TOPIC = re.compile(
    r"handler not found|(invalid|unknown|no such|unsupported) ?(symbol|topic|args?|channel)"
    r"|(symbol|topic)[^,;:]{0,20}(invalid|not (found|exist|support)|unknown|does ?n.t exist)"
    r"|^refused",  # the option socket names the topics that failed, and gives no reason
    re.IGNORECASE,
)
_TOKEN = re.compile(r"[^\[\],:;\s\"']+")
_NOT_SUBSCRIBED = re.compile(r"not subscribed|handler not found|not found|invalid", re.IGNORECASE)


class _State(Enum):
    IDLE = auto()
    SPLIT = auto()  # waits in a part of a refused batch
    ASKED = auto()
    CONFIRMED = auto()
    RENEWING = auto()  # waits to be unsubscribed, for a new snapshot
    LEAVING = auto()


class Data(Enum):
    """What a message of a topic is to the connection it came on."""

    EXPECTED = auto()
    CONFIRMING = auto()  # the first of a subscription whose ack has not come yet
    OUTDATED = auto()  # of an earlier subscription, which is being ended or has ended


@dataclass(slots=True)
class _Entry:
    state: _State = _State.IDLE
    is_wanted: bool = True
    is_known: bool = False  # the exchange has confirmed it before, if on an earlier connection
    request: str = ""  # the id of the last that it was in
    leaves_alone: bool = False  # its unsubscribe was refused together with others
    refused_since: float | None = None
    backoff: Backoff | None = None  # between refusals of this topic alone


@dataclass(frozen=True, slots=True)
class _Request:
    op: str
    topics: tuple[str, ...]
    sent_at: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the exchange said of one topic.

    Attributes:
        words: The exchange's own if it refused.
        is_asked_again: Whether the subscriptions asks for a refused topic again by itself.
    """

    topic: str
    is_confirmed: bool
    words: str = ""
    is_asked_again: bool = False


def says_no_such_topic(words: str) -> bool:
    """Whether a refusal says that the exchange does not have the topic.

    Source: words of each category that were published or recorded; Bybit documents none.
    """
    return _NO_SUCH_TOPIC.search(_without_topics(words)) is not None


def _is_of_the_moment(words: str) -> bool:
    """Whether a refusal is about the state of the exchange, and not about the topic."""
    return _MOMENTARY.search(_without_topics(words)) is not None and not says_no_such_topic(words)


def _without_topics(words: str) -> str:
    """Return the words without what looks like topics: a client may have invented those."""
    return _TOKEN.sub(lambda token: "" if "." in token[0][:-1] else token[0], words)


def _words_of(text: str) -> set[str]:
    """Return what may be topics in the exchange's words."""
    return set(re.split(r"[\[\],:;\s\"']+", text))


class Subscriptions:
    """The subscriptions of one connection, from its opening to its end."""

    def __init__(
        self,
        category: Category,
        topics: Iterable[str],
        now: float,
        *,
        known: Container[str] = frozenset(),
    ) -> None:
        """Start with nothing subscribed.

        Args:
            topics: What is to be subscribed.
            known: Those that the exchange has confirmed before. They are asked for first, and not
                together with the others.
        """
        self._category = category
        self._entries: dict[str, _Entry] = {}
        self._pending: dict[str, _Request] = {}
        self._splits: deque[list[str]] = deque()
        self._changed: dict[str, None] = {}  # topics that may need a request, oldest first
        self._waiting: dict[str, float] = {}  # topics that were refused -> when to try again
        self._tries: dict[str, int] = {}
        self._is_splits_turn = False
        self._last_id = 0
        self._bucket = TokenBucket(REQUESTS_PER_SECOND, REQUEST_BURST, now)
        # While the exchange refuses whole batches: when to ask for a single topic, the probe.
        self._probe_at: float | None = None
        self._backoff = Backoff(timing.REFUSAL_FIRST_RETRY, timing.REFUSAL_RETRY_CEILING)
        for topic in sorted(topics, key=lambda topic: topic not in known):
            self.want(topic, is_known=topic in known)

    def want(self, topic: str, *, is_known: bool = False) -> None:
        """Have the topic subscribed; `is_known` if the exchange has confirmed it before."""
        entry = self._entries.setdefault(topic, _Entry())
        if entry.state is _State.CONFIRMED and not entry.is_wanted:
            entry.state = _State.RENEWING  # whoever wants it now has seen no snapshot
        entry.is_wanted = True
        entry.is_known = entry.is_known or is_known
        self._changed[topic] = None

    def unwant(self, topic: str) -> None:
        """Have the topic unsubscribed."""
        entry = self._entries.get(topic)
        if entry is None:
            return
        entry.is_wanted = False
        if entry.state in (_State.IDLE, _State.SPLIT):
            self._remove(topic)
        else:
            self._changed[topic] = None

    def resync(self, topic: str) -> None:
        """Have the topic unsubscribed and subscribed again, for a new snapshot."""
        entry = self._entries.get(topic)
        if entry is not None and entry.state is _State.CONFIRMED:
            entry.state = _State.RENEWING
            self._changed[topic] = None

    def data(self, topic: str) -> Data:
        """Note that data of the topic came; return what it is. It may confirm a subscription."""
        if not (self._pending or self._changed or self._waiting):
            return Data.EXPECTED  # nothing is asked for: the usual case
        entry = self._entries.get(topic)
        if entry is None or entry.state is _State.CONFIRMED:
            return Data.EXPECTED
        if entry.state is not _State.ASKED:
            return Data.OUTDATED
        self._confirm(topic)
        self._accepts()
        return Data.CONFIRMING

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
        times = [request.sent_at + timing.ACK_PATIENCE for request in self._pending.values()]
        times += self._waiting.values()
        if self.has_work and len(self._pending) < REQUESTS_IN_FLIGHT:
            times.append(max(self._bucket.available_at(now), self._probe_at or 0.0))
        return min(times, default=None)

    def requests(self, now: float) -> list[bytes]:
        """Return the requests to send now, within the limits of size and rate."""
        self._write_off(now)
        self._recall(now)
        sent: list[bytes] = []
        while len(self._pending) < REQUESTS_IN_FLIGHT and self._bucket.available_at(now) <= now:
            op, batch = self._next_batch(now)
            if not batch:
                break
            self._bucket.take(now)
            request_id = self.next_request_id()
            self._pending[request_id] = _Request(op, tuple(batch), now)
            for topic in batch:
                entry = self._entries[topic]
                entry.state = _State.LEAVING if op == "unsubscribe" else _State.ASKED
                entry.request = request_id
                self._changed.pop(topic, None)
            sent.append(encode_request(op, batch, request_id))
        return sent

    def _recall(self, now: float) -> None:
        """Have what was refused tried again when its pause is over, each topic alone."""
        for topic in [topic for topic, at in self._waiting.items() if at <= now]:
            del self._waiting[topic]
            if self._entries[topic].state is _State.SPLIT:
                self._splits.append([topic])
            else:
                self._changed[topic] = None

    def _next_batch(self, now: float) -> tuple[str, list[str]]:
        """Return topics that need the same request, no more than fit into it."""
        limit = ARGS_PER_REQUEST[self._category]
        leaving, asking = self._collect(limit)
        if leaving:
            return "unsubscribe", leaving
        if self._probe_at is not None:
            if now < self._probe_at:
                return "subscribe", []
            # Until it is answered or written off there is no other.
            self._probe_at = now + timing.ACK_PATIENCE
            limit = 1
        # In turns: neither may a flow of new topics delay the good ones of a refused batch, nor
        # the other way round.
        if self._is_splits_turn or not asking:
            asking = self._from_splits(limit) or asking
        self._is_splits_turn = not self._is_splits_turn
        return "subscribe", asking[:limit]

    def _collect(self, limit: int) -> tuple[list[str], list[str]]:
        """Return topics to unsubscribe and topics to subscribe, up to `limit` of each.

        What the exchange may not have is not asked for together with what it is known to have.
        """
        leaving: list[str] = []
        asking: list[str] = []
        for topic in list(self._changed):
            entry = self._entries[topic]
            if entry.state is _State.RENEWING or (
                entry.state is _State.CONFIRMED and not entry.is_wanted
            ):
                if entry.leaves_alone:
                    return [topic], []
                leaving.append(topic)
            elif entry.state is _State.IDLE and entry.is_wanted:
                if not asking or entry.is_known == self._entries[asking[0]].is_known:
                    asking.append(topic)
            else:  # in flight or settled: the answer brings it back if need be
                del self._changed[topic]
                continue
            if len(leaving) == limit or len(asking) == limit:
                break
        return leaving, asking

    def _from_splits(self, limit: int) -> list[str]:
        """Return what is still to be asked for of the next part of a refused batch."""
        asking: list[str] = []
        while not asking and self._splits:
            part = self._splits.popleft()
            asking = [topic for topic in part if self._is_split(topic)]
        if len(asking) > limit:
            self._splits.append(asking[limit:])  # the next probe is of another part
        return asking[:limit]

    def _is_split(self, topic: str) -> bool:
        entry = self._entries.get(topic)
        return entry is not None and entry.state is _State.SPLIT

    def reply(self, frame: Frame, now: float, fraction: float) -> list[Verdict]:
        """Read an ack or a refusal; return what it decides of topics that are still wanted.

        A refusal is told of the others as well, so that it can be remembered.

        Args:
            fraction: A random number in [0, 1), for the pause after a refusal.
        """
        listed = decode_ack(frame)
        key = self._match(frame, listed.successTopics + listed.failTopics)
        if key is None:
            return []
        request = self._pending.pop(key)
        words = frame.ret_msg or "refused without words"
        if request.op == "unsubscribe":
            if frame.success:
                self._left(request.topics)
            else:
                self._stays(request.topics, words, now, fraction)
            return []
        # Of what was confirmed by data before this answer, too: a refusal means that none follows.
        asked = [
            topic
            for topic in request.topics
            if (entry := self._entries.get(topic)) is not None
            and entry.request == key
            and entry.state in (_State.ASKED, _State.CONFIRMED)
        ]
        agreed = asked if frame.success else [t for t in asked if t in listed.successTopics]
        agreed = [topic for topic in agreed if topic not in listed.failTopics]
        verdicts = [
            self._confirm(topic) for topic in agreed if self._entries[topic].state is _State.ASKED
        ]
        if agreed:
            self._accepts()
        refused = [topic for topic in asked if topic not in agreed]
        if frame.success:
            for topic in refused:
                verdicts += self._blame(topic, f"refused: {topic}", now, fraction)
        elif refused:
            verdicts += self._refused(refused, listed.failTopics, words, now, fraction)
        return [v for v in verdicts if not v.is_confirmed or self._entries[v.topic].is_wanted]

    def _match(self, frame: Frame, listed: list[str]) -> str | None:
        """Find the request that a reply answers: by its id, else by its topics, else by age."""
        if frame.req_id is not None and frame.req_id in self._pending:
            return frame.req_id
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
        return candidates[0] if candidates else None

    def _confirm(self, topic: str) -> Verdict:
        entry = self._entries[topic]
        entry.state = _State.CONFIRMED
        entry.is_known = True
        entry.refused_since = entry.backoff = None
        self._waiting.pop(topic, None)
        self._tries.pop(topic, None)
        self._changed[topic] = None
        return Verdict(topic, is_confirmed=True)

    def _accepts(self) -> None:
        """Note that the exchange accepts topics: what it refused for a while may be asked for."""
        self._probe_at = None
        self._backoff.reset()

    def _refused(
        self, asked: list[str], failed: list[str], words: str, now: float, fraction: float
    ) -> list[Verdict]:
        """Find out who is to blame for a refused batch; the others are asked for again."""
        spoken_of = set(failed) | _words_of(words)
        named = asked if len(asked) == 1 else [topic for topic in asked if topic in spoken_of]
        rest = [topic for topic in asked if topic not in named]
        verdicts: list[Verdict] = []
        if "already subscribed" in words:
            verdicts += [self._confirm(topic) for topic in named]
            self._accepts()
        else:
            is_momentary = self._is_momentary((named or asked)[0], words)
            is_probing = self._probe_at is not None
            if is_momentary and (rest or is_probing):
                self._probe_at = now + self._backoff.next(fraction)
            elif is_probing:
                self._probe_at = now  # it has no such topic, which says nothing of the others
            for topic in named:
                verdicts += self._blame(topic, words, now, fraction)
            if is_momentary:
                verdicts += [self._put_off(topic, words, now) for topic in rest]
                if is_probing:
                    verdicts += self._give_up(words, now)
        # An exchange that names a topic has found nothing wrong with those before it. The others go
        # in halves, so that the good ones of a batch with many bad ones are soon among themselves.
        first = next((i for i, topic in enumerate(asked) if topic in named), 0)
        middle = first + (len(rest) - first + 1) // 2
        for part in (rest[middle:], rest[first:middle], rest[:first]):
            for topic in part:
                if self._entries[topic].is_wanted:
                    self._entries[topic].state = _State.SPLIT
                else:
                    self._remove(topic)
            if part:
                self._splits.appendleft(part)
        return verdicts

    def _is_momentary(self, topic: str, words: str) -> bool:
        return self._entries[topic].is_known or _is_of_the_moment(words)

    def _blame(self, topic: str, words: str, now: float, fraction: float) -> list[Verdict]:
        """Refuse one topic, or have it asked for again, alone, after a pause."""
        entry = self._entries[topic]
        if not self._is_momentary(topic, words):
            return [self._refuse(topic, words)]
        if not entry.is_wanted:
            self._remove(topic)
            return []
        verdict = self._put_off(topic, words, now)
        if (
            entry.refused_since is not None
            and now - entry.refused_since >= timing.REFUSED_LASTINGLY
        ):
            return [self._refuse(topic, words)]
        entry.state = _State.SPLIT
        entry.backoff = entry.backoff or Backoff(
            timing.REFUSAL_FIRST_RETRY, timing.REFUSAL_RETRY_CEILING
        )
        self._waiting[topic] = now + entry.backoff.next(fraction)
        return [verdict]

    def _put_off(self, topic: str, words: str, now: float) -> Verdict:
        """Note that the exchange refuses a topic for now."""
        entry = self._entries[topic]
        if entry.refused_since is None:
            entry.refused_since = now
        return Verdict(topic, is_confirmed=False, words=words, is_asked_again=True)

    def _give_up(self, words: str, now: float) -> list[Verdict]:
        """Refuse what waits for a probe to be accepted, and has done so for too long."""
        return [
            self._refuse(topic, words)
            for topic, entry in list(self._entries.items())
            if entry.state is _State.SPLIT
            and topic not in self._waiting
            and entry.refused_since is not None
            and now - entry.refused_since >= timing.REFUSED_LASTINGLY
        ]

    def _refuse(self, topic: str, words: str) -> Verdict:
        self._remove(topic)
        return Verdict(topic, is_confirmed=False, words=words)

    def _left(self, topics: Iterable[str]) -> None:
        for topic in topics:
            entry = self._entries.get(topic)
            if entry is None or entry.state is not _State.LEAVING:
                continue
            entry.state = _State.IDLE
            entry.leaves_alone = False
            if entry.is_wanted:
                self._changed[topic] = None
            else:
                self._remove(topic)

    def _stays(self, topics: Iterable[str], words: str, now: float, fraction: float) -> None:
        """Have what could not be unsubscribed tried again, each topic alone, after a pause."""
        leaving = [t for t in topics if t in self._entries]
        is_over = _NOT_SUBSCRIBED.search(words) is not None and not _is_of_the_moment(words)
        for topic in leaving:
            entry = self._entries[topic]
            if entry.state is not _State.LEAVING:
                continue
            if (is_over and len(leaving) == 1) or not self._may_try_again(topic):
                self._left([topic])
                continue
            entry.state = _State.RENEWING if entry.is_wanted else _State.CONFIRMED
            entry.leaves_alone = True
            entry.backoff = entry.backoff or Backoff(
                timing.REFUSAL_FIRST_RETRY, timing.REFUSAL_RETRY_CEILING
            )
            self._waiting[topic] = now + entry.backoff.next(fraction)

    def _write_off(self, now: float) -> None:
        """Give up requests whose ack is lost; their topics are asked for again."""
        for key, request in list(self._pending.items()):
            if now < request.sent_at + timing.ACK_PATIENCE:  # as `due_at` counts
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
                self._left(request.topics)
                continue
            for topic in request.topics:
                entry = self._entries.get(topic)
                if entry is None or entry.state is not _State.ASKED:
                    continue
                if self._may_try_again(topic) and entry.is_wanted:
                    entry.state = _State.IDLE
                else:  # it may be subscribed: what is not wanted must be unsubscribed
                    self._confirm(topic)
                self._changed[topic] = None

    def _may_try_again(self, topic: str) -> bool:
        tries = self._tries[topic] = self._tries.get(topic, 0) + 1
        return tries < MAX_TRIES

    def _remove(self, topic: str) -> None:
        self._entries.pop(topic, None)
        self._changed.pop(topic, None)
        self._waiting.pop(topic, None)
        self._tries.pop(topic, None)
