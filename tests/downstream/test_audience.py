"""relay/downstream/audience.py: batches that are too large, and deliveries that fail."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from relay import conf
from relay.bybit.requests import Endpoint
from relay.downstream.wire import Batch
from relay.seam import envelopes
from tests.builders import delta, snapshot, trade_numbers, trades
from tests.downstream.outbound.lines import Line
from tests.downstream.readers import RecordingReader
from tests.downstream.town import BOOK, TRADES, Town

MANY = [(f"{price}.5", "1") for price in range(100, 200)]


class FailingReader(RecordingReader):
    """A client whose way out raises, so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times
        self.failures: list[str] = []

    def deliver(self, batch: Batch) -> bool:
        if self.times and batch.texts[0] != snapshot():
            self.times -= 1
            raise AttributeError("a private name that is gone")
        return super().deliver(batch)

    def on_failure(self) -> None:
        self.failures.append("failed")


def test_a_batch_above_the_budget_is_replaced_by_a_snapshot(
    town: Town, reader: RecordingReader, settings: Any
) -> None:
    settings.RELAY = {"client_buffer": 4_096}
    town.follow(reader, BOOK, (1, snapshot()))
    reader.taken()
    deltas = [delta(5_001 + number, [("10.01", f"{number}.5")]) for number in range(40)]
    town.publish(BOOK, 1, *deltas)
    town.hub.flush()
    [one] = reader.taken()
    assert (b'"type":"snapshot"' in one, b'"u":5040' in one) == (True, True)
    town.publish(BOOK, 41, delta(5_041))
    town.hub.flush()
    assert reader.taken() == [delta(5_041)]


def test_one_snapshot_may_exceed_the_budget(
    town: Town, reader: RecordingReader, settings: Any
) -> None:
    settings.RELAY = {"client_buffer": 4_096}
    whole = snapshot(bids=[], asks=MANY * 3)
    assert len(whole) > 4_096
    town.follow(reader, BOOK, (1, whole))
    assert len(reader.taken()) == 2


def test_events_above_the_budget_leave_in_portions_without_a_loss(
    town: Town, reader: RecordingReader, settings: Any
) -> None:
    settings.RELAY = {"client_buffer": 4_096}
    town.follow(reader, TRADES, (0, None))
    late = RecordingReader()
    texts = [trades([number]) for number in range(1, 101)]
    town.publish(TRADES, 0, *texts)
    town.subscribe(late, TRADES)
    reader.taken()
    flushes = 0
    while town.hub.effects().has_fresh:
        town.hub.flush()
        flushes += 1
        for batch in reader.batches:
            assert sum(map(len, batch)) <= 1_024
        reader.batches.clear()
    assert reader.taken() == texts
    assert flushes > 4
    assert late.taken() == []
    town.pass_time(0.01)
    town.hub.flush()
    ack, greeting = late.taken()
    assert (ack, trade_numbers(greeting)) == (("ack", 7), list(range(51, 101)))


def test_a_reader_is_greeted_after_the_portions_that_wait(
    town: Town, reader: RecordingReader, settings: Any
) -> None:
    settings.RELAY = {"client_buffer": 4_096}
    late = RecordingReader()
    town.follow(reader, TRADES, (0, None))
    town.publish(TRADES, 0, *[trades([number]) for number in range(1, 101)])
    town.subscribe(late, TRADES)
    town.pass_time(0.01)
    town.hub.flush()
    assert town.hub.effects().has_fresh
    assert late.taken() == [("ack", 7)]
    while town.hub.effects().has_fresh:
        town.hub.flush()
    [greeting] = late.taken()
    assert trade_numbers(greeting)[-1] == 100


def test_what_waits_of_events_is_bounded(
    town: Town, reader: RecordingReader, settings: Any
) -> None:
    settings.RELAY = {"client_buffer": 4_096}
    town.follow(reader, TRADES, (0, None))
    audience = town.hub.audiences[TRADES.group]
    for turn in range(100):
        numbers = range(turn * 40, turn * 40 + 40)
        town.publish(TRADES, turn * 40, *[trades([number]) for number in numbers])
        town.hub.flush()
        assert sum(map(len, audience.fresh)) < 100_000
    assert len(reader.taken()) > 3_000


def test_a_delivery_that_raises_is_logged_and_costs_the_other_readers_nothing(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    first, failing, last = RecordingReader(), FailingReader(1), RecordingReader()
    for each in (first, failing, last):
        town.follow(each, BOOK, (1, snapshot()))
    for each in (first, failing, last):
        each.taken()
    for offset, u in ((1, 5_001), (2, 5_002)):
        town.publish(BOOK, offset, delta(u))
        town.hub.flush()
    assert first.taken() == last.taken() == [delta(5_001), delta(5_002)]
    made_up, after = failing.taken()
    assert (b'"type":"snapshot"' in made_up, b'"u":5001' in made_up) == (True, True)
    assert (after, failing.failures) == (delta(5_002), [])
    [record] = caplog.records
    assert (record.levelno, record.name) == (logging.ERROR, "relay.downstream.audience")
    assert "a private name that is gone" in caplog.text


def test_a_client_whose_snapshot_cannot_be_sent_either_is_given_up(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    failing, last = FailingReader(3), RecordingReader()
    for each in (failing, last):
        town.follow(each, BOOK, (1, snapshot()))
        each.taken()
    town.publish(BOOK, 1, delta(5_001))
    town.hub.flush()
    assert failing.failures == []
    town.hub.retry_slow()
    town.hub.flush()
    assert failing.failures == ["failed"]
    assert last.taken() == [delta(5_001)]


def test_an_uncork_that_raises_ends_that_connection_and_no_other(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    class Way:
        def __init__(self, *, fails: bool) -> None:
            self.fails = fails
            self.calls: list[str] = []

        def uncork(self) -> None:
            self.calls.append("uncork")
            if self.fails:
                raise ZeroDivisionError

        def abort(self) -> None:
            self.calls.append("abort")

    bad, good = Way(fails=True), Way(fails=False)
    town.hub.corked += [bad, good]
    town.hub.flush()
    town.hub.flush()
    assert (bad.calls, good.calls) == (["uncork", "abort"], ["uncork"])
    assert "ZeroDivisionError" in caplog.text


async def test_a_burst_leaves_no_client_with_more_than_its_budget(make_line: Any) -> None:
    line: Line = make_line(Endpoint.BYBIT)
    budget = conf.current().client_buffer
    hub = line.hub
    line.client.on_message(b'{"op":"subscribe","args":["orderbook.50.BTCUSDT"]}')
    hub.receive(envelopes.as_message(envelopes.Joined(hub.unjoined())), time.monotonic())
    hub.receive(
        envelopes.as_message(envelopes.Base(BOOK.group, 1, 1, [snapshot()])), time.monotonic()
    )
    hub.tick(time.monotonic() + 1)
    hub.flush()
    burst = [delta(5_001 + number, (), MANY) for number in range(1_000)]
    envelope = envelopes.Publication(BOOK.group, 1, 1, burst)
    hub.receive(envelopes.as_message(envelope), time.monotonic())
    hub.flush()
    assert line.outbound.unsent() <= budget
    assert b'"u":6000' in line.read()
