"""relay/upstream/leadership.py: its table of states and events, cell by cell.

`GRID` is written by hand and compared with `MACHINE`; "*" is where the worker tries to acquire the
lease, "-" what must not happen. What Redis has to say in each of these is in test_leadership.py.
"""

from __future__ import annotations

import asyncio
import logging

import pytest

from relay.bybit.topics import Category
from relay.lib import timing
from relay.upstream.leadership import MACHINE, Event, LeaseLeadership, Move, State, connect

GRID = """
             HELD         FREE          FORGOTTEN   GRACE_OVER  NO_ANSWER
COMPETING    STANDING_BY  COMPETING*    COMPETING*  -           COMPETING
STANDING_BY  STANDING_BY  STANDING_BY*  GRACE       -           DOUBTFUL
DOUBTFUL     STANDING_BY  GRACE         GRACE       -           DOUBTFUL
GRACE        STANDING_BY  GRACE         GRACE       GRACE*      GRACE
LEADING      COMPETING    -             -           -           UNCONFIRMED
UNCONFIRMED  COMPETING    -             -           -           UNCONFIRMED

             WON          RENEWED       OUTRANKED   RESIGNED
COMPETING    LEADING      -             -           COMPETING
STANDING_BY  LEADING      -             -           -
DOUBTFUL     -            -             -           -
GRACE        LEADING      -             -           -
LEADING      -            LEADING       COMPETING   COMPETING
UNCONFIRMED  -            LEADING       COMPETING   COMPETING
"""


def cells() -> dict[tuple[State, Event], Move | None]:
    read: dict[tuple[State, Event], Move | None] = {}
    for block in GRID.strip("\n").split("\n\n"):
        head, *rows = [line.split() for line in block.splitlines()]
        for name, *moves in rows:
            for event, move in zip(head, moves, strict=True):
                read[State[name], Event[event]] = (
                    None if move == "-" else Move(State[move.rstrip("*")], move.endswith("*"))
                )
    return read


CELLS = cells()
WAYS: dict[State, list[Event]] = {
    State.COMPETING: [],
    State.STANDING_BY: [Event.HELD],
    State.DOUBTFUL: [Event.HELD, Event.NO_ANSWER],
    State.GRACE: [Event.HELD, Event.FORGOTTEN],
    State.LEADING: [Event.FREE, Event.WON],
    State.UNCONFIRMED: [Event.FREE, Event.WON, Event.NO_ANSWER],
}


def worker_in(state: State) -> LeaseLeadership:
    # Only events happen to it here: it does not connect.
    worker = LeaseLeadership(connect("redis://127.0.0.1:9"), Category.LINEAR, lambda: 0)
    for event in WAYS[state]:
        worker._happens(event)
    assert worker.state is state
    return worker


def test_the_table_is_the_one_that_is_meant() -> None:
    assert set(CELLS) == {(state, event) for state in State for event in Event}
    moves = {(state, event): move for state, row in MACHINE.items() for event, move in row.items()}
    assert moves == {cell: move for cell, move in CELLS.items() if move is not None}


@pytest.mark.parametrize(("state", "event"), CELLS, ids=lambda member: member.name)
async def test_each_event_leads_from_each_state_where_the_table_says(
    state: State, event: Event
) -> None:
    worker, meant = worker_in(state), CELLS[state, event]
    if meant is None:
        with pytest.raises(KeyError):
            worker._happens(event)
        assert worker.state is state
    else:
        assert worker._happens(event) == meant
        assert worker.state is meant.state
        assert worker.is_in_doubt == (meant.state is State.UNCONFIRMED)


@pytest.mark.parametrize("state", State, ids=lambda member: member.name)
async def test_only_who_may_lead_at_once_tries_for_a_lease_that_redis_has_forgotten(
    state: State,
) -> None:
    """A standby leaves it to the last leader for a while; that one asks by renewing."""
    worker = worker_in(state)
    if state in (State.LEADING, State.UNCONFIRMED):
        assert worker._happens(Event.RENEWED) == Move(State.LEADING)
    else:
        assert worker._happens(Event.FORGOTTEN).acquires == (state is State.COMPETING)


@pytest.mark.parametrize(
    ("lease", "last_epoch", "event"),
    [
        (b"another's", b"7", Event.HELD),
        (b"another's", None, Event.HELD),
        (None, b"7", Event.FREE),
        (b"mine", b"7", Event.FREE),  # granted to an earlier try, whose answer was lost
        (None, None, Event.FORGOTTEN),
        (b"mine", None, Event.FORGOTTEN),
    ],
)
@pytest.mark.parametrize("is_over", [False, True])
@pytest.mark.parametrize(
    "state", [State.COMPETING, State.STANDING_BY, State.DOUBTFUL, State.GRACE], ids=str
)
async def test_what_redis_says_is_one_event(
    state: State,
    is_over: bool,
    *,
    lease: bytes | None,
    last_epoch: bytes | None,
    event: Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "LEADER_GRACE", 0.0 if is_over else 3_600.0)
    worker = worker_in(state)
    worker._lock.local.token = b"mine"
    if state is State.GRACE and is_over and event is not Event.HELD:
        event = Event.GRACE_OVER
    assert worker._event_of(lease, last_epoch) is event
    assert event in MACHINE[state]


async def test_the_grace_begins_once_and_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "LEADER_GRACE", 3_600.0)
    worker = worker_in(State.GRACE)
    until = worker._grace_until
    assert until > asyncio.get_running_loop().time()
    for event in (Event.FREE, Event.FORGOTTEN, Event.NO_ANSWER):
        worker._happens(event)
    assert worker._grace_until == until


async def test_a_worker_says_once_that_it_stands_by(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    worker = worker_in(State.STANDING_BY)
    for event in (Event.HELD, Event.NO_ANSWER, Event.HELD, Event.FORGOTTEN, Event.HELD):
        worker._happens(event)
    assert caplog.messages == ["linear: standing by"]
