"""What the worker of one category knows and decides, without I/O.

`CategoryUpstream` is a core: inputs go in, effects come out. Its runner (`worker`) calls an input
with what happened, `on_demand`, `on_resync`, `on_opened`, `on_closed`, `on_frame`, `on_binary`,
`tick`, `beat` or `extend_leases`, and then does what `effects` returns: open and close
connections, send requests, publish envelopes, pause. No input calls the runner. The functions that
the core is made with (the time of day, chance, the room for topics) only answer questions.

A frame comes each 50 µs, so what it leaves behind waits in the core and is not an effect each
time: envelopes until `take_envelopes`, requests in the `Subscriptions` of their connection.
`has_effects` tells whether there is anything new to do.

A demand may displace a topic of another category of the same worker: the effects of that category
are taken after its own next input, a tick at the latest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from relay.bybit.errors import BadFrame, Code, Refusal
from relay.bybit.frames import (
    ARGS_PER_CONNECTION,
    CHARACTERS_PER_CONNECTION,
    Frame,
    argument_length,
    decode_frame,
    decode_topic,
)
from relay.bybit.subscriptions import Data, Subscriptions, Verdict, says_no_such_topic
from relay.bybit.topics import Category, Topic, truncate
from relay.lib import timing
from relay.seam import envelopes
from relay.seam.demand import DemandLeases
from relay.seam.envelopes import (
    Base,
    Confirmed,
    Demand,
    Publication,
    Refused,
    Stale,
    TopicEnvelope,
    Upstream,
    UpstreamState,
)
from relay.seam.receiver import Position
from relay.seam.sender import Outcome, StreamSender
from relay.telemetry.reports import CategoryReport, ConnectionReport, StreamRow
from relay.telemetry.telemetry import Telemetry

logger = logging.getLogger(__name__)

MAX_REFUSALS = 10_000  # refusals remembered; beyond that the oldest is forgotten
MAX_LEFT = 20_000  # topics that were let go and whose last position is remembered
FAULT_TOLD = 120  # characters of a topic's last fault in a report
WORDS_KEPT = 500  # characters of the exchange's words on a refused topic
CROWDED_BYTES = 4 * 2**20  # waiting for the channel layer, at which reading pauses
ENVELOPE_BYTES = 1_000  # that an envelope counts beside its messages: refusals have words, too
MAX_WAITING_BYTES = 64 * 2**20  # published and not yet taken by the channel layer


@dataclass(slots=True, eq=False)
class ConnectionState:
    """One connection of the category: the topics it is to carry, and how it is.

    `relay.upstream.connection.Connection` keeps it connected.

    Attributes:
        number: Counts up from 1 in each term.
        subscriptions: What the open connection is subscribed to; None while it is not open.
        characters: What its topics count towards Bybit's limit.
        empty_since: When its last topic left; None while it has any.
        has_failed: Whether the last try to connect failed or the connection broke.
        since: When it opened or broke, Unix ms.
        error: Why it broke last, in words; empty if it never did.
        answered_at: When it opened or last answered a ping.
    """

    number: int
    topics: dict[str, None] = field(default_factory=dict)
    subscriptions: Subscriptions | None = None
    characters: int = 0
    empty_since: float | None = None
    has_failed: bool = False
    since: int = 0
    error: str = ""
    answered_at: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the exchange is connected."""
        return self.subscriptions is not None

    def confirmed(self) -> int:
        """Return how many of its topics the exchange has confirmed."""
        return 0 if self.subscriptions is None else self.subscriptions.confirmed()

    def has_room(self, category: Category, text: str) -> bool:
        """Whether Bybit allows one more topic on the connection."""
        most = ARGS_PER_CONNECTION.get(category, CHARACTERS_PER_CONNECTION)
        fits = self.characters + argument_length(text) <= CHARACTERS_PER_CONNECTION
        return fits and len(self.topics) < most

    def add(self, text: str) -> None:
        """Have the connection carry a topic, from its next opening or by `subscriptions`."""
        self.topics[text] = None
        self.empty_since = None
        self.characters += argument_length(text)

    def remove(self, text: str) -> None:
        """Have the connection carry a topic no more."""
        del self.topics[text]
        self.characters -= argument_length(text)


