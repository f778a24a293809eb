"""relay/bybit/subscriptions.py: its table of states and events, cell by cell.

`GRID` is written by hand and compared with `MACHINE`. Then a topic is led into each state by what a
connection sees, and each event happens to it as it does there. "-" is what must not happen: the
input that would cause it leaves the topic where it is, or is another event (`INSTEAD`).
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from relay.bybit import subscriptions as module
from relay.bybit.subscriptions import MACHINE, Event, State, Subscriptions
from relay.bybit.topics import Category
from relay.lib import timing
from tests.builders import ack, frame, refusal, unknown_topic

GRID = """
            WANT        UNWANT     RESYNC     SENT       DATA
ABSENT      DUE         ABSENT     ABSENT     -          ABSENT
DUE         DUE         ABSENT     DUE        REQUESTED  DUE
APART       APART       ABSENT     APART      REQUESTED  APART
REQUESTED   REQUESTED   CANCELLED  REQUESTED  -          SUBSCRIBED
CANCELLED   REQUESTED   CANCELLED  CANCELLED  -          SURPLUS
SUBSCRIBED  SUBSCRIBED  SURPLUS    RENEWING   -          SUBSCRIBED
SURPLUS     RENEWING    SURPLUS    DROPPED    LEAVING    SURPLUS
RENEWING    RENEWING    DROPPED    RENEWING   RETURNING  RENEWING
DROPPED     RENEWING    DROPPED    DROPPED    LEAVING    DROPPED
RETURNING   RETURNING   LEAVING    RETURNING  -          RETURNING
LEAVING     RETURNING   LEAVING    LEAVING    -          LEAVING

            ACCEPTED    POSTPONED  REFUSED    ENDED      KEPT       LOST
ABSENT      -           -          -          -          -          -
DUE         -           -          -          -          -          -
APART       -           -          ABSENT     -          -          -
REQUESTED   SUBSCRIBED  APART      ABSENT     -          -          DUE
CANCELLED   SURPLUS     ABSENT     ABSENT     -          -          SURPLUS
SUBSCRIBED  SUBSCRIBED  APART      -          -          -          -
SURPLUS     SURPLUS     ABSENT     -          -          -          -
RENEWING    -           -          -          -          -          -
DROPPED     -           -          -          -          -          -
RETURNING   -           -          -          DUE        RENEWING   -
LEAVING     -           -          -          ABSENT     SURPLUS    SURPLUS
"""


def cells() -> dict[tuple[State, Event], State | None]:
    read: dict[tuple[State, Event], State | None] = {}
    for block in GRID.strip("\n").split("\n\n"):
        head, *rows = [line.split() for line in block.splitlines()]
        for name, *after in rows:
            for event, state in zip(head, after, strict=True):
                read[State[name], Event[event]] = None if state == "-" else State[state]
    return read


CELLS = cells()
TOPIC, OTHER = "orderbook.50.BTCUSDT", "orderbook.50.ETHUSDT"
MOMENTARY = "Internal server error"


class Line:
    """A connection with one topic in question, and another that shares a refusal with it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.subscriptions = Subscriptions(Category.LINEAR, (), self.now)
        self.sent: dict[tuple[str, str], str] = {}  # (op, topic) -> the id of the last request

    @property
    def state(self) -> State:
        return self.subscriptions.state(TOPIC)

    def want(self) -> None:
        self.subscriptions.want(TOPIC)

    def unwant(self) -> None:
        self.subscriptions.unwant(TOPIC)

    def resync(self) -> None:
        self.subscriptions.resync(TOPIC)

    def data(self) -> None:
        meaning = MACHINE[self.state].data
        assert self.subscriptions.data(TOPIC) is meaning

    def send(self) -> None:
        """Send what may be sent, and the topic's own request when its turn has come."""
        if self.state is State.APART:
            self.now += 1.0
            self._send()  # the probe
            self.answer(ack, OTHER)
        self._send()

    def _send(self) -> None:
        for request in self.subscriptions.requests(self.now):
            body = json.loads(request)
            self.sent |= {(body["op"], topic): body["req_id"] for topic in body["args"]}

    def answer(
        self, make: Callable[..., bytes], of: str = TOPIC, *words: str, op: str = "subscribe"
    ) -> None:
        text = make(self.sent.get((op, of), "no request"), *words, op=op)
        self.subscriptions.reply(frame(text), self.now, 0.0)

    def accept(self) -> None:
        self.answer(ack)

    def postpone(self) -> None:
        self.answer(refusal, TOPIC, MOMENTARY)

    def refuse(self) -> None:
        """Refuse the topic, or give it up with the probe that it has waited for for too long."""
        if self.state is State.APART:
            self.now += timing.REFUSED_LASTINGLY
            self._send()
            self.answer(refusal, OTHER, MOMENTARY)
        else:
            self.answer(refusal, TOPIC, unknown_topic(TOPIC))

    def end(self) -> None:
        self.answer(ack, op="unsubscribe")

    def keep(self) -> None:
        self.answer(refusal, TOPIC, MOMENTARY, op="unsubscribe")

    def lose(self) -> None:
        """Let the time for answers pass while no more requests may be sent."""
        self.now += timing.ACK_PATIENCE
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(module, "REQUESTS_IN_FLIGHT", 0)
            self._send()

    def share_a_refusal(self) -> None:
        self.subscriptions.want(OTHER)
        self.want()
        self._send()
        self.postpone()


