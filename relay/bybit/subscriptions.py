"""What one connection to the exchange is subscribed to, and what has been requested on it.

Bybit refuses a whole request for one bad or already subscribed topic, its acks may come
after the data, and on option they carry no request id. `Subscriptions` keeps the state of each
topic, writes the requests that are due, and reads the answers. `MACHINE` is the whole life of a
topic: in each state, what is sent, what data of the topic means, and where each event leads.
A state says what the exchange and the relay have agreed on; *when* a request may be sent is kept
apart from it, in the topics that are due, the parts of refused batches, and the pauses.

Not every refusal says that there is no such topic. An exchange that has just been restarted
refuses everything for a while, so a refusal is a verdict only on a topic that the exchange has
never confirmed, and only if its words are not about the moment. Everything else is requested again:
a topic that was refused alone after pauses of its own, and the rest of a refused batch as soon as a
single topic, the probe, has been accepted. A topic that is refused for a minute is given up.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from relay.bybit.frames import ARGS_PER_REQUEST, Frame, decode_ack, encode_request
from relay.bybit.topics import Category
from relay.lib import timing
from relay.lib.pacing import Backoff, TokenBucket

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


class Data(Enum):
    """What a message of a topic is to the connection it came on."""

    EXPECTED = auto()
    CONFIRMING = auto()  # the first of a subscription whose ack has not come yet
    OUTDATED = auto()  # of an earlier subscription, which is being ended or has ended


class State(Enum):
    """Where a topic stands on this connection."""

    ABSENT = auto()  # neither wanted nor subscribed
    DUE = auto()  # to be subscribed
    APART = auto()  # to be subscribed apart from those it was refused with, or after a pause
    REQUESTED = auto()  # its subscribe was sent
    CANCELLED = auto()  # its subscribe was sent, and no client wants it any more
    SUBSCRIBED = auto()  # the exchange has agreed, by ack or by data
    SURPLUS = auto()  # the exchange has agreed, and no client wants it: to be unsubscribed
    RENEWING = auto()  # to be unsubscribed and subscribed again, for a new snapshot
    DROPPED = auto()  # was renewing, and no client wants it any more: to be unsubscribed
    RETURNING = auto()  # its unsubscribe was sent; to be subscribed again
    LEAVING = auto()  # its unsubscribe was sent


class Event(Enum):
    """What happens to a topic."""

    WANT = auto()  # it is to be subscribed
    UNWANT = auto()  # it is to be unsubscribed
    RESYNC = auto()  # it needs a new snapshot
    SENT = auto()  # the request of its state was sent
    DATA = auto()  # a message of it came
    ACCEPTED = auto()  # the exchange has agreed to the subscribe, or must be taken to have
    POSTPONED = auto()  # the exchange refused the subscribe, which says nothing of the topic
    REFUSED = auto()  # the exchange refused the subscribe for good
    ENDED = auto()  # the exchange has agreed to the unsubscribe, or must be taken to have
    KEPT = auto()  # the exchange refused the unsubscribe
    LOST = auto()  # no answer came to the request


class Row(NamedTuple):
    """One state: what it sends, what data means in it, and the next state after each event.

    An event without a next state must not happen: the code that raises it has seen that it cannot.
    """

    is_wanted: bool
    sends: str
    data: Data
    after: dict[Event, State]


def _machine() -> dict[State, Row]:
    """Return the table. Events that change nothing are listed too: they may happen."""
    s, e = State, Event
    expected, confirming, outdated = Data.EXPECTED, Data.CONFIRMING, Data.OUTDATED
    # fmt: off
    return {
        s.ABSENT: Row(False, "", expected, {
            e.WANT: s.DUE, e.UNWANT: s.ABSENT, e.RESYNC: s.ABSENT, e.DATA: s.ABSENT}),
        s.DUE: Row(True, "subscribe", outdated, {
            e.WANT: s.DUE, e.UNWANT: s.ABSENT, e.RESYNC: s.DUE, e.DATA: s.DUE,
            e.SENT: s.REQUESTED}),
        s.APART: Row(True, "subscribe", outdated, {
            e.WANT: s.APART, e.UNWANT: s.ABSENT, e.RESYNC: s.APART, e.DATA: s.APART,
            e.SENT: s.REQUESTED, e.REFUSED: s.ABSENT}),
        s.REQUESTED: Row(True, "", confirming, {
            e.WANT: s.REQUESTED, e.UNWANT: s.CANCELLED, e.RESYNC: s.REQUESTED,
            e.DATA: s.SUBSCRIBED, e.ACCEPTED: s.SUBSCRIBED,
            e.POSTPONED: s.APART, e.REFUSED: s.ABSENT, e.LOST: s.DUE}),
        s.CANCELLED: Row(False, "", confirming, {
            e.WANT: s.REQUESTED, e.UNWANT: s.CANCELLED, e.RESYNC: s.CANCELLED,
            e.DATA: s.SURPLUS, e.ACCEPTED: s.SURPLUS,
            e.POSTPONED: s.ABSENT, e.REFUSED: s.ABSENT, e.LOST: s.SURPLUS}),
        # Data may confirm these two before the answer; a refusal then means that none follows.
        s.SUBSCRIBED: Row(True, "", expected, {
            e.WANT: s.SUBSCRIBED, e.UNWANT: s.SURPLUS, e.RESYNC: s.RENEWING, e.DATA: s.SUBSCRIBED,
            e.ACCEPTED: s.SUBSCRIBED, e.POSTPONED: s.APART}),
        s.SURPLUS: Row(False, "unsubscribe", expected, {  # who wants it now has seen no snapshot
            e.WANT: s.RENEWING, e.UNWANT: s.SURPLUS, e.RESYNC: s.DROPPED, e.DATA: s.SURPLUS,
            e.ACCEPTED: s.SURPLUS, e.POSTPONED: s.ABSENT, e.SENT: s.LEAVING}),
        s.RENEWING: Row(True, "unsubscribe", outdated, {
            e.WANT: s.RENEWING, e.UNWANT: s.DROPPED, e.RESYNC: s.RENEWING, e.DATA: s.RENEWING,
            e.SENT: s.RETURNING}),
        s.DROPPED: Row(False, "unsubscribe", outdated, {
            e.WANT: s.RENEWING, e.UNWANT: s.DROPPED, e.RESYNC: s.DROPPED, e.DATA: s.DROPPED,
            e.SENT: s.LEAVING}),
        s.RETURNING: Row(True, "", outdated, {
            e.WANT: s.RETURNING, e.UNWANT: s.LEAVING, e.RESYNC: s.RETURNING, e.DATA: s.RETURNING,
            e.ENDED: s.DUE, e.KEPT: s.RENEWING}),
        s.LEAVING: Row(False, "", outdated, {
            e.WANT: s.RETURNING, e.UNWANT: s.LEAVING, e.RESYNC: s.LEAVING, e.DATA: s.LEAVING,
            e.ENDED: s.ABSENT, e.KEPT: s.SURPLUS, e.LOST: s.SURPLUS}),
    }
    # fmt: on


MACHINE = _machine()


@dataclass(slots=True)
class _Entry:
    state: State
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
        self._move(topic, Event.WANT)
        entry = self._entries[topic]
        entry.is_known = entry.is_known or is_known
        self._changed[topic] = None

    def unwant(self, topic: str) -> None:
        """Have the topic unsubscribed."""
        if self._move(topic, Event.UNWANT) is not State.ABSENT:
            self._changed[topic] = None

    def resync(self, topic: str) -> None:
        """Have the topic unsubscribed and subscribed again, for a new snapshot."""
        before = self.state(topic)
        if self._move(topic, Event.RESYNC) is not before:
            self._changed[topic] = None

    def state(self, topic: str) -> State:
        """Return where the topic stands."""
        entry = self._entries.get(topic)
        return State.ABSENT if entry is None else entry.state

    def _move(self, topic: str, event: Event) -> State:
        """Let an event happen to a topic; return its next state."""
        entry = self._entries.get(topic)
        state = MACHINE[State.ABSENT if entry is None else entry.state].after[event]
        if state is State.ABSENT:
            self._remove(topic)
        elif entry is None:
            self._entries[topic] = _Entry(state)
        else:
            entry.state = state
        return state

    def data(self, topic: str) -> Data:
        """Record that data of the topic came; return what it is. It may confirm a subscription."""
        if not (self._pending or self._changed or self._waiting or self._splits):
            return Data.EXPECTED  # nothing is requested or to be: the usual case
        meaning = MACHINE[self.state(topic)].data
        if meaning is Data.CONFIRMING:
            self._confirm(topic, Event.DATA)
            self._accepts()
        return meaning

    def confirmed(self) -> int:
        """Return how many topics the exchange has confirmed."""
        agreed = (State.SUBSCRIBED, State.SURPLUS)
        return sum(entry.state in agreed for entry in self._entries.values())

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
                self._move(topic, Event.SENT)
                self._entries[topic].request = request_id
                self._changed.pop(topic, None)
            sent.append(encode_request(op, batch, request_id))
        return sent

    def _recall(self, now: float) -> None:
        """Have what was refused tried again when its pause is over, each topic alone."""
        for topic in [topic for topic, at in self._waiting.items() if at <= now]:
            del self._waiting[topic]
            if self.state(topic) is State.APART:
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
            if MACHINE[entry.state].sends == "unsubscribe":
                if entry.leaves_alone:
                    return [topic], []
                leaving.append(topic)
            elif entry.state is State.DUE:
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
            asking = [topic for topic in part if self.state(topic) is State.APART]
        if len(asking) > limit:
            self._splits.append(asking[limit:])  # the next probe is of another part
        return asking[:limit]

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
                self._end(request.topics)
            else:
                self._keep(request.topics, words, now, fraction)
            return []
        # Of what was confirmed by data before this answer, too: a refusal means that none follows.
        asked = [
            topic
            for topic in request.topics
            if (entry := self._entries.get(topic)) is not None
            and entry.request == key
            and Event.ACCEPTED in MACHINE[entry.state].after
        ]
        agreed = asked if frame.success else [t for t in asked if t in listed.successTopics]
        agreed = [topic for topic in agreed if topic not in listed.failTopics]
        verdicts = [
            self._confirm(topic, Event.ACCEPTED)
            for topic in agreed
            if MACHINE[self.state(topic)].data is Data.CONFIRMING
        ]
        if agreed:
            self._accepts()
        refused = [topic for topic in asked if topic not in agreed]
        if frame.success:
            for topic in refused:
                verdicts += self._blame(topic, f"refused: {topic}", now, fraction)
        elif refused:
            verdicts += self._refused(refused, listed.failTopics, words, now, fraction)
        return [v for v in verdicts if not v.is_confirmed or self._is_wanted(v.topic)]

    def _is_wanted(self, topic: str) -> bool:
        return MACHINE[self.state(topic)].is_wanted

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

    def _confirm(self, topic: str, event: Event) -> Verdict:
        """Take a topic for subscribed, after an event that says so."""
        self._move(topic, event)
        entry = self._entries[topic]
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
            verdicts += [self._confirm(topic, Event.ACCEPTED) for topic in named]
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
                self._move(topic, Event.POSTPONED)
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
        if not self._is_wanted(topic):
            self._move(topic, Event.POSTPONED)
            return []
        verdict = self._put_off(topic, words, now)
        if (
            entry.refused_since is not None
            and now - entry.refused_since >= timing.REFUSED_LASTINGLY
        ):
            return [self._refuse(topic, words)]
        self._move(topic, Event.POSTPONED)
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
            if entry.state is State.APART
            and topic not in self._waiting
            and entry.refused_since is not None
            and now - entry.refused_since >= timing.REFUSED_LASTINGLY
        ]

    def _refuse(self, topic: str, words: str) -> Verdict:
        self._move(topic, Event.REFUSED)
        return Verdict(topic, is_confirmed=False, words=words)

    def _end(self, topics: Iterable[str]) -> None:
        """Take topics for unsubscribed."""
        for topic in topics:
            if self._is_leaving(topic) and self._move(topic, Event.ENDED) is State.DUE:
                self._entries[topic].leaves_alone = False
                self._changed[topic] = None

    def _is_leaving(self, topic: str) -> bool:
        return Event.ENDED in MACHINE[self.state(topic)].after

    def _keep(self, topics: Sequence[str], words: str, now: float, fraction: float) -> None:
        """Have what could not be unsubscribed tried again, each topic alone, after a pause.

        A topic is leaving, and in no other request, until its unsubscribe is answered or lost.
        """
        is_over = _NOT_SUBSCRIBED.search(words) is not None and not _is_of_the_moment(words)
        for topic in topics:
            if (is_over and len(topics) == 1) or not self._take_try(topic):
                self._end([topic])
                continue
            self._move(topic, Event.KEPT)
            entry = self._entries[topic]
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
                    if self.state(topic) is State.LEAVING and self._take_try(topic):
                        self._move(topic, Event.LOST)  # the request itself may be lost
                        self._changed[topic] = None
                self._end(request.topics)
                continue
            for topic in request.topics:
                if MACHINE[self.state(topic)].data is not Data.CONFIRMING:
                    continue
                event = Event.LOST if self._take_try(topic) else Event.ACCEPTED
                if MACHINE[self.state(topic)].after[event] is State.DUE:
                    self._move(topic, event)
                else:  # it may be subscribed: what is not wanted must be unsubscribed
                    self._confirm(topic, event)
                self._changed[topic] = None

    def _take_try(self, topic: str) -> bool:
        """Count a try; return whether there may be another."""
        tries = self._tries[topic] = self._tries.get(topic, 0) + 1
        return tries < MAX_TRIES

    def _remove(self, topic: str) -> None:
        self._entries.pop(topic, None)
        self._changed.pop(topic, None)
        self._waiting.pop(topic, None)
        self._tries.pop(topic, None)
