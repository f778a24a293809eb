"""What the simulated exchange consists of while it runs: sockets, faults, counts.

`server` moves it and puts it on the network; `control` changes and reads it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from relay.simulator.exchange import Exchange, Source
from relay.simulator.replay import Recording, ReplaySource
from relay.simulator.session import Session
from relay.simulator.topics import Category

logger = logging.getLogger(__name__)

REQUESTS_KEPT = 2_000  # for each category
_ID_LETTERS = "0123456789abcdefghijklmnopqrstuv"


class Connection(ServerConnection):
    """A connection that can be struck dumb, protocol pongs included."""

    is_silent: Callable[[], bool] = staticmethod(lambda: False)

    def send_data(self) -> None:
        if self.is_silent():
            self.protocol.data_to_send()  # taken away and dropped
        else:
            super().send_data()


class Socket:
    """One client's socket: collects frames and writes them together."""

    def __init__(self, connection: Connection, category: Category, venue: Venue) -> None:
        self.category = category
        self.conn_id = venue.new_conn_id()
        self.session = Session(category, self.conn_id, venue.source, self, self._acknowledge)
        self.session.is_broken = self._refuses
        self.played = asyncio.Event()  # set when a replay has something new to do
        self._connection = connection
        self._venue = venue
        self._unsent: list[bytes] = []
        self._timers: set[asyncio.TimerHandle] = set()

    @property
    def waiting(self) -> int:
        """How many bytes the client has not taken yet."""
        return self._connection.transport.get_write_buffer_size()

    def push(self, frame: bytes) -> None:
        if not self._unsent:
            self._venue.unflushed.append(self)
            self._venue.flush_soon()
        self._unsent.append(frame)

    def flush(self) -> None:
        """Write what was collected, or drop it if the category has gone silent."""
        data = b"".join(self._unsent)
        self._unsent.clear()
        is_open = self._connection.state is State.OPEN
        if is_open and not self._venue.is_silent(self.category):
            self._connection.transport.write(data)
        if self.waiting > self._venue.unsent_limit:
            logger.warning("%s socket %s cut off: it does not read", self.category, self.conn_id)
            self.abort()

    def abort(self) -> None:
        """Cut the connection without a close frame, as the exchange does."""
        self._connection.transport.abort()

    def close(self) -> None:
        """Forget the client, which is gone."""
        self.session.close()
        for timer in self._timers:
            timer.cancel()
        self._unsent.clear()

    def _refuses(self) -> bool:
        faults = self._venue.faults[self.category]
        is_due = faults.subscribes_to_refuse > 0
        faults.subscribes_to_refuse -= is_due
        return is_due

    def _acknowledge(self, frame: bytes) -> None:
        faults = self._venue.faults[self.category]
        if faults.acks_to_lose:
            faults.acks_to_lose -= 1
        elif faults.acks_to_delay and faults.ack_delay:
            faults.acks_to_delay -= 1
            self._push_later(frame, faults.ack_delay)
        else:
            self.push(frame)

    def _push_later(self, frame: bytes, seconds: float) -> None:
        def push() -> None:
            self._timers.discard(timer)
            self.push(frame)

        timer = asyncio.get_running_loop().call_later(seconds, push)
        self._timers.add(timer)


@dataclass(slots=True)
class CategoryFaults:
    """What is wrong with one category now; moments are seconds of the loop's clock."""

    silent_until: float = 0.0
    refusing_until: float = 0.0
    ack_delay: float = 0.0
    acks_to_delay: int = 0
    acks_to_lose: int = 0
    subscribes_to_refuse: int = 0


@dataclass(slots=True)
class Tally:
    """What one category has seen."""

    opened: int = 0
    requests: deque[dict[str, object]] = field(default_factory=lambda: deque(maxlen=REQUESTS_KEPT))


class Venue:
    """The exchange, who is connected to it, and what is wrong with it now.

    Attributes:
        sockets: The clients that are connected.
        unflushed: Sockets that have collected frames in this turn of the loop.
        is_paused: Whether the market stands still; level 1 is said again all the same.
        source: What sessions subscribe to: `exchange`, or a recording.
    """

    def __init__(
        self,
        *,
        seed: int,
        symbols: int | None,
        rate: float,
        replay: Recording | None,
        speed: float,
        refuse: Iterable[tuple[Category, str]],
        clock: Callable[[], int],
        unsent_limit: int,
    ) -> None:
        """Prepare an exchange without clients; the arguments are those of `Simulator`."""
        self.seed = seed
        self.clock = clock
        self.unsent_limit = unsent_limit
        self.exchange = Exchange(seed, rate, symbols)
        for category, symbol in refuse:
            self.exchange.refuse(category, symbol)
        self.replay = None if replay is None else ReplaySource(replay, speed)
        self.source: Source = self.exchange if self.replay is None else self.replay
        self.sockets: dict[Socket, None] = {}
        self.unflushed: list[Socket] = []
        self.faults = {category: CategoryFaults() for category in Category}
        self.tallies = {category: Tally() for category in Category}
        self.is_paused = False
        self._ids = Random(f"{seed}:ids")
        self._flush_is_due = False

    def loop_time(self) -> float:
        """Return the seconds that the moments in `faults` count in."""
        return asyncio.get_running_loop().time()

    def is_silent(self, category: Category) -> bool:
        """Tell whether a category says nothing at all now."""
        return asyncio.get_running_loop().time() < self.faults[category].silent_until

    def new_conn_id(self) -> str:
        """Return an id that looks like one of the exchange's."""
        letters = self._ids.choices(_ID_LETTERS, k=25)
        return f"{''.join(letters[:20])}-{''.join(letters[20:])}"

    def flush_soon(self) -> None:
        """Write what sockets have collected at the end of the loop's turn."""
        if not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        unflushed, self.unflushed = self.unflushed, []
        for socket in unflushed:
            socket.flush()
