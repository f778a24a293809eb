"""relay/telemetry/counters.py: what is counted, compared with what clients were really sent."""

from __future__ import annotations

from collections import Counter

import pytest

from relay.bybit.errors import Code
from relay.bybit.requests import Endpoint
from relay.bybit.topics import Category
from relay.downstream.close_codes import CloseCode
from relay.downstream.wire import Batch
from relay.lib import timing
from relay.telemetry.counters import Histogram
from tests.builders import delta, snapshot, topic
from tests.downstream.calls import Call, Clock
from tests.downstream.readers import RecordingReader
from tests.downstream.town import BOOK, TRADES, Town


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("relay.downstream.session.time", clock)
    return clock


def test_a_histogram_counts_a_value_under_the_first_bound_that_holds_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (-5.0, 0.5, 1.0, 1.5, 2.0, 9.0):
        histogram.observe(value)
    assert (histogram.counts, histogram.total) == ([3, 2, 1], 14.0)


def test_a_batch_is_as_long_as_its_readers_were_sent_it() -> None:
    batch = Batch([b'{"a":"' + b"x" * 200 + b'"}', b"{}"])
    assert batch.size_for(3) == 3 * len(batch.plain)
    batch.deflated_to = 2
    assert batch.size_for(3) == len(batch.plain) + 2 * len(batch.deflated)


def test_deliveries_and_bytes_are_counted_once_for_each_reader() -> None:
    town, readers = Town(), [RecordingReader() for _ in range(3)]
    for reader in readers:
        town.follow(reader, BOOK, (10, snapshot(5_000)))
    assert (town.counters.deliveries, town.counters.snapshots) == (3, 3)
    before = town.counters.bytes_out
    town.publish(BOOK, 10, delta(5_001), delta(5_002))
    town.hub.flush()
    assert (town.counters.messages_in, town.counters.deliveries) == (2, 9)
    assert town.counters.bytes_out - before == 3 * len(Batch([delta(5_001), delta(5_002)]).plain)


def test_updates_of_a_reader_without_room_are_conflated_until_its_snapshot() -> None:
    town, slow, other = Town(), RecordingReader(), RecordingReader()
    for reader in (slow, other):
        town.follow(reader, BOOK, (10, snapshot(5_000)))
    slow.is_full = True
    for after in range(10, 14):
        town.publish(BOOK, after, delta(4_991 + after))
        town.hub.flush()
    assert town.counters.conflated == 4
    slow.is_full = False
    town.hub.retry_slow()
    town.hub.flush()
    assert (town.counters.snapshots, town.counters.conflated) == (3, 4)
    town.publish(BOOK, 14, delta(5_005))
    town.hub.flush()
    assert town.counters.conflated == 4
    assert town.counters.deliveries == len(slow.heard) + len(other.heard) - 2  # without the acks


def test_a_reader_that_waits_for_its_first_snapshot_is_not_conflated() -> None:
    town, early, late = Town(), RecordingReader(), RecordingReader()
    town.follow(early, BOOK, (10, snapshot(5_000)))
    town.subscribe(late, BOOK)
    town.pass_time(timing.MIN_ACK_DELAY)
    town.publish(BOOK, 10, delta(5_001))
    town.hub.flush()
    assert (town.counters.conflated, town.counters.snapshots) == (0, 2)


def test_a_hole_in_the_positions_is_counted() -> None:
    town, reader = Town(), RecordingReader()
    town.follow(reader, BOOK, (10, snapshot(5_000)))
    town.publish(BOOK, 12, delta(5_003))
    town.publish(BOOK, 13, delta(5_004))
    assert town.counters.holes == 1


def test_refusals_are_counted_by_code_in_both_dialects(clock: Clock) -> None:
    native, bybit = Call(clock), Call(clock, Endpoint.BYBIT, Category.LINEAR)
    native.ask({"method": "dance"})
    native.ask("no json")
    bybit.ask({"op": "dance"})
    bybit.ask({"op": "subscribe", "args": ["nothing.BTCUSDT"]})
    bybit.ask({"op": "subscribe", "args": 5})
    native.say({"method": "subscribe", "topic": "tickers", "symbol": "BTCUSDT"})
    native.settle(topic("tickers.BTCUSDT"), refusal="no such symbol")
    assert native.counters.refusals + bybit.counters.refusals == {
        Code.UNKNOWN_METHOD: 2,
        Code.BAD_JSON: 1,
        Code.UNKNOWN_TOPIC: 1,
        Code.BAD_REQUEST: 1,
        Code.REFUSED_BY_EXCHANGE: 1,
    }


def test_answers_count_as_bytes_and_a_close_by_its_code() -> None:
    call = Call(Clock())
    call.say({"method": "ping"})
    [pong] = call.raw()
    assert call.counters.bytes_out == len(Batch([pong]).plain)
    call.client.close(CloseCode.SHUTTING_DOWN)
    call.client.close(CloseCode.IDLE)
    assert call.counters.closes == Counter({4200: 1})


def test_trades_that_a_client_missed_are_a_gap() -> None:
    call = Call(Clock())
    call.client.on_rows_lost(TRADES, 12, is_slow=True)
    call.client.on_rows_lost(TRADES, 1, is_slow=False)
    assert (call.counters.gaps, call.counters.trades_dropped) == (2, 13)
