"""One connection to a relay, of one category, that heals itself.

The close code says what to do after a connection has ended (`close_codes.retry_policy`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from functools import partial
from http import HTTPStatus

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from relay.bybit.errors import BadFrame, Code, CrossedBook, ExchangeFault, NoSnapshotYet
from relay.bybit.frames import Frame, decode_frame
from relay.bybit.topics import Category, Topic, truncate
from relay.downstream.close_codes import CloseCode, Retry, retry_policy
from relay.lib import timing
from relay.lib.clock import wall_ms
from relay.lib.pacing import Backoff, TokenBucket
from relay.lib.proxies import PROXY_FAULTS, proxy_for, words_of
from relay.terminal.followed import Followed, State, Trade

logger = logging.getLogger(__name__)

CONNECT_LIMIT = 10.0  # seconds for the handshake
CROWDED_RETRY = 5.0  # seconds, where the relay asks for patience
LONGEST_CROWDED_RETRY = 30.0  # seconds, where the relay goes on asking for patience
AT_ONCE = 0.25  # seconds at most: spreads the clients of a relay that restarts
STEADY_AFTER = 5.0  # seconds: a connection that held so long ends a series of failures
MOMENTARY_RETRY = 2.0  # seconds: for refusals that are about the moment, not about the topic
REQUESTS_PER_SECOND, REQUEST_BURST = 10.0, 60.0  # half of what the relay allows
# Seconds in which messages may come that were under way when the relay lost the exchange; after
# that, whatever continues is right: only one of the relay's connections to the exchange is down.
UNDER_WAY = 1.0
MAX_MESSAGE = 16 * 2**20  # bytes: above any snapshot, yet bounded
MOMENTARY = (Code.RATE_LIMITED, Code.UPSTREAM_UNAVAILABLE)

OnMessage = Callable[[Followed, Frame, list[Trade]], Awaitable[None]]


class FeedState(StrEnum):
    """How a connection is."""

    CONNECTING = "connecting"  # the first attempt
    LIVE = "live"
    STALE = "stale"  # connected, but the relay is not connected to the exchange
    RECONNECTING = "reconnecting"


class Unwelcome(Exception):
    """The relay will not have us, and a further try would end the same; the words say why."""


class _Error(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Word(msgspec.Struct):
    """What a relay says that is not market data: an answer or a notice."""

    method: str | None = None
    success: bool | None = None
    id: str | int | float | None = None
    error: _Error | None = None
    ret_msg: str | None = None  # only Bybit's dialect has it
    type: str | None = None
    topic: str | None = None
    upstream: str = ""
    unsent: int = 0
    dropped: int = 0
    message: str = ""


_word = msgspec.json.Decoder(_Word)


class Pauses:
    """How long to wait after each end of a connection, in a row of them."""

    def __init__(self) -> None:
        self._growing = Backoff(timing.TERMINAL_FIRST_RETRY, timing.TERMINAL_RETRY_CEILING)
        self._crowded = Backoff(CROWDED_RETRY, LONGEST_CROWDED_RETRY)
        self._is_first = True

    def reset(self) -> None:
        """Begin from the start: a connection has held for long enough."""
        self._growing.reset()
        self._crowded.reset()
        self._is_first = True

    def after(self, code: int, fraction: float) -> float | None:
        """Return the seconds to wait after a connection has ended, None for no further attempt.

        Args:
            code: With which the relay closed the connection; 0 if it was lost.
            fraction: In [0, 1): the jitter, so that clients do not return in step.
        """
        policy = retry_policy(code)
        is_first, self._is_first = self._is_first, False
        if policy is Retry.NEVER:
            return None
        if policy is Retry.AT_ONCE and is_first:
            return AT_ONCE * fraction
        backoff = self._crowded if policy is Retry.BACK_OFF else self._growing
        return backoff.next(fraction)


class TopicFeed:
    """Follows topics of one category.

    Attributes:
        topics: What is followed, by Bybit's text.
        reason: Why the state is not live, in words.
        retry_at: When the next attempt is due, on the monotonic clock; None while there is none.
    """

    def __init__(
        self,
        url: str,
        topics: Iterable[Topic],
        *,
        on_message: OnMessage,
        on_change: Callable[[], None],
    ) -> None:
        """Prepare to connect.

        Args:
            url: Of the relay's `/ws`.
            topics: At least one, all of one category.
            on_message: Called with each message of a topic that was folded in; the next one is
                not read before it returns.
            on_change: Called when a state has changed.
        """
        self.topics = {topic.text: Followed(topic) for topic in topics}
        self.category: Category = next(iter(self.topics.values())).topic.category
        self.state = FeedState.CONNECTING
        self.reason = ""
        self.retry_at: float | None = None
        self._url = url
        self._on_message = on_message
        self._on_change = on_change
        self._bye = ""
        self._heard_at = 0.0
        self._stale_at = 0.0
        self._had_exchange = False  # whether anything of it has come through this relay
        self._is_held = False  # by the consumer of the messages
        self._last_id = 0
        self._requests: dict[str, Followed] = {}
        self._asked: asyncio.Queue[Followed] = asyncio.Queue()
        self._resyncs: dict[Followed, Backoff] = {}

    async def run(self) -> None:
        """Follow until cancelled, or until the relay has refused every topic.

        Raises:
            Unwelcome: the relay will not have us.
        """
        pauses = Pauses()
        while True:
            began = time.monotonic()
            code, self.reason = await self._attempt()
            if not self._wanted():
                return
            if time.monotonic() - began >= STEADY_AFTER:
                pauses.reset()
            delay = pauses.after(code, random.random())
            if delay is None:
                raise Unwelcome(f"The relay closed the connection: {self.reason} ({code}).")
            self._lost(delay)
            await asyncio.sleep(delay)

    def _wanted(self) -> list[Followed]:
        return [one for one in self.topics.values() if one.state is not State.REFUSED]

    def _lost(self, delay: float) -> None:
        for followed in self.topics.values():
            followed.interrupt()
        self.retry_at = time.monotonic() + delay
        self._become(FeedState.RECONNECTING, f"{self.reason}; next try in {delay:.1f} s")

    def _become(self, state: FeedState, words: str = "") -> None:
        if state is not self.state or words:
            logger.info("%s is %s%s", self.category, state, f" ({words})" if words else "")
        self.state = state
        self._on_change()

    # ---- the connection ----

    async def _attempt(self) -> tuple[int, str]:
        """Connect and follow until the end; return the close code (0: none) and why in words."""
        self._bye = ""
        try:
            async with connect(
                self._url,
                proxy=proxy_for(self._url),
                open_timeout=CONNECT_LIMIT,
                close_timeout=1,
                ping_interval=None,  # the relay's own ping: a reader that is held answers none
                max_size=MAX_MESSAGE,
            ) as socket:
                await self._follow(socket)
                return 0, ""
        except ConnectionClosed as fault:
            if fault.rcvd is None:
                return 0, self._bye or "connection lost"
            has_path = fault.rcvd.code != CloseCode.NOT_FOUND
            words = "closed by the relay" if has_path else "there is no such path; a relay has /ws"
            return fault.rcvd.code, truncate(self._bye or fault.rcvd.reason or words)
        except InvalidStatus as fault:
            status = fault.response.status_code
            if 400 <= status < 500 and status != HTTPStatus.TOO_MANY_REQUESTS:
                raise Unwelcome(f"{self._url} is not a relay: it answers HTTP {status}.") from None
            return 0, f"HTTP {status}"
        except TimeoutError:
            return 0, "no answer"
        except (OSError, EOFError, InvalidHandshake, *PROXY_FAULTS) as fault:
            return 0, truncate(_why(fault))

    async def _follow(self, socket: ClientConnection) -> None:
        """Take what comes; return when every topic has been refused."""
        self._heard_at = time.monotonic()
        self._requests.clear()
        self._asked = asyncio.Queue()
        self.retry_at, self.reason = None, ""
        for followed in self._wanted():
            self._asked.put_nowait(followed)
        speaking = asyncio.create_task(self._speak(socket))
        speaking.add_done_callback(partial(_fall_silent, socket))
        try:
            while self._wanted():
                text = await socket.recv(decode=False)
                self._heard_at = time.monotonic()
                await self._take(text)
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)

    async def _speak(self, socket: ClientConnection) -> None:
        """Send what is to be asked for, and pings; end a connection that has fallen silent."""
        bucket = TokenBucket(REQUESTS_PER_SECOND, REQUEST_BURST, time.monotonic())
        while True:
            try:
                async with asyncio.timeout(timing.TERMINAL_PING):
                    followed = await self._asked.get()
            except TimeoutError:
                if self._is_held:
                    self._heard_at = time.monotonic()
                elif time.monotonic() - self._heard_at > timing.TERMINAL_SILENCE:
                    self._bye = "the relay fell silent"
                    socket.transport.abort()
                    return
                await socket.send('{"method":"ping"}')
                continue
            for method in (
                ("unsubscribe", "subscribe") if followed.is_subscribed else ("subscribe",)
            ):
                now = time.monotonic()
                await asyncio.sleep(bucket.available_at(now) - now)
                bucket.take(time.monotonic())
                await socket.send(self._request(method, followed))

    def _request(self, method: str, followed: Followed) -> str:
        self._last_id += 1
        topic = followed.topic
        body: dict[str, object] = {
            "method": method,
            "topic": topic.feed.name,
            "symbol": topic.symbol,
        }
        if topic.parameter:
            body[topic.feed.key] = topic.native_parameter
        body |= {"category": topic.category, "id": str(self._last_id)}
        if method == "subscribe":
            self._requests[str(self._last_id)] = followed
        return msgspec.json.encode(body).decode()

    # ---- what the relay says ----

    async def _take(self, text: bytes) -> None:
        try:
            frame = decode_frame(text)
            if frame.topic is None or bytes(frame.data) == b"null":
                self._heard(_word.decode(text))
                return
        except (BadFrame, msgspec.DecodeError) as fault:
            logger.warning("%s: not understood: %s", self.category, truncate(str(fault)))
            return
        followed = self.topics.get(frame.topic)
        if followed is None:
            return
        try:
            trades = followed.take(text, frame, time.monotonic(), wall_ms())
        except NoSnapshotYet:
            return
        except CrossedBook:
            if followed.cross():
                self._look_again(followed)
                self._on_change()
            return
        except ExchangeFault as fault:
            logger.warning("%s needs a new snapshot: %s", followed.topic, fault)
            self._resync(followed)
            return
        self._had_exchange = True
        if self.state is FeedState.STALE and time.monotonic() - self._stale_at < UNDER_WAY:
            followed.on_upstream_changed(is_down=True)
        self._is_held = True
        try:
            await self._on_message(followed, frame, trades)
        finally:
            self._is_held = False

    def _look_again(self, followed: Followed) -> None:
        """Get a fresh snapshot of a crossed book, unless it heals in a moment."""

        def look() -> None:
            if followed.is_crossed:
                logger.warning("%s needs a new snapshot: it stays crossed", followed.topic)
                self._resync(followed)

        asyncio.get_running_loop().call_later(timing.TERMINAL_CROSSED_PATIENCE, look)

    def _resync(self, followed: Followed) -> None:
        """Get a fresh snapshot; each further one in a row waits longer."""
        was_subscribed = followed.is_subscribed
        followed.interrupt()
        followed.is_subscribed = was_subscribed  # so that it is unsubscribed first
        backoff = self._resyncs.setdefault(
            followed, Backoff(timing.TERMINAL_FIRST_RETRY, timing.TERMINAL_RETRY_CEILING)
        )
        self._ask_later(followed, backoff.next(random.random()))
        self._on_change()

    def _ask_later(self, followed: Followed, delay: float) -> None:
        asyncio.get_running_loop().call_later(delay, self._asked.put_nowait, followed)

    def _heard(self, word: _Word) -> None:
        # A relay that refuses a connection opens it to say so: only what it says next is a welcome.
        if word.type not in ("bye", "status") and self.state is not FeedState.STALE:
            self._become(FeedState.LIVE)
        if word.success is not None:
            self._answered(word)
        elif word.type == "status":
            is_down = word.upstream != "live"
            self._stale_at = time.monotonic()
            for followed in self.topics.values():
                followed.on_upstream_changed(is_down=is_down)
            self._had_exchange = self._had_exchange or not is_down
            verb = "has lost" if self._had_exchange else "is not connected to"
            self.reason = f"the relay {verb} the exchange" if is_down else ""
            self._become(FeedState.STALE if is_down else FeedState.LIVE, self.reason)
        elif word.type == "gap" and word.topic in self.topics:
            self.topics[word.topic].dropped += word.dropped
            logger.warning("%s:%s: %d trades were dropped", self.category, word.topic, word.dropped)
        elif word.type == "lagging":
            logger.warning("%s: read too slowly, %d bytes wait", self.category, word.unsent)
        elif word.type == "bye":
            self._bye = word.message

    def _answered(self, word: _Word) -> None:
        if word.ret_msg is not None:
            raise Unwelcome(f"{self._url} speaks Bybit's dialect alone: name the relay's /ws.")
        followed = self._requests.pop(str(word.id), None)
        if followed is None:
            return
        if word.success:
            followed.agreed(is_upstream_down=self.state is FeedState.STALE)
        elif word.error is not None and word.error.code in MOMENTARY:
            self._ask_later(followed, MOMENTARY_RETRY)
        else:
            words = truncate(word.error.message if word.error else "refused")
            followed.refuse(words)
            logger.warning("%s was refused: %s", followed.topic, words)
        self._on_change()


def _fall_silent(socket: ClientConnection, speaking: asyncio.Task[None]) -> None:
    """End a connection on which nothing is asked for any more: the next one asks for everything."""
    if speaking.cancelled() or speaking.exception() is None:
        return
    if not isinstance(speaking.exception(), ConnectionClosed):  # which `recv` raises as well
        logger.error("requests cannot be sent; reconnecting", exc_info=speaking.exception())
    socket.transport.abort()


def _why(fault: Exception) -> str:
    """Say in the system's words why there is no connection, without the address again."""
    if isinstance(fault, OSError) and fault.errno is not None and fault.errno > 0:
        return os.strerror(fault.errno)
    return getattr(fault, "strerror", None) or words_of(fault)
