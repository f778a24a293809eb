"""One client: what it says becomes calls of the hub, what the hub says becomes messages.

A client comes in by one of two endpoints: `/ws`, where both dialects are spoken, and `/v5`, where
only Bybit's is. It has one category, because Bybit's messages do not name theirs.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from relay import conf
from relay.bybit import dialect as bybit_dialect
from relay.bybit.dialect import BybitDialect, BybitId, in_words_of_bybit
from relay.bybit.errors import Code, Refusal
from relay.bybit.requests import Endpoint, Fields, decode_fields
from relay.bybit.topics import Category, Topic
from relay.downstream import native_dialect
from relay.downstream.audience import Reader, Request
from relay.downstream.close_codes import CloseCode, code_of_client
from relay.downstream.hub import Hub
from relay.downstream.intake import Intake, Message
from relay.downstream.native_dialect import Method, NativeId
from relay.downstream.outbound import Outbound
from relay.downstream.wire import Batch, text_frame
from relay.seam.envelopes import UpstreamState
from relay.telemetry.telemetry import Telemetry

logger = logging.getLogger(__name__)

ABORT_AFTER = 1.0  # seconds from a close that cannot be sent to the end of the connection
# Characters of a request's id that is kept as long as its topics are: a client could have 64 KiB
# kept for each of a thousand topics. The late refusal of a topic has no longer id.
ID_KEPT = 256

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class _Asked:
    """How a topic was asked for, so that a late refusal can be told in the same words."""

    id: NativeId | BybitId


class Runner(Protocol):
    """Who has the hub: it takes a client's inputs, and does after each what the hub wants done."""

    hub: Hub
    """To be looked at."""

    def subscribe(
        self, reader: Reader, topics: Iterable[Topic], request_id: object, now: float
    ) -> None:
        """See `Hub.subscribe`."""

    def unsubscribe(self, reader: Reader, topic: Topic, now: float) -> None:
        """See `Hub.unsubscribe`."""

    def leave(self, reader: Reader, topics: Iterable[Topic]) -> None:
        """See `Hub.leave`."""

    def ask_turn(self, reader: Reader, at: float) -> None:
        """See `Hub.ask_turn`."""