WAYS: dict[State, list[Callable[[Line], None]]] = {
    State.ABSENT: [],
    State.DUE: [Line.want],
    State.APART: [Line.share_a_refusal],
    State.REQUESTED: [Line.want, Line.send],
    State.CANCELLED: [Line.want, Line.send, Line.unwant],
    State.SUBSCRIBED: [Line.want, Line.send, Line.data],
    State.SURPLUS: [Line.want, Line.send, Line.data, Line.unwant],
    State.RENEWING: [Line.want, Line.send, Line.data, Line.resync],
    State.DROPPED: [Line.want, Line.send, Line.data, Line.resync, Line.unwant],
    State.RETURNING: [Line.want, Line.send, Line.data, Line.resync, Line.send],
    State.LEAVING: [Line.want, Line.send, Line.data, Line.unwant, Line.send],
}
INPUTS: dict[Event, Callable[[Line], None]] = {
    Event.WANT: Line.want,
    Event.UNWANT: Line.unwant,
    Event.RESYNC: Line.resync,
    Event.SENT: Line.send,
    Event.DATA: Line.data,
    Event.ACCEPTED: Line.accept,
    Event.POSTPONED: Line.postpone,
    Event.REFUSED: Line.refuse,
    Event.ENDED: Line.end,
    Event.KEPT: Line.keep,
    Event.LOST: Line.lose,
}
INSTEAD = {
    # What was confirmed once exists: a refusal is about the moment, whatever its words.
    (State.SUBSCRIBED, Event.REFUSED): Event.POSTPONED,
    (State.SURPLUS, Event.REFUSED): Event.POSTPONED,
    # The topic is wanted: whether or not the unsubscribe arrived, it is subscribed again.
    (State.RETURNING, Event.LOST): Event.ENDED,
}


def line_in(state: State) -> Line:
    line = Line()
    for step in WAYS[state]:
        step(line)
    assert line.state is state
    return line


def test_the_table_is_the_one_that_is_meant() -> None:
    assert set(CELLS) == {(state, event) for state in State for event in Event}
    moves = {(s, e): after for s, row in MACHINE.items() for e, after in row.after.items()}
    assert moves == {cell: after for cell, after in CELLS.items() if after is not None}


@pytest.mark.parametrize(("state", "event"), CELLS, ids=lambda member: member.name)
def test_each_event_leads_from_each_state_where_the_table_says(state: State, event: Event) -> None:
    line = line_in(state)
    INPUTS[event](line)
    after = CELLS[state, INSTEAD.get((state, event), event)]
    assert line.state is (state if after is None else after)


@pytest.mark.parametrize("state", State, ids=lambda member: member.name)
def test_each_state_sends_what_the_table_says(state: State) -> None:
    line = line_in(state)
    before = dict(line.sent)
    line.send()
    new = {op for (op, of), number in line.sent.items() - before.items() if of == TOPIC}
    assert new == ({MACHINE[state].sends} - {""})


@pytest.mark.parametrize("state", State, ids=lambda member: member.name)
def test_a_wanted_topic_ends_up_subscribed_and_another_absent(state: State) -> None:
    """From every state, if the exchange agrees to everything."""
    line = line_in(state)
    for _ in range(4):
        line.send()
        line.accept()
        line.end()
    assert line.state is (State.SUBSCRIBED if MACHINE[state].is_wanted else State.ABSENT)
