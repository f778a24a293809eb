"""relay/seam/receiver.py: what a hub makes of what the channel layer loses, repeats and delays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.bybit.errors import SequenceGap
from relay.seam.receiver import Step, StreamReceiver
from tests.builders import (
    body_of,
    delta,
    snapshot,
    ticker,
    topic,
    trade_numbers,
    trades,
)

EPOCH = 100
START = snapshot(5_000)


def live_book() -> StreamReceiver:
    replica = StreamReceiver(topic())
    assert replica.base(EPOCH, 10, [START]) == Step(restart=True)
    return replica


def live_trades(count: int = 5) -> StreamReceiver:
    replica = StreamReceiver(topic("publicTrade.BTCUSDT"))
    assert replica.base(EPOCH, count, [trades(range(count))]) == Step()
    return replica


def state(replica: StreamReceiver) -> tuple[tuple[int, int], bool, bytes | None]:
    return replica.position, replica.is_live, replica.greeting() if replica.is_live else None


def test_a_new_replica_knows_nothing_and_greets_nobody() -> None:
    replica = StreamReceiver(topic())
    assert (state(replica), replica.known) == (((0, 0), False, None), None)


def test_a_base_brings_a_replica_to_its_position() -> None:
    replica = live_book()
    assert (state(replica), replica.known) == (((EPOCH, 10), True, START), (EPOCH, 10))


def test_what_follows_is_forwarded_byte_for_byte() -> None:
    replica = live_book()
    texts = [delta(5_001), delta(5_002).replace(b'"u":', b'"u": ')]
    assert replica.publication(EPOCH, 10, texts) == Step(forward=texts)
    greeting = snapshot(5_002, [("10.05", "3.2"), ("10.04", "2")])
    assert state(replica) == ((EPOCH, 12), True, greeting)


def test_a_stream_can_be_followed_from_its_first_message() -> None:
    replica = StreamReceiver(topic())
    texts = [START, delta(5_001)]
    assert replica.publication(EPOCH, 0, texts) == Step(forward=texts)
    assert replica.position == (EPOCH, 2)


@pytest.mark.parametrize("position", [(EPOCH, 9), (EPOCH, 0), (EPOCH - 1, 500)])
def test_a_repetition_and_a_replaced_worker_are_dropped(position: tuple[int, int]) -> None:
    replica = live_book()
    before = state(replica)
    assert replica.publication(*position, [delta(5_001)]) == Step()
    assert replica.stale(*position) == Step()
    assert replica.base(*position, [snapshot(1)]) == Step()
    assert state(replica) == before


def test_a_hole_withholds_everything_and_asks_once() -> None:
    replica = live_book()
    assert replica.publication(EPOCH, 11, [delta(5_002)]) == Step(restart=True, ask=True)
    assert (replica.is_live, replica.known) == (False, None)
    assert replica.publication(EPOCH, 12, [delta(5_003)]) == Step(restart=True)
    assert replica.base(EPOCH, 13, [snapshot(5_003)]) == Step(restart=True)
    assert state(replica) == ((EPOCH, 13), True, snapshot(5_003))
    assert replica.publication(EPOCH, 13, [delta(5_004)]) == Step(forward=[delta(5_004)])


def test_a_snapshot_behind_the_hole_heals_it_without_asking() -> None:
    replica = live_book()
    texts = [delta(5_003), snapshot(9_000), delta(9_001)]
    step = replica.publication(EPOCH, 12, texts)
    assert step.forward == texts[1:]
    assert state(replica) == (
        (EPOCH, 15),
        True,
        snapshot(9_001, [("10.05", "3.2"), ("10.04", "2")]),
    )


def test_a_base_older_than_what_was_seen_is_no_base() -> None:
    replica = live_book()
    replica.publication(EPOCH, 20, [delta(5_020)])
    assert replica.base(EPOCH, 15, [snapshot(5_015)]) == Step()
    assert not replica.is_live


def test_a_base_for_another_hub_changes_nothing_here() -> None:
    replica = live_book()
    assert replica.base(EPOCH, 10, [START]) == Step()
    assert replica.is_live


def test_a_base_ahead_shows_that_something_was_missed() -> None:
    replica = live_book()
    assert replica.base(EPOCH, 12, [snapshot(5_002)]) == Step(restart=True)
    assert state(replica) == ((EPOCH, 12), True, snapshot(5_002))


def test_a_new_epoch_begins_with_its_first_message() -> None:
    replica = live_book()
    texts = [snapshot(7_000), delta(7_001)]
    assert replica.publication(EPOCH + 1, 0, texts) == Step(forward=texts)
    assert replica.position == (EPOCH + 1, 2)
    assert replica.publication(EPOCH, 10, [delta(5_001)]) == Step()


def test_a_new_epoch_in_its_middle_needs_a_base() -> None:
    replica = live_book()
    assert replica.publication(EPOCH + 1, 5, [delta(7_005)]) == Step(restart=True, ask=True)
    assert replica.base(EPOCH + 1, 6, [snapshot(7_005)]) == Step(restart=True)


def test_the_word_of_a_new_worker_makes_the_old_state_doubtful() -> None:
    replica = live_book()
    replica.expect(EPOCH)
    assert replica.is_live
    replica.expect(EPOCH + 1)
    assert (replica.is_live, replica.known) == (False, None)


def test_a_stale_image_greets_nobody_until_the_next_snapshot() -> None:
    replica = live_book()
    assert replica.stale(EPOCH, 10) == Step()
    assert (replica.is_live, replica.known) == (False, (EPOCH, 11))
    assert replica.publication(EPOCH, 11, [snapshot(8_000)]) == Step(forward=[snapshot(8_000)])
    assert state(replica) == ((EPOCH, 12), True, snapshot(8_000))


def test_a_stale_notice_behind_a_hole_owes_a_snapshot() -> None:
    replica = live_book()
    assert replica.stale(EPOCH, 14) == Step(restart=True)
    assert (replica.is_live, replica.known) == (False, None)


def test_a_lost_stale_notice_shows_in_the_next_position() -> None:
    replica = live_book()
    step = replica.publication(EPOCH, 11, [snapshot(8_000)])
    assert step.forward == [snapshot(8_000)]
    assert state(replica) == ((EPOCH, 12), True, snapshot(8_000))


def test_nobody_is_greeted_from_a_book_with_a_message_that_is_no_right_step() -> None:
    replica = live_book()
    replica.publication(EPOCH, 10, [delta(5_001), delta(9_999), delta(10_000)])
    with pytest.raises(SequenceGap):
        replica.greeting()
    assert (replica.is_live, replica.known) == (False, None)


def test_many_messages_with_one_that_is_no_right_step_are_a_hole() -> None:
    replica = live_book()
    texts = [delta(5_001), delta(9_999), *(delta(u) for u in range(10_000, 10_020))]
    step = replica.publication(EPOCH, 10, texts)
    assert (step.restart, step.ask, replica.is_live) == (True, True, False)
    assert replica.position == (EPOCH, 10 + len(texts))


def test_a_base_that_is_no_message_is_asked_for_again() -> None:
    replica = StreamReceiver(topic())
    assert replica.base(EPOCH, 10, [b"garbage"]) == Step(restart=True)
    assert (replica.is_live, replica.known) == (False, None)
    assert replica.base(EPOCH, 10, [START]) == Step(restart=True)
    assert replica.is_live


# ---- trades ----


def test_trades_are_counted_one_by_one() -> None:
    replica = live_trades(5)
    assert replica.publication(EPOCH, 5, [trades([5, 6]), trades([7])]).lost == 0
    assert replica.position == (EPOCH, 8)


def test_lost_trades_that_the_worker_still_has_are_brought_back() -> None:
    replica = live_trades(5)
    assert replica.publication(EPOCH, 8, [trades([8])]) == Step(ask=True)
    step = replica.base(EPOCH, 9, [trades(range(9))])
    assert (step.lost, step.restart, step.ask) == (0, False, False)
    assert [trade_numbers(text) for text in step.forward] == [[5, 6, 7, 8]]
    assert replica.position == (EPOCH, 9)


def test_trades_that_nobody_has_any_more_are_counted() -> None:
    replica = live_trades(5)
    step = replica.base(EPOCH, 205, [trades(range(155, 205))])
    assert step.lost == 150
    assert [trade_numbers(text) for text in step.forward] == [list(range(155, 205))]


def test_trades_before_a_replica_began_are_not_missed() -> None:
    replica = StreamReceiver(topic("publicTrade.BTCUSDT"))
    assert replica.base(EPOCH, 500, [trades(range(450, 500))]) == Step()
    assert trade_numbers(replica.greeting()) == list(range(450, 500))


def test_a_quiet_market_is_live_without_a_trade() -> None:
    replica = StreamReceiver(topic("publicTrade.BTCUSDT"))
    assert replica.base(EPOCH, 0, []) == Step()
    assert state(replica) == ((EPOCH, 0), True, None)
    assert replica.publication(EPOCH, 0, [trades([0])]) == Step(forward=[trades([0])])


def test_stale_trades_go_on_from_the_next_base_without_a_loss() -> None:
    replica = live_trades(5)
    assert replica.stale(EPOCH, 5) == Step()
    assert not replica.is_live
    assert replica.base(EPOCH, 5, [trades(range(5))]) == Step()
    assert replica.is_live
    assert replica.publication(EPOCH, 5, [trades([5])]) == Step(forward=[trades([5])])


# ---- any history ----

TICKERS = topic("tickers.BTCUSDT")


@given(st.lists(st.sampled_from("pppppplrbosn"), max_size=60))
def test_no_history_makes_a_greeting_that_is_not_the_worker_s_state(steps: str) -> None:
    """p publish, l lose one, r repeat one, b base, o old worker, s stale, n new worker.

    Whenever the replica claims to be live and has been told everything, it has the state of
    the worker; what it forwards to an up-to-date reader never skips a number.
    """
    replica = StreamReceiver(TICKERS)
    epoch, offset, value, reader, is_live = EPOCH, 0, 0, None, False
    sent: list[tuple[int, int, list[bytes]]] = []
    reached = (0, 0)

    def message() -> bytes:
        kind = "delta" if is_live else "snapshot"
        return ticker(kind, lastPrice=str(value), cs=value, ts=value)

    def give(step: Step) -> None:
        nonlocal reader
        for text in step.forward:
            body = body_of(text)
            number = body["cs"]
            if reader is not None and not step.restart:
                assert body["type"] == "snapshot" or number == reader + 1
                reader = number
            elif body["type"] == "snapshot":
                reader = number
        if step.restart:
            reader = None

    for step in steps:
        match step:
            case "p" | "l":
                value += 1
                publication = (epoch, offset, [message()])
                offset, is_live = offset + 1, True
                if step == "p":
                    sent.append(publication)
                    give(replica.publication(*publication))
            case "r" if sent:
                give(replica.publication(*sent[-1]))
            case "o":
                give(replica.publication(EPOCH - 1, 3, [ticker("delta", cs=0)]))
            case "b" if is_live:
                text = ticker(lastPrice=str(value), cs=value, ts=value)
                give(replica.base(epoch, offset, [text]))
                assert replica.is_live
            case "s" if is_live:
                give(replica.stale(epoch, offset))
                offset, is_live = offset + 1, False
                assert not replica.is_live
            case "n":
                epoch, offset, is_live = epoch + 1, 0, False
        assert replica.position >= reached
        reached = replica.position
        if replica.is_live and replica.position == (epoch, offset):
            assert body_of(replica.greeting())["data"]["lastPrice"] == str(value)
            if reader is not None:
                assert reader == value