class ClientSession:
    """A client of this process.

    Attributes:
        number: No other client of this process has had it.
        since: When it came, Unix ms.
        category: None until the first subscribe decides it, on `/ws` without a query.
        topics: What it follows or has asked to, with how it asked.
        endpoint: By which it came in.
        takes_notices: Whether that is `/ws`.
        wants_input: Whether to read on; False once it has sent too much.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        runner: Runner,
        endpoint: Endpoint,
        *,
        address: str | None = None,
        user_agent: str = "",
    ) -> None:
        """Make a client that `attach` gives a way out.

        Args:
            telemetry: What this process records.
            runner: Of the hub whose topics it follows.
            endpoint: By which it came in.
            address: As the server reports it; None if it reports none.
            user_agent: As the client names itself.
        """
        settings = conf.current()
        now = time.monotonic()
        self.category: Category | None = None
        self.topics: dict[Topic, _Asked] = {}
        self.endpoint = endpoint
        self.takes_notices = endpoint is Endpoint.NATIVE
        self.number = next(_numbers)
        self.since = time.time_ns() // 1_000_000
        self.address = address
        self.user_agent = user_agent
        self.idle_since: float | None = now
        self.is_closing = False
        self._counters = telemetry.counters
        self._events = telemetry.events
        self._runner = runner
        self._hub = runner.hub
        self.outbound: Outbound
        self._buffer_limit = settings.client_buffer
        self._slow_timeout = settings.slow_timeout
        self._most_unsent = self._buffer_limit  # more while a snapshot that exceeds it leaves
        self._accepted = 0  # bytes, when last looked at
        self._progress_at = now  # when the socket last accepted any
        self.backlogged_in: set[ClientSession] | None = None
        self._max_topics = (
            settings.max_topics_per_connection
            if endpoint is Endpoint.NATIVE
            else conf.V5_MAX_TOPICS_PER_CONNECTION
        )
        self._intake = Intake(settings.requests_per_second, now)
        self.wants_input = True
        self._connection_id = f"{secrets.token_hex(10)}-{secrets.token_hex(2)}"
        self._down_since = 0  # Unix ms: the outage it was told of last
        self.is_lagging = False

    def attach(self, outbound: Outbound) -> None:
        """Give it the way to send by."""
        self.outbound = outbound

    # ---- what the client says ----

    def on_frame(self) -> None:
        """Count a frame of any kind; close the client when there have been too many."""
        if self.wants_input and not self._intake.take_frame(time.monotonic()):
            self._close_flood()

    def _close_flood(self) -> None:
        self.wants_input = False
        self.close(CloseCode.TOO_MANY_REQUESTS)

    def on_message(self, message: Message) -> None:
        """Take one message of the client, at once or in its turn."""
        now = time.monotonic()
        if self.is_closing:
            return
        if not self._intake.is_waiting and self._turn_at(now) <= now and self._hub.has_turn:
            self._request(message, now)
        elif self.endpoint is Endpoint.BYBIT and bybit_dialect.is_ping(message):
            self._request(message, now)  # libraries end a connection whose heartbeat is late
        else:
            self._wait(message, now)

    def _turn_at(self, now: float) -> float:
        """Return when the next request may be taken: on `/ws` at once, and refused if too early."""
        return self._intake.available_at(now) if self.endpoint is Endpoint.BYBIT else now

    def _wait(self, message: Message, now: float) -> None:
        is_first = not self._intake.is_waiting
        if not self._intake.put(message):
            self._close_flood()
            return
        if self.endpoint is Endpoint.BYBIT:
            self._intake.give_frame_back()
        if is_first:
            self._runner.ask_turn(self, self._turn_at(now))
        if self._intake.is_full:
            self.outbound.pause_reading()

    def on_turn(self, now: float) -> None:
        """Take the requests whose turn has come; leave the hub if it was closed."""
        if self.is_closing:
            self._leave()
            return
        intake = self._intake
        while intake.is_waiting and self._turn_at(now) <= now and self._hub.has_turn:
            try:
                self._request(intake.pop(), now)
            except Exception:
                self.on_failure()
        if self.is_closing:
            return
        if intake.is_waiting:
            self._runner.ask_turn(self, self._turn_at(now))
        if not intake.is_full:
            self.outbound.resume_reading()

    def _request(self, message: Message, now: float) -> None:
        try:
            if message is None:
                raise Refusal(Code.BAD_REQUEST, "expected text, received a binary frame")
            fields = decode_fields(message)
        except Refusal as refusal:
            is_allowed = self._take_request(now)
            self._answer_unread(message, refusal if is_allowed else _rate_limited())
            return
        if "op" in fields or not self.takes_notices:
            self._bybit(fields, now)
        else:
            self._native(fields, now, is_allowed=self._take_request(now))

    def _take_request(self, now: float, price: float = 1.0) -> bool:
        """Count a request; return False if it is to be refused, which no request on `/v5` is."""
        self._hub.use_turn(price)
        return self._intake.take(now, price) or self.endpoint is Endpoint.BYBIT

    def _answer_unread(self, text: Message, refusal: Refusal) -> None:
        self._counters.refusals[refusal.code] += 1
        if self.takes_notices:
            self._say(native_dialect.refused(NativeId(), refusal))
        else:
            self._say(self._dialect.not_json(text or b""))

    # ---- the native dialect ----

    def _native(self, fields: Fields, now: float, *, is_allowed: bool) -> None:
        known = native_dialect.read_name(fields)
        try:
            known = native_dialect.read_id(fields)
            if not is_allowed:
                raise _rate_limited()
            match native_dialect.read_method(fields):
                case Method.PING:
                    self._say(native_dialect.pong(known))
                case Method.LIST:
                    topics = [t for t in self.topics if not self._hub.is_waiting(self, t)]
                    self._say(native_dialect.listing(known, self.category, topics))
                case Method.SUBSCRIBE:
                    self._native_subscribe(known, fields, now)
                case Method.UNSUBSCRIBE:
                    topic = native_dialect.read_topic(fields, self.category)
                    if topic not in self.topics:
                        raise Refusal(Code.NOT_SUBSCRIBED, f"not subscribed: {topic.text}")
                    self._unsubscribe(topic, now)
                    self._say(native_dialect.agreed(known, topic))
        except Refusal as refusal:
            self._counters.refusals[refusal.code] += 1
            self._say(native_dialect.refused(known, refusal))

    def _native_subscribe(self, known: NativeId, fields: Fields, now: float) -> None:
        topic = native_dialect.read_topic(fields, self.category)
        if topic in self.topics:
            self._say(native_dialect.agreed(known, topic, already=True))
            return
        if len(self.topics) >= self._max_topics:
            raise Refusal(Code.TOO_MANY_TOPICS, f"a connection may have {self._max_topics} topics")
        self._runner.subscribe(self, [topic], known, now)
        self._follow([topic], known)

    # ---- Bybit's dialect ----

    @property
    def _dialect(self) -> BybitDialect:
        return BybitDialect(self.category or Category.LINEAR, self._connection_id)

    def _bybit(self, fields: Fields, now: float) -> None:
        known = bybit_dialect.read_id(fields)
        args = bybit_dialect.read_args(fields)
        try:
            if not self._take_request(now, bybit_dialect.price(args)):
                raise Refusal(Code.RATE_LIMITED, "error:too many requests")
            if known.op == "ping":
                self._say(self._dialect.pong(known, time.time_ns() // 1_000_000))
            elif known.op not in ("subscribe", "unsubscribe"):
                raise Refusal(Code.UNKNOWN_METHOD, "error:invalid op")
            elif args is None:
                raise Refusal(Code.BAD_REQUEST, "error:args must be a list of topics")
            elif known.op == "subscribe":
                self._bybit_subscribe(known, args, now)
            else:
                self._bybit_unsubscribe(known, args, now)
        except Refusal as refusal:
            self._counters.refusals[refusal.code] += 1
            self._say(self._dialect.refused(known, refusal.message, args))

    def _bybit_subscribe(self, known: BybitId, args: list[str], now: float) -> None:
        limit = self._max_topics
        # The number alone refuses a request of thousands before any of its topics is read.
        topics = self._dialect.read_topics(args, self.topics) if len(args) <= limit else None
        if topics is None or len(self.topics) + len(topics) > limit:
            raise Refusal(Code.TOO_MANY_TOPICS, f"error:too many topics,limit:{limit}")
        try:
            self._runner.subscribe(self, topics, known, now)
        except Refusal as refusal:
            raise in_words_of_bybit(refusal) from None
        self._follow(topics, known)

    def _bybit_unsubscribe(self, known: BybitId, args: list[str], now: float) -> None:
        wanted = set(args)
        for topic in [topic for topic in self.topics if topic.text in wanted]:
            self._unsubscribe(topic, now)
        self._say(self._dialect.agreed(known, args))

    # ---- both ----

    def _follow(self, topics: list[Topic], known: NativeId | BybitId) -> None:
        if isinstance(known, BybitId) and len(known.req_id or "") > ID_KEPT:
            known = BybitId(known.op, None)
        self.topics |= dict.fromkeys(topics, _Asked(known))
        if len(self.topics) > 1:
            self.outbound.corked = self._hub.corked
        if topics:
            self.category = topics[0].category
            self.idle_since = None

    def _unsubscribe(self, topic: Topic, now: float) -> None:
        self._runner.unsubscribe(self, topic, now)
        self._forget(topic)

    def _forget(self, topic: Topic) -> None:
        self.topics.pop(topic, None)
        if not self.topics:
            self.idle_since = time.monotonic()

    # ---- what the hub says ----

    def has_room(self) -> bool:
        """Whether what was waiting has drained to a quarter of the limit."""
        return self.outbound.unsent() <= self._buffer_limit // 4

    def has_room_for(self, size: int) -> bool:
        """Whether so many bytes may wait beside those that do."""
        return self.outbound.unsent() + size <= self._most_unsent

    def on_crowded(self, batch: Batch, size: int) -> bool:
        """Take messages although others are waiting, up to the limit; tell when it comes near."""
        unsent = self.outbound.unsent() + size
        if unsent > self._buffer_limit // 2 and not self.is_lagging:
            self.is_lagging = True
            self._counters.lagging += 1
            if self.takes_notices:
                self._tell(native_dialect.lagging(unsent - size))
        if unsent > self._buffer_limit:
            return False
        self.outbound.write(batch)
        return True

    def on_backlog(self) -> None:
        """Have the progress of the socket watched."""
        unsent = self.outbound.unsent()
        if unsent <= self._buffer_limit:
            self._most_unsent = self._buffer_limit
        elif unsent > self._most_unsent:
            # Only a snapshot may exceed the limit, and the answers behind it are not to blame.
            self._most_unsent = unsent + self._buffer_limit // 4
        if self.backlogged_in is not None and self not in self.backlogged_in:
            self.backlogged_in.add(self)
            self._accepted = self.outbound.accepted()
            self._progress_at = time.monotonic()

    def look_after_backlog(self, now: float) -> bool:
        """Close a client whose socket accepts nothing; return whether to look again later."""
        unsent, accepted = self.outbound.unsent(), self.outbound.accepted()
        if accepted != self._accepted:
            self._accepted, self._progress_at = accepted, now
        if unsent <= self._buffer_limit // 4:
            self.is_lagging = False
            self.outbound.answer_ping()
        if not unsent:
            return False
        if now - self._progress_at > self._slow_timeout:
            if self.is_closing:
                self.outbound.abort()
                return False
            self.close(CloseCode.SLOW, f"nothing was read for {self._slow_timeout:g} s")
            self._progress_at = now - self._slow_timeout + ABORT_AFTER
        return True

    def on_subscribed(self, request: Request, refusal: Refusal | None) -> None:
        known = request.id
        if refusal is not None:
            self._counters.refusals[refusal.code] += 1
            for topic in request.topics:
                self._forget(topic)
        if isinstance(known, BybitId):
            args = [topic.text for topic in request.topics]
            if refusal is None:
                self._say(self._dialect.agreed(known, args))
            else:
                self._say(self._dialect.refused(known, in_words_of_bybit(refusal).message, args))
        elif isinstance(known, NativeId):
            if refusal is None:
                self._say(native_dialect.agreed(known, next(iter(request.topics))))
            else:
                self._say(native_dialect.refused(known, refusal))
        if refusal is None and request.topics and self.category is not None:
            self._tell_upstream(self.category)

    def on_revoked(self, topic: Topic, refusal: Refusal) -> None:
        asked = self.topics.get(topic)
        if asked is None:
            return
        self._forget(topic)
        self._counters.refusals[refusal.code] += 1
        if isinstance(asked.id, BybitId):
            words = in_words_of_bybit(refusal).message
            self._say(self._dialect.refused(asked.id, words, [topic.text]))
        else:
            self._say(native_dialect.refused(asked.id, refusal))

    def on_rows_lost(self, topic: Topic, dropped: int, *, is_slow: bool) -> None:
        self._counters.gaps += 1
        self._counters.trades_dropped += dropped
        if self.takes_notices:
            self._tell(native_dialect.gap(topic, dropped))
        else:  # Bybit's dialect has no word for it, and trades must not be lost in silence
            code = CloseCode.SLOW if is_slow else CloseCode.DATA_LOST
            self.close(code, f"{dropped} rows of {topic.text} were dropped")

    def on_upstream_changed(self, category: Category, state: UpstreamState, since: int) -> None:
        if not state.is_interrupted and not self._down_since:
            return  # it was never told of an interruption
        self._down_since = since if state.is_interrupted else 0
        if self.takes_notices:
            word = UpstreamState.DOWN if state.is_interrupted else state
            self._tell(native_dialect.status(category, word.value, since))

    def _tell_upstream(self, category: Category) -> None:
        """Tell a client that followed nothing what it has missed: upstream went down or came back.

        Without it a client that comes while upstream is down would wait for a snapshot without
        knowing why.
        """
        known = self._hub.categories[category]
        if known.told_down:
            if known.told_down != self._down_since:
                self.on_upstream_changed(category, UpstreamState.DOWN, known.told_down)
        elif known.state is UpstreamState.LIVE:
            self.on_upstream_changed(category, UpstreamState.LIVE, known.since)

    # ---- the end ----

    def close(self, code: CloseCode, message: str = "", *, word: str = "") -> None:
        """Say goodbye and close; nothing is sent afterwards.

        Args:
            message: Why, in words, where there are closer ones than the code's own.
            word: Why, in a word, where there is a closer one than the code's own.
        """
        if self.is_closing:
            return
        message = message or code.meaning
        self.is_closing = True
        self._intake.clear()
        self._counters.closes[code] += 1
        if code in (CloseCode.SLOW, CloseCode.TOO_MANY_REQUESTS):
            self._events.record("closed", f"{self.address or 'a client'}: {message}")
        if self.takes_notices:
            self.outbound.write(Batch([native_dialect.bye(word or code.word, message)]))
        self.outbound.close(code.value, message)
        if self.wants_input:
            self.outbound.resume_reading()  # to read the client's own close frame
        self._runner.ask_turn(self, time.monotonic())  # to leave; the hub may be delivering now

    def _leave(self) -> None:
        """Follow nothing any more."""
        self._runner.leave(self, list(self.topics))
        self.topics.clear()

    def disconnect(self) -> None:
        """Close at an operator's order; end the connection if a goodbye was said already."""
        if self.is_closing:
            self.outbound.abort()
        else:
            self.close(CloseCode.BY_OPERATOR)

    def on_left(self, code: int | None) -> None:
        """Leave the hub: the client has sent a close frame, though its connection may linger."""
        if not self.is_closing:
            self.is_closing = True
            self._counters.closes[code_of_client(code)] += 1
        self._intake.clear()
        self._leave()

    def on_failure(self) -> None:
        """Log the exception that is being handled, which the client's input caused, and close."""
        logger.exception("client %d: an error of the relay; closing its connection", self.number)
        self.close(CloseCode.INTERNAL_ERROR)

    def on_gone(self) -> None:
        """Release everything: the connection has ended."""
        self.is_closing = True
        self._intake.clear()
        self._leave()
        self.outbound.detach()
        if self.backlogged_in is not None:
            self.backlogged_in.discard(self)

    def _say(self, text: bytes) -> None:
        """Send an answer; close the connection of a client that does not read its answers."""
        if self.is_closing or self.has_room_for(len(text_frame(text))):
            self._tell(text)
        else:
            self.close(CloseCode.SLOW, "answers are not read")
            self.outbound.abort()

    def _tell(self, text: bytes) -> None:
        """Send a notice. They are few, and a slow reader is not to blame for them."""
        if not self.is_closing:
            batch = Batch([text])
            self.outbound.write(batch)
            self._counters.bytes_out += batch.size_for(1)


def _rate_limited() -> Refusal:
    return Refusal(Code.RATE_LIMITED, "too many requests; slow down")