@dataclass(frozen=True, slots=True)
class Effects:
    """What the runner of a category is to do after an input.

    Attributes:
        opens: Connections to open, and to open again whenever they break.
        closes: Connections to close for good.
        asks: Open connections whose subscriptions may have requests to send.
        has_envelopes: Whether `take_envelopes` has something to publish.
        has_other_topics: Whether the topics carried are others than before.
        is_crowded: Whether so much waits for the channel layer that the exchange should wait, too:
            a connection that has just read a frame is to pause. Once this is false again, which
            it may become by `take_envelopes`, all are to read.
    """

    opens: tuple[ConnectionState, ...] = ()
    closes: tuple[ConnectionState, ...] = ()
    asks: tuple[ConnectionState, ...] = ()
    has_envelopes: bool = False
    has_other_topics: bool = False
    is_crowded: bool = False


_NOTHING = Effects()
_PUBLISH = Effects(has_envelopes=True)  # what a frame leaves behind, nearly always


class CategoryUpstream:
    """The upstream side of one category.

    Attributes:
        has_effects: Whether there is something new in `effects`.
        state: How the connections are.
        since: When that began, Unix ms.
        streams: The topics that are subscribed or about to be, by Bybit's text.
        connections: The connections there should be.
        waiting_bytes: Of envelopes that the channel layer has not taken, about.
        counted: What this process has counted of the category, also in terms before this one.
    """

    def __init__(
        self,
        category: Category,
        *,
        telemetry: Telemetry,
        epoch: int,
        worker: str,
        linger: float,
        max_topics: Callable[[], int],
        peers: Callable[[], Iterable[CategoryUpstream]] | None = None,
        wall_ms: Callable[[], int],
        random: Callable[[], float],
    ) -> None:
        """Start with nothing wanted.

        Args:
            telemetry: What this process records.
            epoch: Of this worker; higher than any before it.
            worker: Name of this worker, for operators.
            linger: Seconds a topic stays subscribed after its last reader left.
            max_topics: Tells how many further topics may be subscribed.
            peers: Tells the categories that share that number, this one among them.
            wall_ms: The time of day, Unix ms.
            random: Numbers in [0, 1), for jitter.
        """
        self.category = category
        self.epoch = epoch
        self.state = UpstreamState.IDLE
        self.since = wall_ms()
        self.streams: dict[str, StreamSender] = {}
        self.connections: list[ConnectionState] = []
        self.counted = telemetry.counters.upstream[category]
        self._events = telemetry.events
        self._worker = worker
        self._linger = linger
        self._max_topics = max_topics
        self._peers = peers or (lambda: (self,))
        self._wall_ms = wall_ms
        self._random = random
        self._leases = DemandLeases()
        self._connection_of: dict[str, ConnectionState] = {}
        # Topics that the exchange has never confirmed, and the process that asked for each first.
        self._asked_by: dict[str, str] = {}
        # process -> topics, oldest first -> when they were asked for
        self._unconfirmed: dict[str, dict[str, float]] = {}
        self._refused: dict[str, tuple[float, str]] = {}  # topic -> until, words
        self._outbox: dict[str, list[TopicEnvelope | Upstream]] = {}  # group -> envelopes, in order
        self.waiting_bytes = 0
        self.has_effects = False
        self._opens: dict[int, ConnectionState] = {}
        self._closes: dict[int, ConnectionState] = {}
        self._asks: dict[int, ConnectionState] = {}
        self._has_other_topics = False
        self._waiting_since: float | None = None  # the first of the messages that wait
        self._ignored_in = 0  # the second in which a bad frame was logged last
        self._next_number = 1
        # A topic that was let go and comes back counts on: it must not repeat a position of this
        # epoch, and from the difference a hub reads how many trades it has lost.
        self._left_at: dict[str, int] = {}  # topic -> where its next stream starts
        self._first_offset = 0  # where one starts that is not among them

    def effects(self) -> Effects:
        """Return what there is to do since this was called last."""
        self.has_effects = False
        is_crowded = self.waiting_bytes > CROWDED_BYTES
        if not (self._opens or self._closes or self._asks or self._has_other_topics or is_crowded):
            return _PUBLISH if self._outbox else _NOTHING
        effects = Effects(
            opens=tuple(self._opens.values()),
            closes=tuple(self._closes.values()),
            asks=tuple(self._asks.values()),
            has_envelopes=bool(self._outbox),
            has_other_topics=self._has_other_topics,
            is_crowded=is_crowded,
        )
        self._opens.clear()
        self._closes.clear()
        self._asks.clear()
        self._has_other_topics = False
        return effects

    # ---- demand ----

    def on_demand(self, envelope: Demand, now: float) -> None:
        """Take what a hub wants; answer what can be answered at once."""
        process, want = envelope.process, envelope.want
        # First what needs no room, and what makes some.
        carried = [text for text in want if text in self.streams]
        if envelope.whole:
            self._leases.renew(process, carried, now)
        else:
            self._leases.add(process, carried, now)
            self._leases.drop(process, envelope.drop, now)
        for text, position in want.items():
            if text not in self.streams:
                if not self._admit(text, process, now):
                    continue
                self._leases.add(process, [text], now)
            if position is None or not envelope.behind:
                self._answer(self.streams[text], position, now)

    def _admit(self, text: str, process: str, now: float) -> bool:
        """Subscribe a topic that is new here, unless there is a reason not to."""
        try:
            topic = Topic.parse(self.category, text)
        except Refusal as refusal:
            logger.warning("ignoring invalid topic requested by a hub: %s", refusal.message)
            return False
        until, words = self._refused.get(text, (0.0, ""))
        if now < until:
            self._put(Refused(topic.group, self.epoch, Code.REFUSED_BY_EXCHANGE, words))
            return False
        while self._max_topics() <= 0:
            if not self._displace(process, now):
                self._turn_away(topic)
                return False
        was_confirmed = text in self._left_at
        offset = self._left_at.pop(text, self._first_offset)
        self.streams[text] = StreamSender(topic, offset, was_confirmed=was_confirmed)
        connection = self._connection_for(text)
        connection.add(text)
        self._connection_of[text] = connection
        if connection.subscriptions is not None:
            connection.subscriptions.want(text, is_known=was_confirmed)
            self._ask(connection)
        if not was_confirmed:
            self._asked_by[text] = process
            self._unconfirmed.setdefault(process, {})[text] = now
        self._has_other_topics = self.has_effects = True
        self._refresh_state()
        return True

    def _displace(self, process: str, now: float) -> bool:
        """Let one topic go, so that another may be subscribed; False if none can be spared.

        First the topic that no process has wanted for the longest time. Then one that the exchange
        has never confirmed, of the process that asked for most of those: `process` itself, which
        asks now, if no other asked for more. What it asks for together displaces nothing of itself.
        """
        peers = list(self._peers())
        lingering = [
            (*found, peer)
            for peer in peers
            if (found := peer._leases.longest_lingering()) is not None
        ]
        if lingering:
            _, text, peer = min(lingering, key=lambda each: each[0])
            peer._leases.let_go(text)
            peer._release(text, now)
            return True
        asked = [
            (len(topics), asker == process, next(iter(topics.items())), peer)
            for peer in peers
            for asker, topics in peer._unconfirmed.items()
        ]
        if not asked:
            return False
        _, is_own, (text, asked_at), peer = max(asked, key=lambda each: each[:2])
        if is_own and asked_at >= now:
            return False
        peer._turn_away(peer.streams[text].topic)
        peer._release(text, now)
        return True

    def _turn_away(self, topic: Topic) -> None:
        """Tell the hubs that there is no room for a topic."""
        words = "the relay carries as many topics as it may"
        self._events.record("too_many_topics", words, category=self.category, topic=topic.text)
        self._put(Refused(topic.group, self.epoch, Code.TOO_MANY_TOPICS, words))

    def _forget_asker(self, text: str) -> None:
        """Note that a topic is none of those any more that the exchange has never confirmed."""
        process = self._asked_by.pop(text, None)
        if process is not None:
            topics = self._unconfirmed[process]
            del topics[text]
            if not topics:
                del self._unconfirmed[process]

    def _connection_for(self, text: str) -> ConnectionState:
        for connection in self.connections:
            if connection.has_room(self.category, text):
                return connection
        connection = ConnectionState(self._next_number, since=self._wall_ms())
        self._next_number += 1
        self.connections.append(connection)
        self._opens[connection.number] = connection
        self.has_effects = True
        return connection

    def _remove(self, connection: ConnectionState) -> None:
        self.connections.remove(connection)
        self._asks.pop(connection.number, None)
        if self._opens.pop(connection.number, None) is None:
            self._closes[connection.number] = connection
            self.has_effects = True

    def _ask(self, connection: ConnectionState) -> None:
        """Have the requests of an open connection sent, if it is to stay; it may have some now."""
        if connection in self.connections:  # what it has read may come after it was removed
            self._asks[connection.number] = connection
            self.has_effects = True

    def _answer(self, stream: StreamSender, position: Position | None, now: float) -> None:
        """Tell a hub that stands at `position` what it lacks."""
        due = stream.settled
        if not stream.topic.is_events:  # what it has of an earlier stream of the topic is stale
            due = max(due, stream.start)
        behind = position is None or position < (self.epoch, due)
        if behind and position is not None:
            if now - stream.told_behind_at < timing.BEHIND_PAUSE:
                return  # what was sent then is for all hubs
            stream.told_behind_at = now
        if stream.is_live and behind:
            self._put_base(stream)
        elif behind and position is not None and not stream.topic.is_events:
            # It believes in an image that is stale: the word of that was lost.
            self._put(Stale(stream.topic.group, self.epoch, stream.offset - 1))
        elif position is None and stream.is_confirmed:
            self._put(Confirmed(stream.topic.group, self.epoch))

    def _put_base(self, stream: StreamSender) -> None:
        """Send the state to the hubs, at once or when a crossed book has healed."""
        stream.owes_base = stream.is_crossed
        if stream.owes_base:
            return
        envelope = Base(stream.topic.group, self.epoch, stream.offset, stream.base())
        waiting = self._outbox.get(stream.topic.group)
        if not (waiting and waiting[-1] == envelope):  # several hubs may ask at once
            self._put(envelope, sum(map(len, envelope.texts)))

    # ---- the exchange ----

    def on_opened(self, connection: ConnectionState, now: float) -> None:
        """Give an open connection its subscriptions, which want all its topics."""
        known = {text for text in connection.topics if self.streams[text].was_confirmed}
        connection.subscriptions = Subscriptions(self.category, connection.topics, now, known=known)
        self.counted.reconnects += connection.has_failed
        if connection.has_failed:
            self._refused.clear()  # what was refused just before may have been the exchange's fault
        connection.has_failed = False
        connection.answered_at = now
        connection.since = self._wall_ms()
        self._events.record(
            "connection", f"connection {connection.number} opened", category=self.category
        )
        self._refresh_state()

    def on_closed(self, connection: ConnectionState, error: str) -> None:
        """Take a connection for broken, or not made; its topics are stale.

        Args:
            error: Why, in words.
        """
        connection.error = error
        if connection.subscriptions is not None or not connection.has_failed:
            connection.since = self._wall_ms()
            words = f"connection {connection.number} broke: {connection.error}"
            self._events.record("connection", words, category=self.category)
        connection.subscriptions = None
        connection.has_failed = True
        self.counted.breaks += 1
        if not connection.topics and connection in self.connections:
            self._remove(connection)
        for text in connection.topics:
            self._interrupt(self.streams[text])
        self._refresh_state()

    def on_frame(self, connection: ConnectionState, text: bytes, now: float) -> None:
        """Take one text frame of the exchange."""
        try:
            frame = decode_frame(text)
        except BadFrame as fault:
            self._unreadable(connection, text, str(fault), now)
            return
        if frame.topic is not None:
            try:
                self._message(connection, frame, text, now)
            except Exception as fault:  # a fault of this program costs the topic, not the others
                self._unreadable(connection, text, repr(fault), now, fault)
        elif frame.is_pong:
            connection.answered_at = now
        elif frame.is_ack and connection.subscriptions is not None:
            verdicts = connection.subscriptions.reply(frame, now, self._random())
            self._ask(connection)  # what waited for this answer, or is asked for again
            self._decide(verdicts, now)
        else:
            self._ignore(text, "neither a topic nor an answer")

    def on_binary(self, size: int) -> None:
        """Take note of a binary frame, which Bybit does not send here."""
        self._ignore(b"", f"binary, {size} bytes")

    def _message(self, connection: ConnectionState, frame: Frame, text: bytes, now: float) -> None:
        name = frame.topic or ""
        stream, subscriptions = self.streams.get(name), connection.subscriptions
        if stream is None or subscriptions is None or self._connection_of[name] is not connection:
            # Data on its way while a topic is being unsubscribed, or moves, is not a fault.
            if subscriptions is None or name not in subscriptions:
                self._ignore(text, f"a topic that was not asked for: {truncate(name)}")
            return
        data = subscriptions.data(name)
        if data is Data.OUTDATED:
            return  # what follows it will be missing: the stream goes on from the next ack
        if data is Data.CONFIRMING:
            self._ask(connection)  # the exchange accepts topics again, if it did not
            self._confirm(name, now)
        self.counted.messages += 1
        self.counted.bytes += len(text)
        before, was_live = stream.offset, stream.is_live
        outcome = stream.receive(text, frame, now)
        if outcome is Outcome.PUBLISH:
            if self._waiting_since is None:
                self._waiting_since = now
                self._measure(frame)
            for held in stream.take_held():
                self._publish(stream, before, held)
                before += 1
            self._publish(stream, before, text)
            if stream.owes_base:
                self._put_base(stream)
        elif outcome is Outcome.BAD:
            self._ignore(text, stream.fault)
        elif outcome is Outcome.BROKEN:
            self._broke(stream, was_live=was_live)

    def _broke(self, stream: StreamSender, *, was_live: bool) -> None:
        """Tell that a topic needs a new snapshot."""
        self.counted.gaps += 1
        logger.warning("%s needs a new snapshot: %s", stream.topic, truncate(stream.fault))
        self._events.record("gap", stream.fault, category=self.category, topic=stream.topic.text)
        if was_live:
            self._put_stale(stream)

    def _unreadable(
        self,
        connection: ConnectionState,
        text: bytes,
        words: str,
        now: float,
        fault: Exception | None = None,
    ) -> None:
        """Ignore a message that could not be read; the topic it names, if any, has lost it."""
        self._ignore(text, words, fault)
        name = decode_topic(text) or ""
        stream = self.streams.get(name)
        if stream is not None and self._connection_of[name] is connection:
            was_live = stream.is_live
            if stream.refuse(words, now) is Outcome.BROKEN:
                self._broke(stream, was_live=was_live)

    def _measure(self, frame: Frame) -> None:
        """Take how old a message is; the `cts` of a snapshot may be that of an old trade."""
        made_at = (frame.type == "delta" and frame.cts) or frame.ts
        if made_at:
            self.counted.received.observe((self._wall_ms() - made_at) / 1000)

    def _confirm(self, text: str, now: float) -> None:
        stream = self.streams.get(text)
        if stream is None or stream.is_confirmed:
            return  # let go meanwhile, or data came before the ack
        was_live = stream.is_live
        stream.confirm(now)
        self._forget_asker(text)
        if stream.is_live and not was_live:
            self._put_base(stream)  # trades begin here, also for hubs that know older ones
        else:
            self._put(Confirmed(stream.topic.group, self.epoch))

    def _decide(self, verdicts: list[Verdict], now: float) -> None:
        """Act on what the exchange answered to a request."""
        put_off = [verdict for verdict in verdicts if verdict.is_asked_again]
        if put_off:
            text, words = put_off[0].topic, put_off[0].words
            logger.warning(
                "%s: the exchange refuses %d topics for now, such as %s (%r); asking again",
                self.category,
                len(put_off),
                text,
                truncate(words),
            )
            self._events.record(
                "refused", f"for now: {words[:WORDS_KEPT]}", category=self.category, topic=text
            )
        for verdict in verdicts:
            if verdict.is_confirmed:
                self._confirm(verdict.topic, now)
            elif verdict.is_asked_again:
                self._interrupt(self.streams.get(verdict.topic))
            else:
                self._refuse(verdict.topic, verdict.words, now)

    def _interrupt(self, stream: StreamSender | None) -> None:
        """Note that the exchange sends nothing of a topic until it is subscribed again."""
        if stream is not None:
            was_live = stream.is_live
            stream.stop()
            if was_live:
                self._put_stale(stream)

    def _refuse(self, text: str, words: str, now: float) -> None:
        words = words[:WORDS_KEPT]
        self.counted.refusals += 1
        logger.warning("the exchange refused %s:%s: %r", self.category, text, truncate(words))
        self._events.record("refused", words, category=self.category, topic=text)
        stream = self.streams.get(text)
        was_confirmed = text in self._left_at if stream is None else stream.was_confirmed
        if says_no_such_topic(words) and not was_confirmed:
            if len(self._refused) >= MAX_REFUSALS:
                del self._refused[next(iter(self._refused))]
            self._refused.pop(text, None)
            self._refused[text] = (now + timing.REFUSED_FOR, words)
        if stream is not None:
            group = stream.topic.group
            self._put(Refused(group, self.epoch, Code.REFUSED_BY_EXCHANGE, words))
            self._release(text, now)

    def _ignore(self, text: bytes, words: str, fault: Exception | None = None) -> None:
        """Count a frame that is not understood; of many in one second one is logged.

        Args:
            fault: The fault of this program that is to blame, if one is.
        """
        self.counted.not_understood += 1
        second = self._wall_ms() // 1000
        if second == self._ignored_in:
            return
        self._ignored_in = second
        logger.log(
            logging.WARNING if fault is None else logging.ERROR,
            "%d frames of %s were not understood, the last: %s: %r",
            self.counted.not_understood,
            self.category,
            truncate(words),
            text[:80].decode(errors="replace"),
            exc_info=fault,
        )

    # ---- time ----

    def extend_leases(self, now: float) -> None:
        """Note that demand cannot be received: what was wanted last is kept."""
        self._leases.extend_leases(now)

    def tick(self, now: float) -> None:
        """Do what is due: let topics go, ask for broken ones again. Call a few times a second."""
        for text in self._leases.expire(now, self._linger):
            self._release(text, now)
        for connection in list(self.connections):
            since = connection.empty_since
            if since is not None and now - since >= timing.CONNECTION_LINGER:
                self._remove(connection)
        for text, (until, _) in list(self._refused.items()):
            if until > now:
                break  # oldest first
            del self._refused[text]
        for text, stream in self.streams.items():
            if stream.stays_crossed(now):
                self._broke(stream, was_live=True)
            connection = self._connection_of[text]
            subscriptions = connection.subscriptions
            if subscriptions is not None and stream.take_resync(now):
                self.counted.resyncs += 1
                subscriptions.resync(text)
                self._ask(connection)
                stream.resynced(now, self._random())

    def on_resync(self, text: str, now: float) -> None:
        """Ask the exchange for a topic's snapshot again, as an operator requests.

        Until it comes the topic is stale: between leaving and coming back messages are missed.
        """
        stream = self.streams.get(text)
        if stream is None:
            return
        was_live = stream.is_live
        if stream.ask_anew(now):
            self._events.record(
                "resync", "asked for by an operator", category=self.category, topic=text
            )
            if was_live:
                self._put_stale(stream)

    def report(self) -> CategoryReport:
        """Return what there is to say of the category, without its topics."""
        connections: list[ConnectionReport] = [
            {
                "number": connection.number,
                "state": _state_of(connection),
                "since": connection.since,
                "topics": len(connection.topics),
                "confirmed": connection.confirmed(),
                "error": connection.error,
            }
            for connection in self.connections
        ]
        return {
            "role": "leader",
            "epoch": self.epoch,
            "state": self.state.value,
            "since": self.since,
            "topics": len(self.streams),
            "wanted": self._leases.wanted(),
            "confirmed": sum(connection["confirmed"] for connection in connections),
            "messages": self.counted.messages,
            "connections": connections,
        }

    def rows(self) -> list[StreamRow]:
        """Return what there is to say of each topic."""
        return [
            StreamRow(
                self.category.value,
                text,
                stream.messages,
                stream.gaps,
                stream.resyncs,
                stream.update_id,
                stream.fault[:FAULT_TOLD],
            )
            for text, stream in self.streams.items()
        ]

    def beat(self) -> None:
        """Repeat how the category is. Call every `timing.BEAT` seconds."""
        for stream in self.streams.values():
            stream.beat()
        self._put_state()

    def _release(self, text: str, now: float) -> None:
        stream = self.streams.pop(text, None)
        if stream is None:
            return
        self._has_other_topics = self.has_effects = True
        self._forget_asker(text)
        if stream.offset or stream.is_live:  # what was refused has no position that anyone knows
            self._leave_off(text, stream.offset + 1)
        connection = self._connection_of.pop(text)
        connection.remove(text)
        if connection.subscriptions is not None:
            connection.subscriptions.unwant(text)
            self._ask(connection)
        if not connection.topics and connection.subscriptions is None:
            self._remove(connection)  # a connection that no topic needs is not opened
        elif not connection.topics:
            connection.empty_since = now
        self._refresh_state()

    def _leave_off(self, text: str, offset: int) -> None:
        if len(self._left_at) >= MAX_LEFT:
            oldest = self._left_at.pop(next(iter(self._left_at)))
            self._first_offset = max(self._first_offset, oldest)
        self._left_at[text] = offset

    def _refresh_state(self) -> None:
        if not self.streams:
            state = UpstreamState.IDLE
        elif all(connection.is_open for connection in self.connections):
            state = UpstreamState.LIVE
        elif any(connection.has_failed for connection in self.connections):
            is_any_open = any(connection.is_open for connection in self.connections)
            state = UpstreamState.PARTIAL if is_any_open else UpstreamState.DOWN
        elif self.state is UpstreamState.LIVE:
            return  # a further connection is being opened; the others work
        else:
            state = UpstreamState.CONNECTING
        if state is not self.state:
            self.state = state
            self.since = self._wall_ms()
            logger.info("upstream %s is %s", self.category, state)
            self._put_state()

    # ---- envelopes ----

    def take_envelopes(self, now: float, at: float) -> dict[str, list[TopicEnvelope | Upstream]]:
        """Return what is to be sent at once, by group, in order; it is then the caller's.

        Args:
            at: The time of day, Unix seconds.
        """
        if self.waiting_bytes > CROWDED_BYTES:
            self.has_effects = True  # it is no more
        outbox, self._outbox, self.waiting_bytes = self._outbox, {}, 0
        if self._waiting_since is not None:
            self.counted.published.observe(now - self._waiting_since)
            self._waiting_since = None
            for waiting in outbox.values():
                for envelope in waiting:
                    if isinstance(envelope, Publication):
                        envelope.at = at
        return outbox

    def _publish(self, stream: StreamSender, after: int, text: bytes) -> None:
        group = stream.topic.group
        waiting = self._outbox.get(group)
        last = waiting[-1] if waiting else None
        # A topic that was let go and came back meanwhile does not continue what waits.
        if isinstance(last, Publication) and last.after >= stream.start:
            last.texts.append(text)
            self._weigh(len(text))
        else:
            self._put(Publication(group, self.epoch, after, [text]), len(text))

    def _put_stale(self, stream: StreamSender) -> None:
        self._put(Stale(stream.topic.group, self.epoch, stream.offset))
        stream.mark_stale()

    def _put_state(self) -> None:
        envelope = Upstream(self.category, self.epoch, self.state, self.since, self._worker)
        self._outbox.setdefault(envelopes.UPSTREAM_GROUP, []).append(envelope)
        self.has_effects = True
        self._weigh(ENVELOPE_BYTES)

    def _put(self, envelope: TopicEnvelope, size: int = 0) -> None:
        self._outbox.setdefault(envelope.group, []).append(envelope)
        self.has_effects = True
        self._weigh(size + ENVELOPE_BYTES)

    def _weigh(self, size: int) -> None:
        """Bound what waits: the hubs see the gap and ask for what they lack."""
        self.waiting_bytes += size
        if self.waiting_bytes <= CROWDED_BYTES:
            return
        self.has_effects = True
        if self.waiting_bytes > MAX_WAITING_BYTES:
            self.counted.dropped += sum(map(len, self._outbox.values()))
            logger.error("the channel layer does not keep up; dropped what waited for it")
            self._outbox, self.waiting_bytes, self._waiting_since = {}, 0, None


def _state_of(connection: ConnectionState) -> str:
    if connection.is_open:
        return "live"
    return "down" if connection.has_failed else "connecting"
