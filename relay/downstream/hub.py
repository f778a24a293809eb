"""This process's topics and who reads them.

The hub is the one member of each topic's channel-layer group. It keeps the topic's image,
frames a message once and hands the same bytes to every local reader.

It is a core: inputs go in, effects come out. It does no I/O, starts no task and calls nothing of
its runner, which calls one of the inputs and then takes the `Effects`. Readers are the one
exception: `flush` writes their messages to their outbounds, and acks and notices are handed to
them as they are decided. An effect per delivery would be an allocation per delivery.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, assert_never

from relay import conf
from relay.bybit.errors import Code, ExchangeFault, Refusal
from relay.bybit.topics import Category, Topic
from relay.downstream.audience import Audience, Reader, Request
from relay.downstream.outbound import Outbound
from relay.layers.inbox import Inbox
from relay.lib import timing
from relay.seam import envelopes
from relay.seam.envelopes import (
    Base,
    Confirmed,
    Joined,
    Publication,
    Refused,
    Stale,
    ToHub,
    Upstream,
    UpstreamState,
)
from relay.seam.receiver import Position, Step
from relay.telemetry.telemetry import Telemetry

logger = logging.getLogger(__name__)

TURN = 20.0  # requests taken in one turn of the event loop, which costs it 1 to 2 ms
SETTLED_AT_ONE_PRICE = 50  # topics whose ack takes about as long as a simple request
TOO_MANY = "the relay carries as many topics as it may"
SERVED = (UpstreamState.LIVE, UpstreamState.PARTIAL)


@dataclass(slots=True)
class CategoryState:
    """What is known of a category's upstream.

    `since` and `told_down` are Unix ms, to be shown; the others are on the clock of `now`.
    """

    state: UpstreamState = UpstreamState.IDLE
    since: int = 0
    epoch: int = 0
    worker: str = ""
    heard: float | None = None
    told_down: int = 0  # since when, if readers' last word is that it is down
    unserved_since: float | None = None  # None while served by any worker, or not wanted


@dataclass(frozen=True, slots=True)
class Effects:
    """What a hub wants of its runner.

    Attributes:
        wake_at: When to call `tick`; None if nothing waits for the time.
        has_fresh: Whether `flush` has anything to send.
        has_demand: Whether the demand has changed since the effects were last taken: join the
            groups of `unjoined`, and tell the workers what `take_demand` returns.
    """

    wake_at: float | None
    has_fresh: bool
    has_demand: bool


_NOTHING = Effects(wake_at=None, has_fresh=False, has_demand=False)
_FLUSH = Effects(wake_at=None, has_fresh=True, has_demand=False)  # what messages leave behind


class Hub:
    """The topics of this process, their readers, and what it asks of the workers.

    The inputs are `subscribe`, `unsubscribe`, `leave`, `pin`, `ask_turn`, `receive`, `tick`,
    `extend_leases`, `retry_slow` and `flush`. After any of them `effects` says what is to be done.

    Attributes:
        has_effects: Whether there may be effects to take. Most publications leave none behind,
            as they come while others wait for the flush: look here before calling `effects`.
        audiences: By channel-layer group.
        categories: What is known of each category's upstream.
        corked: Ways to clients that hold bytes back until the end of a flush, so that what
            leaves for a client leaves in one write.
        oldest: When the oldest message was published that the last flush did not see, Unix
            seconds; 0 if there is none. The runner takes it with each flush.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        *,
        wall_ms: Callable[[], int],
    ) -> None:
        """Start with no topic.

        Args:
            telemetry: What this process records.
            wall_ms: The time of day, Unix ms.
        """
        self.audiences: dict[str, Audience] = {}
        self.categories = {category: CategoryState() for category in Category}
        self.corked: list[Outbound] = []
        self.is_reachable = True
        self.oldest = 0.0
        self._counters = telemetry.counters
        self._events = telemetry.events
        self.has_effects = False
        self._has_demand = False
        self._wall_ms = wall_ms
        self._decided: list[tuple[float, int, Request]] = []  # a heap, by the time to settle them
        self._turns: list[tuple[float, int, Reader]] = []  # a heap, by the time from which
        self._taken = 0.0  # requests in this turn, by their price
        self._number = count()
        self._dirty: dict[Audience, None] = {}
        self._slow: dict[Audience, None] = {}  # with readers that had no room
        self._asked: dict[Category, dict[str, Position | None]] = {}
        self._dropped: dict[Category, dict[str, None]] = {}
        self._inbox = Inbox("hub", envelopes.decode_to_hub, self._take)

    # ---- readers ----

    def subscribe(
        self, reader: Reader, topics: Iterable[Topic], request_id: object, now: float
    ) -> Request:
        """Have a reader follow topics it does not follow yet.

        The answer comes through `Reader.on_subscribed`, 2 ms later at the earliest.

        Raises:
            Refusal: A topic is new here and no worker can be told (`upstream_unavailable`), or
                this process has as many topics as the relay may subscribe (`too_many_topics`).
        """
        request = Request(
            reader,
            dict.fromkeys(topics),
            request_id,
            now + timing.MIN_ACK_DELAY,
            now + timing.MAX_ACK_DELAY,
        )
        new = [topic for topic in request.topics if topic.group not in self.audiences]
        self._check_room(reader, new, now)
        for topic in request.topics:
            audience = self.audiences.get(topic.group) or self._open(topic, now)
            audience.waiting[reader] = request
            audience.peak = max(audience.peak, audience.subscribers)
            is_down = self.categories[topic.category].state is UpstreamState.DOWN
            if not audience.is_confirmed and not is_down:
                request.undecided.add(topic)
        self._schedule(request)
        return request

    def _check_room(self, reader: Reader, topics: Sequence[Topic], now: float) -> None:
        """Raise a refusal unless topics that are new here may be opened.

        The worker keeps the limit over all hubs. A hub keeps it as well, because while no worker
        answers, nothing else would bound the topics that clients invent.
        """
        if not topics:
            return
        if not self.is_reachable:
            raise Refusal(Code.UPSTREAM_UNAVAILABLE, "the relay cannot reach its upstream worker")
        missing = len(self.audiences) + len(topics) - conf.current().max_topics
        if missing > 0 and not self._displace(reader, missing, now):
            self._events.record(
                "too_many_topics", TOO_MANY, category=topics[0].category, topic=topics[0].text
            )
            raise Refusal(Code.TOO_MANY_TOPICS, TOO_MANY)

    def _displace(self, reader: Reader, count: int, now: float) -> bool:
        """Refuse so many topics to the reader who has most of those that were never confirmed.

        Return False, and refuse nothing, unless that reader keeps more of them than `reader` gets.
        """
        unconfirmed: dict[Reader, list[Audience]] = {}
        for audience in self.audiences.values():
            if not audience.is_confirmed and not audience.is_pinned:
                for each in (*audience.waiting, *audience.owed, *audience.current):
                    unconfirmed.setdefault(each, []).append(audience)
        most = max(unconfirmed.values(), key=len, default=[])
        if len(most) <= len(unconfirmed.get(reader, ())) + 2 * count:
            return False
        for audience in most[:count]:
            self._refused(audience, Refusal(Code.TOO_MANY_TOPICS, TOO_MANY))
            for request in list(audience.waiting.values()):
                if request.not_before <= now:
                    self._settle(request, now)
        return True

    def _open(self, topic: Topic, now: float) -> Audience:
        audience = Audience(self._counters, topic, next(self._number))
        self.audiences[topic.group] = audience
        self._ask(audience)
        known = self.categories[topic.category]
        known.heard = known.heard or now  # from here on its silence counts
        if known.state not in SERVED and known.unserved_since is None:
            known.unserved_since = now
        return audience

    def pin(self, topics: Iterable[Topic], now: float) -> None:
        """Keep these topics whether a client reads them or not, and no others."""
        pinned = {topic.group: topic for topic in topics}
        for group, audience in list(self.audiences.items()):
            if audience.is_pinned and group not in pinned:
                audience.is_pinned = False
                if not audience.is_wanted:
                    self._close(audience)
        for group, topic in pinned.items():
            audience = self.audiences.get(group) or self._open(topic, now)
            audience.is_pinned = True

    def unsubscribe(self, reader: Reader, topic: Topic, now: float) -> None:
        """Have a reader no longer follow a topic; nothing of it is sent from here on."""
        audience = self.audiences.get(topic.group)
        if audience is None:
            return
        request = audience.waiting.pop(reader, None)
        if request is not None:
            request.undecided.discard(topic)
            if len(request.topics) == 1:
                self._settle(request, now)
            else:
                del request.topics[topic]
                if not request.undecided:
                    self._schedule(request)
        self._leave(audience, reader)

    def leave(self, reader: Reader, topics: Iterable[Topic]) -> None:
        """Forget a reader that is gone."""
        for topic in topics:
            audience = self.audiences.get(topic.group)
            if audience is not None:
                request = audience.waiting.get(reader)
                if request is not None:
                    request.is_settled = True
                self._leave(audience, reader)

    def is_waiting(self, reader: Reader, topic: Topic) -> bool:
        """Whether the ack of a subscribe has not been sent yet."""
        return reader in self.audiences[topic.group].waiting

    def _leave(self, audience: Audience, reader: Reader) -> None:
        audience.leave(reader)
        if not audience.is_wanted:
            self._close(audience)

    def _close(self, audience: Audience) -> None:
        topic = audience.topic
        self.audiences.pop(topic.group, None)
        self._dirty.pop(audience, None)
        self._slow.pop(audience, None)
        self._asked.get(topic.category, {}).pop(topic.text, None)
        dropped = self._dropped.setdefault(topic.category, {})
        if len(dropped) < conf.current().max_topics:  # else the next whole demand tells
            dropped[topic.text] = None
        self.has_effects = self._has_demand = True

    # ---- requests ----

    def _schedule(self, request: Request) -> None:
        at = request.deadline if request.undecided else request.not_before
        heapq.heappush(self._decided, (at, next(self._number), request))
        self.has_effects = True

    @property
    def has_turn(self) -> bool:
        """Whether a further request may be taken in this turn of the event loop.

        Else its reader asks for another turn, so that many clients with costly requests hold up
        no other client's messages for longer than one request takes.
        """
        return self._taken < TURN

    def ask_turn(self, reader: Reader, at: float) -> None:
        """Have `take_turn` return a reader: at a time, or in the next turn if that is past.

        Readers may ask while they are told something: it changes nothing of the topics.
        """
        heapq.heappush(self._turns, (at, next(self._number), reader))
        self.has_effects = True

    def take_turn(self, now: float) -> Reader | None:
        """Return a reader whose turn has come, for `Reader.on_turn`; None if no further fits in."""
        if self._turns and self._turns[0][0] <= now and self.has_turn:
            return heapq.heappop(self._turns)[2]
        return None

    def use_turn(self, price: float) -> None:
        """Count a request that is taken in this turn of the event loop."""
        self._taken += price

    def tick(self, now: float, read_until: float | None = None) -> None:
        """Begin a turn: settle the requests that are due, as many as fit into it.

        It also looks after the silence of workers. Call `take_turn` afterwards until it returns
        None.

        Args:
            read_until: Everything that was sent before has been received; `now` by default.
        """
        self._taken = 0.0
        self.has_effects = True  # what is left is due in the next turn
        while self._decided and self._decided[0][0] <= now and self.has_turn:
            self._settle(heapq.heappop(self._decided)[2], now)
        for category, known in self.categories.items():
            at = now if read_until is None else read_until
            silent = known.heard is not None and at - known.heard > timing.SILENCE
            if silent and known.state is not UpstreamState.DOWN:
                self._set_state(category, UpstreamState.DOWN, self._wall_ms(), now)

    def extend_leases(self, now: float) -> None:
        """Record that nothing could be received for a while: the silence of workers begins now."""
        for known in self.categories.values():
            known.heard = known.heard and now

    def _settle(self, request: Request, now: float) -> None:
        if request.is_settled:
            return
        request.is_settled = True
        self.use_turn(len(request.topics) / SETTLED_AT_ONE_PRICE)
        request.reader.on_subscribed(request, request.refusal)
        for topic in request.topics:
            audience = self.audiences[topic.group]
            audience.waiting.pop(request.reader, None)
            if request.refusal is not None:
                self._leave(audience, request.reader)
            elif topic.is_events and not request.reader.takes_notices:
                audience.flush()  # what was traded before is not its business
                audience.current[request.reader] = request.reader.outbound
                if audience.withheld:
                    self._touch(audience)
            else:
                audience.owed[request.reader] = None
                self._touch(audience)

    def _decide(self, audience: Audience, refusal: Refusal | None) -> None:
        """Take the exchange's verdict on a topic to those who wait for it."""
        for request in list(audience.waiting.values()):
            if audience.topic not in request.undecided and refusal is None:
                continue
            request.undecided.discard(audience.topic)
            if refusal is not None:
                request.refusal = request.refusal or refusal
                request.undecided.clear()
            if not request.undecided:
                self._schedule(request)

    # ---- envelopes ----

    def receive(self, message: Any, now: float) -> None:
        """Take one message of the channel layer; ignore one that this version cannot read."""
        self._inbox(message, now)

    def _take(self, envelope: ToHub, now: float) -> None:
        match envelope:  # the commonest kind first: a pattern that does not match costs most
            case Publication() | Base() | Stale() | Confirmed() | Refused():
                pass
            case Upstream():
                self._upstream(envelope, now)
                return
            case Joined():
                self._joined(envelope)
                return
            case _:
                assert_never(envelope)
        audience = self.audiences.get(envelope.group)
        if audience is None or not audience.is_joined:
            return  # on its way while the last reader left
        if envelope.epoch < self.categories[audience.topic.category].epoch:
            return  # of a worker that was replaced and does not know it
        receiver = audience.receiver
        match envelope:
            case Publication():
                messages = len(envelope.texts)
                audience.messages += messages
                self._counters.messages_in += messages
                self.oldest = self.oldest or envelope.at
                audience.updated = now
                closings = receiver.closings
                step = receiver.publication(envelope.epoch, envelope.after, envelope.texts)
                if step.forward:
                    audience.owe_closings(closings)
                self._confirm(audience)
                self._apply(audience, step)
            case Base():
                step = receiver.base(envelope.epoch, envelope.offset, envelope.texts)
                self._confirm(audience)
                self._apply(audience, step)
            case Stale():
                self._apply(audience, receiver.stale(envelope.epoch, envelope.after))
            case Confirmed():
                self._confirm(audience)
            case Refused():
                self._refused(audience, Refusal(envelope.code, envelope.message))
            case _:
                assert_never(envelope)

    def _joined(self, envelope: Joined) -> None:
        for group, number in envelope.audiences.items():
            audience = self.audiences.get(group)
            if audience is not None and audience.number == number:
                audience.is_joined = True
                self._ask(audience)

    def _confirm(self, audience: Audience) -> None:
        if not audience.is_confirmed:
            audience.is_confirmed = True
            self._decide(audience, None)

    def _refused(self, audience: Audience, refusal: Refusal) -> None:
        self._decide(audience, refusal)
        audience.is_confirmed = False
        for reader in [*audience.current, *audience.owed]:
            reader.on_revoked(audience.topic, refusal)
            self._leave(audience, reader)

    def _apply(self, audience: Audience, step: Step) -> None:
        if step.ask:
            self._counters.holes += 1
            self._ask(audience)
        if step.lost:
            audience.flush()
            for reader in audience.current:
                reader.on_rows_lost(audience.topic, step.lost, is_slow=False)
        if step.restart:
            audience.restart()
        audience.fresh += step.forward
        if audience.fresh or audience.owed or audience.withheld:
            self._touch(audience)

    def _upstream(self, envelope: Upstream, now: float) -> None:
        category, epoch = envelope.category, envelope.epoch
        known = self.categories[category]
        if epoch < known.epoch:
            return  # of a worker that was replaced
        known.heard = now
        known.worker = envelope.worker
        if epoch > known.epoch:
            if known.state is UpstreamState.LIVE:  # what was sent until the new one listens is lost
                self._set_state(category, UpstreamState.DOWN, self._wall_ms(), now)
            known.epoch = epoch
            for audience in self._of(category):
                audience.receiver.expect(epoch)
                self._ask(audience)
        self._set_state(category, envelope.state, envelope.since, now)

    def _set_state(self, category: Category, state: UpstreamState, since: int, now: float) -> None:
        known = self.categories[category]
        before = known.state
        known.state, known.since = state, since
        # A new worker is idle until it knows what is wanted; one that stays so has nothing to do.
        if state in SERVED or state is before is UpstreamState.IDLE:
            known.unserved_since = None
        elif state is not UpstreamState.IDLE and known.unserved_since is None:
            known.unserved_since = now
        if before is state:
            return
        # Between "down" and "live" nothing is news: a new worker is idle first, and connecting,
        # and perhaps down as well. A reader knows whether "live" is news to it: it may have been
        # told "down" and followed nothing since.
        is_news = state is UpstreamState.LIVE or (state.is_interrupted and not known.told_down)
        if is_news or (state is UpstreamState.IDLE and not self._of(category)):
            known.told_down = since if state.is_interrupted else 0
        readers: dict[Reader, None] = {}
        for audience in self._of(category):
            if state is UpstreamState.DOWN:
                for request in list(audience.waiting.values()):
                    request.undecided.clear()  # no worker is there to decide
                    self._schedule(request)
            readers |= dict.fromkeys(audience.current) | audience.owed
            self._touch(audience)  # what is owed can be paid, or not any more
        if is_news:
            for reader in readers:
                reader.on_upstream_changed(category, state, since)

    # ---- fan-out ----

    def _touch(self, audience: Audience) -> None:
        if not self._dirty:
            self.has_effects = True
        self._dirty[audience] = None

    @property
    def has_slow(self) -> bool:
        """Whether readers without room wait for `retry_slow`."""
        return bool(self._slow)

    def retry_slow(self) -> None:
        """Look again at readers that had no room; call a few times a second."""
        for audience in self._slow:
            self._touch(audience)
        self._slow = {}

    def flush(self) -> None:
        """Send everything that waits, one batch a topic."""
        dirty, self._dirty = self._dirty, {}
        for audience in dirty:
            audience.flush_some()
            if audience.fresh:
                self._touch(audience)
            elif audience.owed or audience.withheld:
                self._pay(audience)
        for outbound in self.corked:
            try:
                outbound.uncork()
            except Exception:
                logger.exception("cannot send to a client; ending its connection")
                outbound.abort()
        self.corked.clear()

    def _pay(self, audience: Audience) -> None:
        is_down = self.categories[audience.topic.category].state is UpstreamState.DOWN
        try:
            audience.pay(is_down=is_down)
        except ExchangeFault:
            self._ask(audience)
        if audience.has_slow and not is_down:
            self._slow[audience] = None

    # ---- effects ----

    def effects(self) -> Effects:
        """Take what is to be done after the inputs since the last call."""
        if self._decided or self._turns or self._has_demand:
            waiting = [heap[0][0] for heap in (self._decided, self._turns) if heap]
            effects = Effects(min(waiting, default=None), bool(self._dirty), self._has_demand)
        else:
            effects = _FLUSH if self._dirty else _NOTHING
        self.has_effects = self._has_demand = False
        return effects

    def _ask(self, audience: Audience) -> None:
        """Have the worker told what is wanted, or else have the topic's group joined first.

        An answer that is sent before the hub has joined never arrives.
        """
        if audience.is_joined:
            topic = audience.topic
            self._asked.setdefault(topic.category, {})[topic.text] = audience.receiver.known
            self._dropped.get(topic.category, {}).pop(topic.text, None)
        self.has_effects = self._has_demand = True

    def _of(self, category: Category) -> list[Audience]:
        return [a for a in self.audiences.values() if a.topic.category is category]

    def take_demand(self, category: Category) -> tuple[dict[str, Position | None], list[str]]:
        """Return what is newly wanted, with positions, and what no longer is."""
        asked, dropped = self._asked.pop(category, {}), self._dropped.pop(category, {})
        return asked, list(dropped)

    def unjoined(self) -> dict[str, int]:
        """Return the audiences, by group, whose `joined` has not come back yet."""
        return {
            group: audience.number
            for group, audience in self.audiences.items()
            if not audience.is_joined
        }

    def interest(self, category: Category) -> dict[str, Position | None]:
        """Return everything that is wanted of a category and has been joined, with positions."""
        return {
            audience.topic.text: audience.receiver.known
            for audience in self._of(category)
            if audience.is_joined
        }
