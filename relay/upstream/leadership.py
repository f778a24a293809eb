"""Who serves a category: one worker leads, however many were started, and each term has a number.

The lead is a lease: redis-py's `Lock` on a key in the first Redis of `REDIS_URL`, renewed four
times in its life. A leader that dies, freezes or is cut off lets it run out, and the next one
that asks gets it. A lease alone does not silence a leader that was frozen and wakes, and Redis
cannot fence a PUBLISH: so each term has a number of its own, the epoch, which every envelope
carries, and hubs refuse what is older than the newest they know.

Where it was Redis that was away or forgot, the last leader has a moment to take the lead again: a
new leader would have to ask the exchange for everything, and could not bring back what was
traded meanwhile.

A leader that cannot reach Redis goes on: nothing it publishes arrives, or else the hubs refuse
it, and if no other has led meanwhile its term simply continues when Redis is back.

`MACHINE` is all of this as a table: in each state of a worker, where each event leads, and whether
the worker tries to acquire the lease. `LeaseLeadership` asks Redis and turns what it answers into
events.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, NamedTuple, Protocol

from redis.asyncio import Redis
from redis.asyncio.lock import Lock
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import LockError, LockNotOwnedError

from relay import conf
from relay.bybit.topics import Category
from relay.lib import timing
from relay.lib.tasks import LAYER_FAULTS

logger = logging.getLogger(__name__)


class State(Enum):
    """Where a worker stands in one category."""

    COMPETING = auto()  # it has seen no other leader: it began, or its term ended
    STANDING_BY = auto()  # another worker leads
    DOUBTFUL = auto()  # it stood by when Redis did not answer: the last leader is likely to live
    GRACE = auto()  # the lease is free, for Redis was away or forgot: the last leader may renew it
    LEADING = auto()
    UNCONFIRMED = auto()  # it leads, and Redis did not answer when it was asked last


class Event(Enum):
    """What a worker learns."""

    HELD = auto()  # another worker has the lease, or has led since
    FREE = auto()  # no other has the lease, and the last epoch is known
    FORGOTTEN = auto()  # no other has the lease, and Redis does not know the last epoch either
    GRACE_OVER = auto()  # no other has the lease, and the last leader has not renewed it in time
    NO_ANSWER = auto()  # Redis cannot be reached, or not in time
    WON = auto()  # this worker has the lease and a number for its term
    RENEWED = auto()  # the lease and the number are still this worker's
    OUTRANKED = auto()  # hubs know an epoch above this term's
    RESIGNED = auto()  # the term is given up, so that another worker may begin at once


class Move(NamedTuple):
    """The next state, and whether the worker tries to acquire the lease."""

    state: State
    acquires: bool = False


def _machine() -> dict[State, dict[Event, Move]]:
    """Return the table; an event that a state does not list must not happen in it."""
    s, e = State, Event
    stand_by, compete = Move(s.STANDING_BY), Move(s.COMPETING)
    # fmt: off
    return {
        s.COMPETING: {
            e.HELD: stand_by,
            e.FREE: Move(s.COMPETING, acquires=True),
            e.FORGOTTEN: Move(s.COMPETING, acquires=True),
            e.NO_ANSWER: compete, e.WON: Move(s.LEADING), e.RESIGNED: compete},
        s.STANDING_BY: {
            e.HELD: stand_by,
            e.FREE: Move(s.STANDING_BY, acquires=True),  # the leader has died, or has resigned
            e.FORGOTTEN: Move(s.GRACE),
            e.NO_ANSWER: Move(s.DOUBTFUL), e.WON: Move(s.LEADING)},
        s.DOUBTFUL: {
            e.HELD: stand_by, e.FREE: Move(s.GRACE), e.FORGOTTEN: Move(s.GRACE),
            e.NO_ANSWER: Move(s.DOUBTFUL)},
        s.GRACE: {
            e.HELD: stand_by, e.FREE: Move(s.GRACE), e.FORGOTTEN: Move(s.GRACE),
            e.GRACE_OVER: Move(s.GRACE, acquires=True),
            e.NO_ANSWER: Move(s.GRACE), e.WON: Move(s.LEADING)},
        s.LEADING: {
            e.RENEWED: Move(s.LEADING), e.NO_ANSWER: Move(s.UNCONFIRMED),
            e.HELD: compete, e.OUTRANKED: compete, e.RESIGNED: compete},
        s.UNCONFIRMED: {
            e.RENEWED: Move(s.LEADING), e.NO_ANSWER: Move(s.UNCONFIRMED),
            e.HELD: compete, e.OUTRANKED: compete, e.RESIGNED: compete},
    }
    # fmt: on


MACHINE = _machine()

# Both ask whether the caller still holds the lock in the same step: a worker that froze in
# between must not get a higher number than the one that leads by then.
_BEGIN = """
if redis.call('get', KEYS[1]) ~= ARGV[1] then return nil end
local epoch = math.max(tonumber(redis.call('get', KEYS[2]) or '0') + 1, tonumber(ARGV[2]))
redis.call('set', KEYS[2], string.format('%d', epoch))
return epoch
"""
_CONTINUE = """
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
local last = redis.call('get', KEYS[2])
if last == ARGV[2] then return 1 end
if last then return 0 end
redis.call('set', KEYS[2], ARGV[2])
return 1
"""


class Leadership(Protocol):
    """How a worker comes to serve a category."""

    @property
    def is_in_doubt(self) -> bool:
        """Whether this worker serves although Redis did not answer when it was asked last."""

    async def win(self) -> int:
        """Wait until this worker is to serve; return the epoch of its term."""

    async def keep(self) -> str:
        """Hold on to the term until it is over; return in words why it is."""

    async def leave(self) -> None:
        """End the term, so that another worker may begin at once."""

    def on_epoch(self, epoch: int) -> None:
        """Record an epoch seen by a hub; ours must be at least as high."""


class AloneLeadership:
    """Where there can be no other worker: the one in the web process leads until it stops."""

    is_in_doubt = False

    def __init__(self, wall_ms: Callable[[], int]) -> None:
        """Start; `wall_ms` tells Unix ms."""
        self._wall_ms = wall_ms

    async def win(self) -> int:
        """Return at once."""
        return self._wall_ms()

    async def keep(self) -> str:
        """Never return."""
        await asyncio.Event().wait()
        raise AssertionError

    async def leave(self) -> None:
        """Do nothing: no worker waits."""

    def on_epoch(self, epoch: int) -> None:
        """Do nothing: no other worker gives numbers."""


class LeaseLeadership:
    """Leads by a lease in Redis.

    The epoch is higher than any before: than the last in Redis, than any that hubs have told,
    and at least Unix ms, so that a flushed Redis cannot turn it back.

    Attributes:
        state: Where this worker stands, by `MACHINE`.
    """

    def __init__(self, redis: Redis, category: Category, wall_ms: Callable[[], int]) -> None:
        """Compete for a category.

        Args:
            redis: A client with short timeouts, such as `connect` makes.
            wall_ms: The time of day, Unix ms.
        """
        self._category = category
        self._wall_ms = wall_ms
        self._redis = redis
        prefix = conf.current().prefix
        leader = f"{prefix}:leader:{category}"
        self._lock = Lock(redis, leader, timeout=timing.LEADER_LEASE, thread_local=False)
        self._keys = [leader, f"{prefix}:epoch:{category}"]
        self._begin = redis.register_script(_BEGIN)
        self._continue = redis.register_script(_CONTINUE)
        self._epoch = 0
        self._highest_heard = 0
        self._grace_until = 0.0  # on the event loop's clock, in `State.GRACE`
        self._is_answering = True  # whether Redis did when it was asked last
        self.state = State.COMPETING

    @property
    def is_in_doubt(self) -> bool:
        """Whether this worker leads although Redis did not answer when it was asked last."""
        return self.state is State.UNCONFIRMED

    def _happens(self, event: Event) -> Move:
        """Let an event happen; return what follows."""
        before, move = self.state, MACHINE[self.state][event]
        self.state = move.state
        if move.state is State.GRACE and before is not State.GRACE:
            self._grace_until = self._now() + timing.LEADER_GRACE
        if move.state is State.STANDING_BY and before is State.COMPETING:
            logger.info("%s: standing by", self._category)
        return move

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def win(self) -> int:
        """Wait until the lease is this worker's; return the epoch of its term."""
        # One token a term, chosen here: a lock that Redis grants later than this worker waits for
        # its answer is recognised as its own.
        self._lock.local.token = uuid.uuid4().hex.encode()
        while True:
            try:
                async with asyncio.timeout(timing.REDIS_ANSWER_LIMIT):
                    # Looks first: what a Redis that was stopped takes late must not be a lock.
                    lease, last = await self._redis.mget(self._keys)
                    move = self._happens(self._event_of(lease, last))
                    if move.acquires and await self._acquire():
                        epoch = await self._take_number()
                        if epoch is not None:
                            self._on_answer()
                            self._happens(Event.WON)
                            self._epoch = epoch
                            return epoch
                self._on_answer()
            except LAYER_FAULTS as fault:
                self._happens(Event.NO_ANSWER)
                self._on_no_answer(fault, "cannot read the leadership lease; trying again")
            await asyncio.sleep(timing.LEADER_RETRY)

    def _event_of(self, lease: bytes | str | None, last_epoch: bytes | str | None) -> Event:
        """Return what the two keys of the category in Redis say."""
        if lease is not None and lease != self._lock.local.token:
            return Event.HELD
        if self.state is State.GRACE and self._now() >= self._grace_until:
            return Event.GRACE_OVER
        return Event.FORGOTTEN if last_epoch is None else Event.FREE

    async def _acquire(self) -> bool:
        """Take the lease if no other worker has it; return whether it is this worker's."""
        # It may be already, by an earlier try whose answer was lost or came too late.
        token = self._lock.local.token
        return await self._lock.acquire(blocking=False, token=token) or await self._lock.owned()

    async def _take_number(self) -> int | None:
        at_least = max(self._wall_ms(), self._highest_heard + 1)
        number = await self._begin(self._keys, [self._lock.local.token, at_least])
        return None if number is None else int(number)

    async def keep(self) -> str:
        """Renew the lease until the term is over; return in words why it is."""
        while True:
            await asyncio.sleep(timing.LEADER_RENEWAL)
            if self._highest_heard > self._epoch:
                self._happens(Event.OUTRANKED)
                return f"a newer epoch, {self._highest_heard}, is known to the web processes"
            try:
                async with asyncio.timeout(timing.REDIS_ANSWER_LIMIT):
                    is_kept = await self._renew()
                self._on_answer()
            except LAYER_FAULTS as fault:
                self._happens(Event.NO_ANSWER)
                self._on_no_answer(
                    fault, "cannot renew the leadership lease; continuing unconfirmed"
                )
                continue
            self._happens(Event.RENEWED if is_kept else Event.HELD)
            if not is_kept:
                return "another worker leads"

    async def _renew(self) -> bool:
        try:
            await self._lock.extend(timing.LEADER_LEASE, replace_ttl=True)
        except LockNotOwnedError:  # it ran out, or Redis was flushed or restarted
            if not await self._acquire():
                return False
        return bool(await self._continue(self._keys, [self._lock.local.token, self._epoch]))

    async def leave(self) -> None:
        """Give the lease back, if it is still held and Redis can be told."""
        self._happens(Event.RESIGNED)
        try:
            async with asyncio.timeout(timing.REDIS_ANSWER_LIMIT):
                await self._lock.release()
        except LockError:
            pass  # lost before
        except LAYER_FAULTS:
            logger.warning(
                "%s: could not release the leadership lease; it will expire", self._category
            )

    def on_epoch(self, epoch: int) -> None:
        """Record an epoch seen by a hub; a term with a lower one ends: hubs ignore it."""
        self._highest_heard = max(self._highest_heard, epoch)

    def _on_answer(self) -> None:
        if not self._is_answering:
            self._is_answering = True
            logger.info("%s: Redis answers again", self._category)

    def _on_no_answer(self, fault: Exception, words: str) -> None:
        if self._is_answering:
            self._is_answering = False
            logger.warning("%s: %s: %s", self._category, words, fault or type(fault).__name__)


class _CancellableRedis(Redis):
    """A client whose commands end with the cancel that comes while they run.

    redis-py sends with `asyncio.wait_for`, which on Python 3.11 drops a cancel that comes together
    with its result: a worker that was stopped while it asked for the lead went on to serve.
    """

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        task = asyncio.current_task()
        before = 0 if task is None else task.cancelling()
        answer = await super().execute_command(  # type: ignore[no-untyped-call]
            *arguments, **options
        )
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError
        return answer


def connect(url: str) -> Redis:
    """Return a client for leases: it answers within `timing.REDIS_ANSWER_LIMIT` or raises."""
    connection: Redis = _CancellableRedis.from_url(
        url,
        socket_timeout=timing.REDIS_ANSWER_LIMIT,
        socket_connect_timeout=timing.REDIS_ANSWER_LIMIT,
        retry=Retry(NoBackoff(), 1),  # one more: a connection may have died while it was idle
    )
    return connection
