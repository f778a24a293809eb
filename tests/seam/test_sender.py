"""relay/seam/sender.py: only what is right is published, numbered without a hole."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.bybit.errors import CrossedBook
from relay.bybit.frames import decode_book
from relay.lib import timing
from relay.seam.sender import (
    MAX_HELD,
    Outcome,
    StreamSender,
)
from tests.builders import compact, delta, frame, snapshot, ticker, topic, trades

GAP = delta(9_999)
CROSSED = delta(5_001, [("10.07", "1")])


def frame_u(text: bytes) -> int:
    return decode_book(frame(text)).u


def received(stream: StreamSender, *texts: bytes, now: float = 0.0) -> list[Outcome]:
    return [stream.receive(text, frame(text), now) for text in texts]


def live(now: float = 0.0) -> StreamSender:
    stream = StreamSender(topic())
    stream.confirm(now)
    assert received(stream, snapshot(5_000), now=now) == [Outcome.PUBLISH]
    return stream


def resyncs(stream: StreamSender, start: float, end: float, text: bytes) -> list[float]:
    """Answer every resync with `text` at once; return when they came, looked for each 0.1 s."""
    times = []
    for tenth in range(int(start * 10), int(end * 10)):
        now = tenth / 10
        if stream.take_resync(now):
            times.append(now)
            stream.resynced(now, 0.0)
            stream.confirm(now)
            received(stream, text, now=now)
    return times


def test_messages_take_one_position_each() -> None:
    stream = live()
    assert received(stream, delta(5_001), delta(5_002)) == [Outcome.PUBLISH] * 2
    assert (stream.offset, stream.messages, stream.is_live) == (3, 3, True)
    assert stream.base() == [snapshot(5_002, [("10.05", "3.2"), ("10.04", "2")])]


def test_trades_take_one_position_each_trade() -> None:
    stream = StreamSender(topic("publicTrade.BTCUSDT"))
    assert received(stream, trades(range(3)), trades(range(3, 10))) == [Outcome.PUBLISH] * 2
    assert (stream.offset, stream.messages) == (10, 2)


def test_a_delta_before_the_snapshot_is_ignored_and_no_fault() -> None:
    stream = StreamSender(topic())
    assert received(stream, delta(7)) == [Outcome.IGNORE]
    assert (stream.offset, stream.gaps, stream.take_resync(1e9)) == (0, 0, False)


def test_a_message_that_cannot_be_read_breaks_a_book_and_costs_trades_nothing_else() -> None:
    stream = live()
    assert stream.refuse("not JSON", 1.0) is Outcome.BROKEN
    assert (stream.fault, stream.gaps, stream.messages, stream.is_live) == ("not JSON", 1, 2, False)
    assert stream.take_resync(1.0)
    rows = StreamSender(topic("publicTrade.BTCUSDT"))
    assert received(rows, trades([1])) == [Outcome.PUBLISH]
    assert rows.refuse("not JSON", 1.0) is Outcome.BAD
    assert (rows.fault, rows.gaps, rows.messages, rows.is_live) == ("not JSON", 0, 2, True)
    assert received(rows, trades([2])) == [Outcome.PUBLISH]
    assert rows.offset == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GAP, "expected u 5001, received 9999"),
        (delta(5_000), "expected u 5001, received 5000"),
        (delta(5_001, [("x", "1")]), "expected a decimal price, received 'x'"),
        (
            compact({"topic": "orderbook.50.BTCUSDT", "type": "delta", "data": {}}),
            "Object missing required field `s`",
        ),
    ],
)
def test_a_gap_stops_delivery_until_the_next_snapshot(text: bytes, words: str) -> None:
    stream = live()
    assert received(stream, text) == [Outcome.BROKEN]
    assert (stream.offset, stream.is_live, stream.base()) == (1, False, [])
    assert (stream.fault, stream.gaps) == (words, 1)
    assert received(stream, delta(5_001), delta(5_002)) == [Outcome.IGNORE] * 2
    assert received(stream, snapshot(6_000), delta(6_001)) == [Outcome.PUBLISH] * 2
    assert (stream.offset, stream.is_live, stream.gaps) == (3, True, 1)


@pytest.mark.parametrize("bid", ["10.07", "10.08"], ids=["locked", "crossed"])
def test_a_book_that_is_crossed_for_a_moment_is_no_fault(bid: str) -> None:
    """Measured: locked for 100 ms every 2 s, such a book was without data for 46 of 60 s."""
    stream = live()
    for second in range(0, 20, 2):
        update_id = 5_001 + second
        crossed = delta(update_id, [(bid, "1")])
        assert received(stream, crossed, now=second) == [Outcome.HOLD]
        assert stream.is_crossed
        assert not stream.stays_crossed(second + timing.CROSSED_PATIENCE / 2)
        healed = delta(update_id + 1, [(bid, "0")])
        assert received(stream, healed, now=second + timing.CROSSED_PATIENCE / 2) == [
            Outcome.PUBLISH
        ]
        assert (stream.is_crossed, stream.take_held()) == (False, [crossed])
        assert not stream.stays_crossed(second + 1)
    assert (stream.gaps, stream.offset, stream.take_resync(1e9)) == (0, 21, False)


def test_a_crossed_book_greets_nobody_until_it_has_healed() -> None:
    stream = live()
    received(stream, CROSSED)
    with pytest.raises(CrossedBook):
        stream.base()
    received(stream, delta(5_002, [("10.07", "0")]))
    assert stream.base() == [snapshot(5_002)]


def test_a_book_that_stays_crossed_is_broken_though_no_message_follows() -> None:
    stream = live()
    received(stream, CROSSED, now=10)
    assert not stream.stays_crossed(10 + timing.CROSSED_PATIENCE / 2)
    assert stream.stays_crossed(10.1 + timing.CROSSED_PATIENCE)
    assert not stream.stays_crossed(11)
    assert (stream.gaps, stream.is_live, stream.is_crossed) == (1, False, False)
    assert (stream.offset, stream.take_held()) == (1, [])
    assert stream.take_resync(11)


def test_a_book_that_stays_crossed_is_broken_by_the_next_message() -> None:
    stream = live()
    received(stream, CROSSED, now=10)
    assert received(stream, delta(5_002), now=10.1) == [Outcome.HOLD]
    assert received(stream, delta(5_003), now=10.3) == [Outcome.BROKEN]
    assert (stream.gaps, stream.fault) == (1, "crossed at u 5003")
    assert (stream.offset, stream.take_held()) == (1, [])


def test_no_more_of_a_crossed_book_is_held_than_may_be() -> None:
    stream, outcome, update_id = live(), Outcome.HOLD, 5_000
    many = [(f"9.{number:05}", "1") for number in range(5_000)]
    while outcome is Outcome.HOLD:
        update_id += 1
        [outcome] = received(stream, delta(update_id, [("10.07", "1"), *many]))
    assert outcome is Outcome.BROKEN
    assert (update_id - 5_000) * len(delta(update_id, many)) < 2 * MAX_HELD


def test_the_first_gap_is_resynced_at_once_and_once() -> None:
    stream = live()
    received(stream, GAP, now=100)
    assert [stream.take_resync(100), stream.take_resync(100)] == [True, False]
    stream.resynced(100, 0.0)
    received(stream, snapshot(6_000), now=100.2)
    assert not stream.take_resync(1_000)


def test_a_resync_that_brings_no_snapshot_is_repeated_later() -> None:
    stream = live()
    received(stream, GAP, now=100)
    assert resyncs(stream, 100, 112, delta(1_234)) == [100, 100 + timing.SNAPSHOT_PATIENCE, 110]


def test_a_topic_that_was_right_is_asked_for_in_time_however_long_it_sent_no_snapshot() -> None:
    stream = live()
    received(stream, GAP, now=100)
    times = resyncs(stream, 100, 700, delta(1_234))
    assert max(later - earlier for earlier, later in pairwise(times)) <= timing.BROKEN_CEILING + 0.1


def test_a_topic_that_is_always_crossed_is_asked_for_ever_more_rarely() -> None:
    crossed = snapshot(5_000, [("10.05", "1")], [("10.04", "1")])
    stream = StreamSender(topic())
    stream.confirm(0)
    received(stream, crossed)
    times = []
    for tenth in range(6_000):
        now = tenth / 10
        assert not (stream.stays_crossed(now) and stream.is_live)
        times += resyncs(stream, now, now + 0.1, crossed)
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert min(pauses) >= timing.SNAPSHOT_PATIENCE - 0.1
    assert pauses[-1] == pytest.approx(timing.RESYNC_CEILING)
    assert len(times) <= 20


def test_a_topic_whose_u_never_continues_is_not_resynced_in_a_loop() -> None:
    stream, times = live(), []
    received(stream, GAP)
    for now in range(600):  # each second a delta; after a resync a snapshot before it
        if stream.take_resync(float(now)):
            times.append(now)
            stream.resynced(float(now), 0.0)
            stream.confirm(float(now))
            received(stream, snapshot(5_000), now=float(now))
        received(stream, GAP, now=now + 0.5)
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses == sorted(pauses)
    assert pauses[:3] == [2, 3, 5]  # 1, 2 and 4 s after the gap
    assert pauses[-1] == timing.BROKEN_CEILING + 1
    assert len(times) <= 75


def test_after_a_healthy_time_the_next_gap_is_resynced_at_once() -> None:
    stream = live()
    received(stream, GAP, now=0)
    assert resyncs(stream, 0, 1, snapshot(5_000)) == [0]
    received(stream, GAP, now=2)
    assert resyncs(stream, 2, 20, snapshot(5_000)) == [3]
    later = 3 + timing.HEALTHY_AFTER
    received(stream, GAP, now=later)
    assert resyncs(stream, later, later + 20, snapshot(5_000)) == [later]


def test_gaps_that_come_again_each_half_minute_are_resynced_at_once() -> None:
    stream = live()
    for now in range(0, 600, 30):
        received(stream, GAP, now=now)
        assert resyncs(stream, now, now + 30, snapshot(5_000)) == [now]


def test_a_confirmed_topic_that_stays_silent_is_asked_for_again() -> None:
    stream = StreamSender(topic("tickers.BTCUSDT"))
    stream.confirm(50)
    assert not stream.take_resync(50 + timing.SNAPSHOT_PATIENCE - 0.1)
    assert stream.take_resync(50 + timing.SNAPSHOT_PATIENCE)


def test_silent_trades_are_live_from_their_confirmation() -> None:
    stream = StreamSender(topic("publicTrade.BTCUSDT"))
    assert not stream.is_live
    stream.confirm(0)
    assert (stream.is_live, stream.base(), stream.take_resync(1e9)) == (True, [], False)


def test_data_before_the_ack_needs_no_second_snapshot() -> None:
    stream = StreamSender(topic())
    received(stream, snapshot(5_000))
    stream.confirm(0)
    assert (stream.is_confirmed, stream.is_live, stream.take_resync(1e9)) == (True, True, False)


def test_a_stopped_stream_goes_on_from_the_next_snapshot() -> None:
    stream = live()
    received(stream, GAP, now=100)
    stream.stop()
    assert (stream.is_live, stream.is_confirmed, stream.base()) == (False, False, [])
    assert not stream.take_resync(1e9)
    assert received(stream, delta(5_001), snapshot(1_000), delta(1_001)) == [
        Outcome.IGNORE,
        Outcome.PUBLISH,
        Outcome.PUBLISH,
    ]
    assert stream.offset == 3


def test_the_notice_of_staleness_takes_a_position_but_for_trades() -> None:
    stream = live()
    stream.mark_stale()
    assert stream.offset == 2
    quiet = StreamSender(topic("publicTrade.BTCUSDT"))
    quiet.mark_stale()
    assert quiet.offset == 0


def test_settled_is_where_the_stream_was_a_whole_beat_ago() -> None:
    stream = live()
    assert stream.settled == 0
    seen = []
    for update_id in range(5_001, 5_004):
        stream.beat()
        seen.append((stream.settled, stream.offset))
        received(stream, delta(update_id))
    assert seen == [(0, 1), (1, 2), (2, 3)]


@given(
    st.lists(st.sampled_from(["good", "gap", "old", "snapshot", "crossed", "junk"]), max_size=40)
)
def test_what_is_published_is_always_a_whole_book_and_offsets_have_no_hole(
    kinds: list[str],
) -> None:
    """A reader who applies what is published, and nothing else, never sees a wrong step."""
    stream, update_id, at_reader, published = StreamSender(topic()), 0, None, 0
    for now, kind in enumerate(kinds):
        step = {"gap": 2, "old": 0}.get(kind, 1)
        update_id += step
        text = delta(update_id)
        if kind == "snapshot":
            text = snapshot(update_id)
        elif kind == "crossed":
            text = delta(update_id, [("99", "1")])  # and stays so
        elif kind == "junk":
            text = compact({"topic": "orderbook.50.BTCUSDT", "type": "delta", "data": None})
        [outcome] = received(stream, text, now=float(now))
        assert (outcome in (Outcome.PUBLISH, Outcome.HOLD)) is stream.is_live
        if outcome is Outcome.HOLD:
            continue
        if outcome is Outcome.PUBLISH:
            for held in stream.take_held():
                published += 1
                assert frame_u(held) == (at_reader or 0) + 1
                at_reader = frame_u(held)
            published += 1
            starts = kind == "snapshot" or update_id == 1
            assert starts or update_id == (at_reader or 0) + 1
            at_reader = update_id
        assert stream.offset == published


def test_a_ticker_is_merged_for_the_next_hub() -> None:
    stream = StreamSender(topic("tickers.BTCUSDT"))
    assert received(stream, ticker("delta", lastPrice="9"), ticker(lastPrice="1", cs=2)) == [
        Outcome.IGNORE,
        Outcome.PUBLISH,
    ]
    received(stream, ticker("delta", markPrice="2", cs=3, ts=5))
    assert stream.base() == [ticker(lastPrice="1", markPrice="2", cs=3, ts=5)]
