"""relay/downstream/hub.py: the ack, one snapshot, then every message after it, each once."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from relay.bybit.errors import Code, Refusal
from relay.bybit.images import CANDLES_KEPT
from relay.bybit.topics import Category
from relay.downstream.hub import Effects
from relay.downstream.wire import Batch
from relay.lib import timing
from relay.seam import envelopes
from relay.seam.envelopes import UpstreamState
from relay.web import process as web_process
from relay.web import readiness
from tests.builders import candle, delta, snapshot, ticker, topic, trades
from tests.downstream.readers import RecordingReader
from tests.downstream.town import BOOK, EPOCH, TICKER, TRADES, Town

NO_SUCH = Refusal(Code.REFUSED_BY_EXCHANGE, "error:handler not found")


# ---- how many topics ----


@pytest.mark.parametrize("is_served", [False, True])
def test_a_hub_has_no_more_topics_than_the_relay_may_subscribe(
    town: Town, reader: RecordingReader, settings: Any, is_served: bool
) -> None:
    settings.RELAY = {"max_topics": 2}
    town.upstream("live" if is_served else "down")
    first, second, third = (topic(f"tickers.A{number}") for number in range(3))
    town.subscribe(reader, first, second)
    with pytest.raises(Refusal) as caught:
        town.subscribe(reader, third)
    assert caught.value.code is Code.TOO_MANY_TOPICS
    assert [audience.topic for audience in town.hub.audiences.values()] == [first, second]
    town.subscribe(RecordingReader(), first, second)  # these are there already
    town.hub.leave(reader, [first, second])
    assert len(town.hub.audiences) == 2


def test_one_reader_s_invented_topics_do_not_shut_a_stranger_out(
    town: Town, reader: RecordingReader, settings: Any
) -> None:
    settings.RELAY = {"max_topics": 10}
    town.upstream("live")
    good, invented = topic("tickers.GOOD"), [topic(f"tickers.A{number}") for number in range(9)]
    first, stranger = RecordingReader(), RecordingReader()
    town.follow(first, good, (1, ticker(of=good.text)))
    for each in invented:
        town.subscribe(reader, each)
    town.pass_time(timing.MIN_ACK_DELAY)
    town.subscribe(stranger, topic("tickers.WANTED"))
    town.pass_time(timing.MIN_ACK_DELAY)
    assert reader.taken() == [(Code.TOO_MANY_TOPICS, 7)]
    carried = {audience.topic for audience in town.hub.audiences.values()}
    assert carried == {good, *invented[1:], topic("tickers.WANTED")}
    with pytest.raises(Refusal):  # it has the most of them itself
        town.subscribe(reader, topic("tickers.MORE"))
    assert {audience.topic for audience in town.hub.audiences.values()} == carried


def test_topics_that_come_and_go_while_no_worker_can_be_told_are_forgotten(
    town: Town, reader: RecordingReader, settings: Any
) -> None:
    settings.RELAY = {"max_topics": 10}
    for number in range(100):
        town.subscribe(reader, topic(f"tickers.A{number}"))
        town.hub.leave(reader, [topic(f"tickers.A{number}")])
    asked, dropped = town.hub.take_demand(Category.LINEAR)
    assert (asked, len(dropped)) == ({}, 10)


# ---- turns of the event loop ----


def test_acks_of_many_topics_are_spread_over_turns(town: Town) -> None:
    readers = [RecordingReader() for _ in range(5)]
    topics = [topic(f"tickers.A{number}") for number in range(1_000)]
    for reader in readers:
        town.subscribe(reader, *topics)
    town.now += timing.MAX_ACK_DELAY
    turns = []
    while (wake_at := town.hub.effects().wake_at) is not None and wake_at <= town.now:
        town.hub.tick(town.now)
        assert town.hub.has_effects  # what is left wakes it again
        turns.append(sum(len(reader.taken()) for reader in readers))
    assert turns == [1] * 5


def test_readers_take_their_turns_in_time_and_as_many_as_fit(town: Town) -> None:
    first, second, later = readers = [RecordingReader() for _ in range(3)]

    def taken() -> list[RecordingReader]:
        found = []
        while (reader := town.hub.take_turn(town.now)) is not None:
            found.append(reader)
            town.hub.use_turn(1_000)
        return found

    for reader, at in zip(reversed(readers), (1_002.0, 1_001.0, 1_000.5), strict=True):
        town.hub.ask_turn(reader, at)
    assert town.hub.has_effects
    assert town.hub.effects().wake_at == 1_000.5
    assert taken() == []
    town.pass_time(1)
    assert taken() == [first]
    assert taken() == []
    assert town.hub.effects().wake_at == 1_001.0  # it is due in the next turn
    town.pass_time(0)
    assert taken() == [second]
    town.pass_time(0)
    assert taken() == []
    town.pass_time(1)
    assert taken() == [later]
    assert town.hub.effects().wake_at is None


# ---- the ack ----


@pytest.mark.parametrize("category", [Category.LINEAR, Category.OPTION])
def test_a_late_reader_of_a_ticker_that_had_a_delta_gets_the_merged_one(
    town: Town, reader: RecordingReader, category: Category
) -> None:
    name = "tickers.BTC-25JUN27-106000-P-USDT"
    of = topic(name, category)
    town.follow(reader, of, (10, ticker(of=name, cs=None, bidPrice="22915", askPrice="0")))
    town.publish(of, 10, ticker("delta", of=name, cs=None, ts=6, askPrice="26200"))
    late = RecordingReader()
    town.subscribe(late, of)
    town.pass_time(timing.MIN_ACK_DELAY)
    town.hub.flush()
    ack, greeting = late.taken()
    assert ack == ("ack", 7)
    merged = ticker(of=name, cs=None, ts=6, bidPrice="22915", askPrice="26200")
    assert json.loads(greeting) == json.loads(merged)


def test_the_order_is_ack_snapshot_messages(town: Town, reader: RecordingReader) -> None:
    town.subscribe(reader, BOOK)
    town.base(BOOK, 10, snapshot(5_000))
    town.publish(BOOK, 10, delta(5_001))
    town.hub.flush()
    assert reader.heard == []
    town.pass_time(timing.MIN_ACK_DELAY)
    town.hub.flush()
    town.publish(BOOK, 11, delta(5_002))
    town.hub.flush()
    joined_at = snapshot(5_001, [("10.05", "3.2"), ("10.04", "2")])
    assert reader.heard == [("ack", 7), joined_at, delta(5_002)]


def test_a_topic_that_is_left_does_not_decide_the_others_of_its_request(
    town: Town, reader: RecordingReader
) -> None:
    first, second = topic("tickers.A"), topic("tickers.B")
    town.subscribe(reader, first, second)
    town.hub.unsubscribe(reader, first, town.now)
    town.pass_time(timing.MIN_ACK_DELAY)
    assert reader.taken() == []
    town.receive(
        envelopes.Refused(second.group, EPOCH, NO_SUCH.code, NO_SUCH.message),
    )
    town.pass_time(timing.MIN_ACK_DELAY)
    assert reader.taken() == [(NO_SUCH.code, 7)]
    assert town.hub.audiences == {}


def test_a_topic_that_is_left_lets_the_decided_rest_of_its_request_be_acknowledged(
    town: Town, reader: RecordingReader
) -> None:
    first, second = topic("tickers.A"), topic("tickers.B")
    town.subscribe(reader, first, second)
    town.receive(envelopes.Confirmed(second.group, EPOCH))
    town.hub.unsubscribe(reader, first, town.now)
    assert reader.taken() == []
    town.pass_time(timing.MIN_ACK_DELAY)
    assert reader.taken() == [("ack", 7)]
    assert [audience.topic for audience in town.hub.audiences.values()] == [second]


def test_a_topic_that_is_left_and_wanted_again_belongs_to_the_later_request(
    town: Town, reader: RecordingReader
) -> None:
    first, second = topic("tickers.A"), topic("tickers.B")
    town.subscribe(reader, first, second, id=1)
    town.hub.unsubscribe(reader, first, town.now)
    town.subscribe(reader, first, id=2)
    town.receive(envelopes.Refused(second.group, EPOCH, NO_SUCH.code, NO_SUCH.message))
    town.receive(envelopes.Confirmed(first.group, EPOCH))
    town.pass_time(timing.MIN_ACK_DELAY)
    assert sorted(reader.taken(), key=str) == [("ack", 2), (NO_SUCH.code, 1)]
    assert [audience.topic for audience in town.hub.audiences.values()] == [first]


def test_the_ack_waits_two_milliseconds_at_least(town: Town, reader: RecordingReader) -> None:
    town.subscribe(reader, BOOK)
    town.base(BOOK, 10, snapshot())
    town.pass_time(timing.MIN_ACK_DELAY * 0.9)
    assert reader.heard == []
    assert town.hub.effects().wake_at == pytest.approx(1_000 + timing.MIN_ACK_DELAY)
    town.pass_time(timing.MIN_ACK_DELAY)
    assert reader.heard == [("ack", 7)]


def test_a_new_topic_waits_for_the_verdict_but_not_for_ever(
    town: Town, reader: RecordingReader
) -> None:
    town.subscribe(reader, BOOK)
    town.pass_time(timing.MAX_ACK_DELAY - 0.1)
    assert reader.heard == []
    town.pass_time(0.2)
    assert reader.heard[0] == ("ack", 7)


def test_the_exchange_s_word_ends_the_wait(town: Town, reader: RecordingReader) -> None:
    town.subscribe(reader, BOOK, TRADES)
    town.receive(envelopes.Confirmed(BOOK.group, EPOCH))
    town.pass_time(0.1)
    assert reader.heard == []
    town.receive(envelopes.Confirmed(TRADES.group, EPOCH))
    town.pass_time(0.1)
    assert reader.heard == [("ack", 7)]


def test_a_known_topic_is_acknowledged_without_the_worker(
    town: Town, reader: RecordingReader
) -> None:
    town.follow(RecordingReader(), BOOK, (10, snapshot()))
    town.hub.take_demand(Category.LINEAR)
    town.subscribe(reader, BOOK)
    town.pass_time(timing.MIN_ACK_DELAY)
    town.hub.flush()
    assert reader.heard == [("ack", 7), snapshot()]
    assert town.hub.take_demand(Category.LINEAR) == ({}, [])


def test_a_refusal_reaches_exactly_those_who_asked(town: Town, reader: RecordingReader) -> None:
    other = RecordingReader()
    town.subscribe(reader, BOOK, id="mine")
    town.subscribe(other, TICKER, id="other")
    town.receive(envelopes.Refused(BOOK.group, EPOCH, Code.REFUSED_BY_EXCHANGE, "no"))
    town.receive(envelopes.Confirmed(TICKER.group, EPOCH))
    town.pass_time(timing.MIN_ACK_DELAY)
    assert reader.heard == [(Code.REFUSED_BY_EXCHANGE, "mine")]
    assert other.heard == [("ack", "other")]
    assert list(town.hub.audiences) == [TICKER.group]


def test_a_request_with_one_refused_topic_is_refused_whole(
    town: Town, reader: RecordingReader
) -> None:
    town.subscribe(reader, BOOK, TICKER)
    town.receive(envelopes.Confirmed(BOOK.group, EPOCH))
    town.receive(envelopes.Refused(TICKER.group, EPOCH, Code.REFUSED_BY_EXCHANGE, "no"))
    town.pass_time(timing.MIN_ACK_DELAY)
    assert reader.heard == [(Code.REFUSED_BY_EXCHANGE, 7)]
    assert town.hub.audiences == {}


def test_a_late_refusal_revokes_what_was_acknowledged(town: Town, reader: RecordingReader) -> None:
    town.subscribe(reader, BOOK)
    town.pass_time(timing.MAX_ACK_DELAY)
    reader.taken()
    town.receive(envelopes.Refused(BOOK.group, EPOCH, Code.REFUSED_BY_EXCHANGE, "no"))
    assert reader.heard == [("revoked", BOOK.text, "no")]
    assert town.hub.audiences == {}


def test_while_upstream_is_down_a_subscribe_succeeds_and_the_snapshot_is_owed(
    town: Town, reader: RecordingReader
) -> None:
    town.upstream("down")
    town.subscribe(reader, BOOK)
    town.pass_time(timing.MIN_ACK_DELAY)
    town.hub.flush()
    assert reader.taken() == [("ack", 7)]
    town.upstream("live")
    town.publish(BOOK, 0, snapshot(5_000))
    town.hub.flush()
    assert reader.heard[-1] == snapshot(5_000)


def test_going_down_ends_the_wait_for_a_verdict(town: Town, reader: RecordingReader) -> None:
    town.upstream("connecting")
    town.subscribe(reader, BOOK)
    town.upstream("down")
    town.pass_time(timing.MIN_ACK_DELAY)
    assert reader.heard == [("ack", 7)]


def test_without_a_way_to_a_worker_new_topics_are_refused_and_known_ones_not(
    town: Town, reader: RecordingReader
) -> None:
    town.follow(RecordingReader(), BOOK, (10, snapshot()))
    town.hub.is_reachable = False
    with pytest.raises(Refusal) as caught:
        town.hub.subscribe(reader, [BOOK, TICKER], 7, town.now)
    assert caught.value.code is Code.UPSTREAM_UNAVAILABLE
    assert list(town.hub.audiences) == [BOOK.group]
    town.subscribe(reader, BOOK)
    town.pass_time(timing.MIN_ACK_DELAY)
    assert reader.heard == [("ack", 7)]


def test_a_request_for_nothing_is_acknowledged(town: Town, reader: RecordingReader) -> None:
    town.subscribe(reader)
    town.pass_time(timing.MIN_ACK_DELAY)
    assert reader.heard == [("ack", 7)]


# ---- leaving ----


def test_nothing_is_sent_after_an_unsubscribe(town: Town, reader: RecordingReader) -> None:
    town.follow(reader, BOOK, (10, snapshot()))
    town.publish(BOOK, 10, delta(5_001))
    reader.taken()
    town.hub.unsubscribe(reader, BOOK, town.now)
    town.publish(BOOK, 11, delta(5_002))
    town.hub.flush()
    assert (reader.heard, town.hub.audiences) == ([], {})


def test_an_unsubscribe_before_the_ack_brings_the_ack_first(
    town: Town, reader: RecordingReader
) -> None:
    town.subscribe(reader, BOOK)
    town.hub.unsubscribe(reader, BOOK, town.now)
    assert reader.heard == [("ack", 7)]
    town.base(BOOK, 10, snapshot())
    town.pass_time(timing.MAX_ACK_DELAY)
    town.hub.flush()
    assert reader.heard == [("ack", 7)]


def test_a_reader_that_is_gone_is_told_nothing_more(town: Town, reader: RecordingReader) -> None:
    town.follow(reader, BOOK, (10, snapshot()))
    town.subscribe(reader, TICKER)
    reader.taken()
    town.hub.leave(reader, [BOOK, TICKER])
    town.publish(BOOK, 10, delta(5_001))
    town.base(TICKER, 1, ticker())
    town.pass_time(timing.MAX_ACK_DELAY)
    town.hub.flush()
    assert (reader.heard, town.hub.audiences) == ([], {})


def test_the_last_reader_of_a_topic_ends_the_demand(town: Town, reader: RecordingReader) -> None:
    other = RecordingReader()
    town.follow(reader, BOOK, (10, snapshot()))
    town.follow(other, BOOK, (10, snapshot()))
    assert town.hub.take_demand(Category.LINEAR) == ({BOOK.text: None}, [])
    town.hub.unsubscribe(reader, BOOK, town.now)
    assert town.hub.take_demand(Category.LINEAR) == ({}, [])
    assert town.hub.interest(Category.LINEAR) == {BOOK.text: (EPOCH, 10)}
    town.hub.unsubscribe(other, BOOK, town.now)
    assert town.hub.take_demand(Category.LINEAR) == ({}, [BOOK.text])
    assert town.hub.interest(Category.LINEAR) == {}


def test_who_comes_back_before_the_demand_was_told_is_asked_for_and_not_dropped(
    town: Town, reader: RecordingReader
) -> None:
    town.follow(reader, BOOK, (10, snapshot()))
    town.hub.take_demand(Category.LINEAR)
    town.hub.unsubscribe(reader, BOOK, town.now)
    town.subscribe(reader, BOOK)
    assert town.hub.take_demand(Category.LINEAR) == ({BOOK.text: None}, [])


def test_who_leaves_before_the_demand_was_told_is_not_asked_for(
    town: Town, reader: RecordingReader
) -> None:
    town.subscribe(reader, BOOK)
    town.hub.unsubscribe(reader, BOOK, town.now)
    assert town.hub.take_demand(Category.LINEAR) == ({}, [BOOK.text])


# ---- what goes wrong on the way ----


def test_a_hole_withholds_asks_and_is_mended_by_a_snapshot(
    town: Town, reader: RecordingReader
) -> None:
    town.follow(reader, BOOK, (10, snapshot(5_000)))
    town.hub.take_demand(Category.LINEAR)
    reader.taken()
    town.publish(BOOK, 11, delta(5_002))
    town.publish(BOOK, 12, delta(5_003))
    town.hub.flush()
    assert reader.heard == []
    assert town.hub.take_demand(Category.LINEAR) == ({BOOK.text: None}, [])
    town.base(BOOK, 13, snapshot(5_003))
    town.publish(BOOK, 13, delta(5_004))
    town.hub.flush()
    assert reader.heard == [snapshot(5_004, [("10.05", "3.2"), ("10.04", "2")])]


def test_what_waits_when_a_hole_shows_is_not_sent(town: Town, reader: RecordingReader) -> None:
    """The snapshot that follows contains it, and nothing older may come after."""
    town.follow(reader, BOOK, (10, snapshot(5_000)))
    reader.taken()
    town.publish(BOOK, 10, delta(5_001))
    town.publish(BOOK, 15, delta(5_006))
    town.base(BOOK, 16, snapshot(5_006))
    town.hub.flush()
    assert reader.heard == [snapshot(5_006)]


def test_a_repetition_is_forwarded_once(town: Town, reader: RecordingReader) -> None:
    town.follow(reader, BOOK, (10, snapshot(5_000)))
    reader.taken()
    for _ in range(3):
        town.publish(BOOK, 10, delta(5_001))
    town.hub.flush()
    assert reader.heard == [delta(5_001)]


def test_a_topic_is_asked_for_when_its_group_has_been_joined(
    town: Town, reader: RecordingReader
) -> None:
    """A base that a worker sends before would never arrive."""
    town.hub.subscribe(reader, [BOOK], 7, town.now)
    assert town.hub.effects().has_demand  # so that the group is joined
    assert town.hub.take_demand(Category.LINEAR) == ({}, [])
    assert town.hub.interest(Category.LINEAR) == {}
    town.receive(envelopes.Joined({BOOK.group: town.hub.unjoined()[BOOK.group] - 1}))
    assert town.hub.interest(Category.LINEAR) == {}
    town.receive(envelopes.Joined(town.hub.unjoined()))
    assert town.hub.effects().has_demand
    assert town.hub.interest(Category.LINEAR) == {BOOK.text: None}
    assert town.hub.take_demand(Category.LINEAR) == ({BOOK.text: None}, [])


def test_what_was_sent_to_an_earlier_audience_is_ignored(
    town: Town, reader: RecordingReader
) -> None:
    town.hub.subscribe(reader, [BOOK], 7, town.now)
    town.base(BOOK, 10, snapshot(1_000))
    town.pass_time(timing.MAX_ACK_DELAY)
    town.hub.flush()
    assert reader.taken() == [("ack", 7)]
    town.receive(envelopes.Joined(town.hub.unjoined()))
    town.base(BOOK, 20, snapshot(5_000))
    town.hub.flush()
    assert reader.heard == [snapshot(5_000)]


def test_a_stale_image_greets_nobody(town: Town, reader: RecordingReader) -> None:
    first = RecordingReader()
    town.follow(first, BOOK, (10, snapshot(5_000)))
    town.receive(envelopes.Stale(BOOK.group, EPOCH, 10))
    town.subscribe(reader, BOOK)
    town.pass_time(timing.MIN_ACK_DELAY)
    town.hub.flush()
    assert reader.taken() == [("ack", 7)]
    town.publish(BOOK, 11, snapshot(9_000))
    town.hub.flush()
    assert reader.heard == [snapshot(9_000)]
    assert first.heard == [("ack", 7), snapshot(5_000), snapshot(9_000)]


def test_a_new_worker_is_asked_for_everything(town: Town, reader: RecordingReader) -> None:
    town.upstream("live")
    town.follow(reader, BOOK, (10, snapshot(5_000)))
    town.hub.take_demand(Category.LINEAR)
    reader.taken()
    town.upstream("live", EPOCH + 1)
    assert town.hub.take_demand(Category.LINEAR) == ({BOOK.text: None}, [])
    town.publish(BOOK, 10, delta(5_001))
    town.base(BOOK, 3, snapshot(6_000), EPOCH + 1)
    town.hub.flush()
    assert reader.heard[-1] == snapshot(6_000)
    town.upstream("down", EPOCH)
    assert town.hub.categories[Category.LINEAR].state is UpstreamState.LIVE


def test_nothing_of_a_replaced_worker_is_listened_to(town: Town, reader: RecordingReader) -> None:
    town.upstream("live")
    town.follow(reader, BOOK, (10, snapshot(5_000)))
    town.upstream("live", EPOCH + 1)
    reader.taken()
    town.publish(BOOK, 10, snapshot(8_000))
    town.base(BOOK, 12, snapshot(8_001))
    town.receive(envelopes.Stale(BOOK.group, EPOCH, 12))
    town.receive(envelopes.Refused(BOOK.group, EPOCH, Code.REFUSED_BY_EXCHANGE, "no"))
    town.hub.flush()
    assert reader.taken() == []
    town.publish(BOOK, 0, snapshot(9_000), epoch=EPOCH + 1)
    town.hub.flush()
    assert reader.heard[-1] == snapshot(9_000)


def test_readers_are_told_of_a_new_worker_even_if_there_was_no_silence(
    town: Town, reader: RecordingReader
) -> None:
    town.upstream("live")
    town.follow(reader, BOOK, (10, snapshot(5_000)))
    reader.taken()
    town.upstream("idle", EPOCH + 1)
    town.upstream("live", EPOCH + 1)
    assert [word[1] for word in reader.taken()] == ["down", "live"]


# ---- upstream's state ----


def test_readers_are_told_of_down_and_of_live_again_once_each(
    town: Town, reader: RecordingReader
) -> None:
    town.upstream("connecting")
    town.upstream("live")
    town.follow(reader, BOOK, (10, snapshot()))
    spot = RecordingReader()
    town.follow(spot, topic("orderbook.50.BTCUSDT", Category.SPOT), (10, snapshot()))
    for taker in (reader, spot):
        taker.taken()
    for state in ("live", "down", "down", "live", "live"):
        town.upstream(state)
    now = int(town.now * 1_000)
    assert reader.heard == [("linear", "down", now), ("linear", "live", now)]
    assert spot.heard == []


def test_a_new_worker_that_finds_the_exchange_away_is_no_further_news(
    town: Town, reader: RecordingReader
) -> None:
    town.upstream("live")
    town.follow(reader, BOOK, (10, snapshot()))
    reader.taken()
    town.pass_time(timing.SILENCE + 0.1)  # the worker has died
    down_at = int(town.now * 1_000)
    for state in ("idle", "connecting", "down", "partial"):
        town.upstream(state, EPOCH + 1)
    assert town.hub.categories[Category.LINEAR].told_down == down_at
    town.pass_time(0.5)
    town.upstream("live", EPOCH + 1)
    now = int(town.now * 1_000)
    assert reader.heard == [("linear", "down", down_at), ("linear", "live", now)]


def test_an_outage_that_ended_without_readers_is_over_for_the_hub(
    town: Town, reader: RecordingReader
) -> None:
    town.upstream("live")
    town.follow(reader, BOOK, (10, snapshot()))
    town.upstream("down")
    town.hub.leave(reader, [BOOK])
    town.upstream("idle")
    assert not town.hub.categories[Category.LINEAR].told_down
    town.follow(reader, BOOK, (20, snapshot()))
    reader.taken()
    town.upstream("live")
    assert [state for _, state, _ in reader.heard] == ["live"]  # which it may have to be told


def test_a_silent_worker_is_taken_for_dead(town: Town, reader: RecordingReader) -> None:
    town.upstream("live")
    town.follow(reader, BOOK, (10, snapshot()))
    reader.taken()
    town.pass_time(timing.SILENCE - 0.1)
    assert reader.heard == []
    town.pass_time(0.2)
    assert reader.heard == [("linear", "down", int(town.now * 1_000))]


def test_a_category_is_unserved_from_the_first_worker_s_failure_on_whoever_leads(
    town: Town, reader: RecordingReader
) -> None:
    linear = town.hub.categories[Category.LINEAR]
    town.upstream("idle")
    town.subscribe(reader, BOOK)
    began = town.now
    town.upstream("connecting")
    for epoch in range(EPOCH + 1, EPOCH + 3):
        for state in ("idle", "connecting", "down", "down"):
            town.upstream(state, epoch)
            town.pass_time(0.9)
            assert linear.unserved_since == began
    town.upstream("live", EPOCH + 3)
    assert linear.unserved_since is None
    town.pass_time(timing.SILENCE + 0.1)
    assert linear.unserved_since == town.now
    town.upstream("live", EPOCH + 3)
    assert linear.unserved_since is None


@pytest.mark.parametrize("step", [3_600, -7_200])
def test_the_time_of_day_may_be_set_while_a_category_is_unserved(
    reader: RecordingReader, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    """Durations are measured on the monotonic clock; the time of day is only shown."""
    town = Town()
    town.now = time.monotonic()
    town.hub.subscribe(reader, [BOOK], 7, town.now)
    runner = SimpleNamespace(hub=town.hub, unreachable_since=None)
    process = SimpleNamespace(runner=runner, is_stopping=False)
    monkeypatch.setattr(web_process, "existing", lambda: process)
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0 + step)
    assert readiness.readiness() == {"ready": True, "faults": []}
    linear = town.hub.categories[Category.LINEAR]
    linear.unserved_since = time.monotonic() - 60.0
    [fault] = readiness.readiness()["faults"]
    assert (fault["what"], fault["category"]) == ("upstream", "linear")
    assert 60 <= fault["for_seconds"] < 60 + 3_600


def test_a_worker_is_not_silent_while_what_it_sent_waits_to_be_read(
    town: Town, reader: RecordingReader
) -> None:
    heard = town.now
    town.upstream("live")
    town.follow(reader, BOOK, (10, snapshot()))
    reader.taken()
    town.now += 10 * timing.SILENCE
    town.hub.tick(town.now, heard + timing.SILENCE)
    assert reader.taken() == []
    town.hub.tick(town.now, heard + timing.SILENCE + 0.1)
    assert [word[1] for word in reader.taken()] == ["down"]


def test_a_category_whose_topics_the_exchange_refuses_is_not_unserved(town: Town) -> None:
    linear = town.hub.categories[Category.LINEAR]
    town.hub.pin([BOOK], town.now)
    for state in ("connecting", "live", "idle", "idle"):
        town.upstream(state)
    assert linear.unserved_since is None


def test_the_silence_of_workers_begins_anew_when_nobody_was_listened_to(
    town: Town, reader: RecordingReader
) -> None:
    town.upstream("live")
    town.follow(reader, BOOK, (10, snapshot()))
    reader.taken()
    town.now += 60
    town.hub.extend_leases(town.now)
    town.pass_time(timing.SILENCE - 0.1)
    assert reader.heard == []
    town.pass_time(0.2)
    assert reader.heard == [("linear", "down", int(town.now * 1_000))]


def test_nobody_is_greeted_while_upstream_is_down(town: Town, reader: RecordingReader) -> None:
    town.upstream("live")
    town.follow(RecordingReader(), BOOK, (10, snapshot()))
    town.upstream("down")
    town.subscribe(reader, BOOK)
    town.pass_time(timing.MIN_ACK_DELAY)
    town.hub.flush()
    assert reader.heard == [("ack", 7)]


# ---- slow readers ----


def test_a_slow_reader_of_a_book_is_owed_a_snapshot_and_the_others_notice_nothing(
    town: Town, reader: RecordingReader
) -> None:
    quick = RecordingReader()
    for each in (reader, quick):
        town.follow(each, BOOK, (10, snapshot(5_000)))
        each.taken()
    reader.is_full = True
    for update_id in range(5_001, 5_004):
        town.publish(BOOK, update_id - 4_991, delta(update_id))
        town.hub.flush()
    assert (reader.taken(), len(quick.taken())) == ([], 3)
    assert town.hub.has_slow
    reader.is_full = False
    town.hub.effects()
    town.hub.retry_slow()
    assert town.hub.has_effects
    town.hub.flush()
    assert reader.heard == [snapshot(5_003, [("10.05", "3.2"), ("10.04", "2")])]
    town.publish(BOOK, 13, delta(5_004))
    town.hub.flush()
    assert reader.heard[1:] == [delta(5_004)]
    assert not town.hub.has_slow


def test_trades_that_a_slow_reader_missed_are_counted_before_the_next_ones(
    town: Town, reader: RecordingReader
) -> None:
    town.follow(reader, TRADES, (5, trades(range(5))))
    reader.taken()
    reader.is_full = True
    town.publish(TRADES, 5, trades([5, 6, 7]), trades([8]))
    town.hub.flush()
    town.publish(TRADES, 9, trades([9]))
    town.hub.flush()
    assert reader.heard == []
    reader.is_full = False
    town.publish(TRADES, 10, trades([10]))
    town.hub.flush()
    assert reader.heard == [("missed", TRADES.text, 5), trades([10])]


def test_missed_trades_are_told_also_when_none_follow(town: Town, reader: RecordingReader) -> None:
    town.follow(reader, TRADES, (5, trades(range(5))))
    reader.taken()
    reader.is_full = True
    town.publish(TRADES, 5, trades([5, 6]))
    town.hub.flush()
    reader.is_full = False
    town.hub.retry_slow()
    town.hub.flush()
    assert reader.heard == [("missed", TRADES.text, 2)]
    assert not town.hub.has_slow


# ---- candles ----

CANDLES = topic("kline.1.BTCUSDT")


def closed(*minutes: int) -> list[bytes]:
    return [candle((minute, True)) for minute in minutes]


def test_a_slow_reader_is_sent_every_candle_that_closed_before_the_last_message(
    town: Town, reader: RecordingReader
) -> None:
    quick, late = RecordingReader(), RecordingReader()
    for each in (reader, quick):
        town.follow(each, CANDLES, (1, candle((1, False))))
        each.taken()
    reader.is_full = True
    sent = [*closed(1), candle((2, False)), *closed(2), candle((3, False))]
    for offset, text in enumerate(sent, start=1):
        town.publish(CANDLES, offset, text)
        town.hub.flush()
    assert (reader.taken(), quick.taken()) == ([], sent)
    town.follow(late, CANDLES, (5, candle((3, False))))
    assert late.heard == [("ack", 7), candle((3, False))]
    reader.is_full = False
    town.hub.retry_slow()
    town.hub.flush()
    assert reader.heard == [*closed(1, 2), candle((3, False))]
    assert not town.hub.has_slow


def test_a_reader_that_waits_for_the_first_message_is_sent_what_closes_meanwhile(
    town: Town, reader: RecordingReader
) -> None:
    town.subscribe(reader, CANDLES)
    town.publish(CANDLES, 0, candle((1, False)), *closed(1), candle((2, False)))
    town.pass_time(timing.MIN_ACK_DELAY)
    town.hub.flush()
    assert reader.heard == [("ack", 7), *closed(1), candle((2, False))]


def test_a_closing_message_that_is_the_last_one_is_sent_once(
    town: Town, reader: RecordingReader
) -> None:
    town.follow(reader, CANDLES, (1, candle((1, False))))
    reader.taken()
    reader.is_full = True
    town.publish(CANDLES, 1, *closed(1))
    town.hub.flush()
    reader.is_full = False
    town.hub.retry_slow()
    town.hub.flush()
    assert reader.heard == closed(1)


def test_of_candles_that_closed_too_long_ago_a_slow_reader_is_told_the_count(
    town: Town, reader: RecordingReader
) -> None:
    town.follow(reader, CANDLES, (1, candle((0, False))))
    reader.taken()
    reader.is_full = True
    texts = closed(*range(CANDLES_KEPT + 3))
    for offset, text in enumerate(texts, start=1):
        town.publish(CANDLES, offset, text)
        town.hub.flush()
    reader.is_full = False
    town.hub.retry_slow()
    town.hub.flush()
    assert reader.heard == [*texts[3:], ("missed", CANDLES.text, 3)]


def test_candles_that_closed_while_the_hub_missed_messages_come_with_the_base(
    town: Town, reader: RecordingReader
) -> None:
    town.subscribe(reader, CANDLES)
    town.receive(envelopes.Base(CANDLES.group, EPOCH, 1, [*closed(0), candle((1, False))]))
    town.pass_time(timing.MIN_ACK_DELAY)
    town.hub.flush()
    assert reader.taken() == [("ack", 7), candle((1, False))]
    town.hub.take_demand(Category.LINEAR)
    town.publish(CANDLES, 3, candle((2, False)))  # the message that closed minute 1 was lost
    town.hub.flush()
    assert reader.heard == []
    assert town.hub.take_demand(Category.LINEAR) == ({CANDLES.text: None}, [])
    envelope = envelopes.Base(CANDLES.group, EPOCH, 4, [*closed(0, 1), candle((2, False))])
    town.receive(envelope)
    town.hub.flush()
    assert reader.heard == [*closed(1), candle((2, False))]
    town.publish(CANDLES, 4, *closed(2))
    town.hub.flush()
    assert reader.heard[2:] == closed(2)


# ---- trades ----


def test_trades_greet_readers_of_the_short_door_alone(town: Town, reader: RecordingReader) -> None:
    bybit = RecordingReader(takes_notices=False)
    town.follow(reader, TRADES, (5, trades(range(5))))
    town.follow(bybit, TRADES, (5, trades(range(5))))
    town.publish(TRADES, 5, trades([5]))
    town.hub.flush()
    assert reader.heard == [("ack", 7), trades(range(5)), trades([5])]
    assert bybit.heard == [("ack", 7), trades([5])]


def test_a_bybit_reader_is_not_sent_the_trades_from_before_its_ack(town: Town) -> None:
    first, bybit = RecordingReader(), RecordingReader(takes_notices=False)
    town.follow(first, TRADES, (0, None))
    town.subscribe(bybit, TRADES)
    town.publish(TRADES, 0, trades([0]))
    town.pass_time(timing.MIN_ACK_DELAY)
    town.publish(TRADES, 1, trades([1]))
    town.hub.flush()
    assert bybit.heard == [("ack", 7), trades([1])]
    assert first.heard == [("ack", 7), trades([0]), trades([1])]


def test_a_quiet_market_makes_its_reader_current(town: Town, reader: RecordingReader) -> None:
    town.follow(reader, TRADES, (0, None))
    town.publish(TRADES, 0, trades([0]))
    town.hub.flush()
    assert reader.heard == [("ack", 7), trades([0])]


def test_trades_that_nobody_has_any_more_are_told_as_a_number(
    town: Town, reader: RecordingReader
) -> None:
    town.follow(reader, TRADES, (5, trades(range(5))))
    reader.taken()
    town.publish(TRADES, 5, trades([5]))
    town.base(TRADES, 106, trades(range(56, 106)))
    town.hub.flush()
    assert reader.heard == [trades([5]), ("missed", TRADES.text, 50), trades(range(56, 106))]


# ---- fan-out ----


def test_a_message_is_framed_once_for_all_its_readers(town: Town) -> None:
    batches: list[Batch] = []

    class Keeping(RecordingReader):
        def deliver(self, batch: Batch) -> bool:
            batches.append(batch)
            return True

    for _ in range(5):
        town.follow(Keeping(), BOOK, (10, snapshot()))
    batches.clear()
    town.publish(BOOK, 10, delta(5_001), delta(5_002))
    town.publish(BOOK, 12, delta(5_003))
    town.hub.flush()
    assert len(batches) == 5
    assert len({id(batch) for batch in batches}) == 1
    assert batches[0].texts == [delta(5_001), delta(5_002), delta(5_003)]


def test_effects_say_what_is_to_be_done_after_an_input(town: Town, reader: RecordingReader) -> None:
    hub = town.hub
    assert not hub.has_effects
    assert hub.effects() == Effects(wake_at=None, has_fresh=False, has_demand=False)
    town.subscribe(reader, BOOK)
    assert hub.has_effects
    wake_at = town.now + timing.MAX_ACK_DELAY
    assert hub.effects() == Effects(wake_at, has_fresh=False, has_demand=True)
    assert not hub.has_effects
    town.base(BOOK, 10, snapshot())
    town.pass_time(timing.MIN_ACK_DELAY)
    assert hub.effects() == Effects(wake_at, has_fresh=True, has_demand=False)
    hub.flush()
    assert not hub.has_effects
    town.publish(BOOK, 10, delta(5_001))
    assert hub.has_effects
    assert hub.effects().has_fresh
    town.publish(BOOK, 11, delta(5_002))
    assert not hub.has_effects  # the runner knows that there is something to flush
    assert hub.effects().has_fresh
    hub.unsubscribe(reader, BOOK, town.now)
    assert hub.has_effects
    assert hub.effects() == Effects(wake_at, has_fresh=False, has_demand=True)
    hub.pin([BOOK], town.now)
    town.base(BOOK, 10, snapshot())
    hub.effects()
    hub.subscribe(reader, [BOOK], 8, town.now)
    assert hub.has_effects  # the ack waits for its time, even if the topic is there already


# ---- pins ----


def test_a_pinned_topic_is_wanted_without_a_reader_until_it_is_unpinned(town: Town) -> None:
    town.hub.pin([BOOK], town.now)
    town.receive(envelopes.Joined(town.hub.unjoined()))
    assert town.hub.take_demand(Category.LINEAR) == ({BOOK.text: None}, [])
    assert town.hub.interest(Category.LINEAR) == {BOOK.text: None}
    town.hub.pin([], town.now)
    assert town.hub.take_demand(Category.LINEAR) == ({}, [BOOK.text])
    assert town.hub.audiences == {}


def test_readers_of_a_pinned_topic_come_and_go_and_its_image_stays_current(
    town: Town, reader: RecordingReader
) -> None:
    town.hub.pin([BOOK], town.now)
    town.hub.receive(envelopes.as_message(envelopes.Joined(town.hub.unjoined())), town.now)
    town.base(BOOK, 10, snapshot(5_000))
    town.publish(BOOK, 10, delta(5_001))
    town.subscribe(reader, BOOK)
    town.pass_time(timing.MIN_ACK_DELAY)
    town.hub.flush()
    assert reader.heard == [("ack", 7), snapshot(5_001, [("10.05", "3.2"), ("10.04", "2")])]
    town.hub.leave(reader, [BOOK])
    assert list(town.hub.audiences) == [BOOK.group]
    town.publish(BOOK, 11, delta(5_002))
    assert town.hub.audiences[BOOK.group].receiver.is_live


def test_a_topic_that_is_unpinned_stays_for_its_readers(
    town: Town, reader: RecordingReader
) -> None:
    town.follow(reader, BOOK, (10, snapshot()))
    town.hub.pin([BOOK], town.now)
    town.hub.pin([], town.now)
    assert list(town.hub.audiences) == [BOOK.group]
    town.hub.leave(reader, [BOOK])
    assert town.hub.audiences == {}


def test_a_pinned_topic_that_the_exchange_refuses_is_wanted_on(
    town: Town, reader: RecordingReader
) -> None:
    town.hub.pin([BOOK], town.now)
    town.subscribe(reader, BOOK)
    town.receive(envelopes.Refused(BOOK.group, EPOCH, Code.REFUSED_BY_EXCHANGE, "no"))
    town.pass_time(timing.MIN_ACK_DELAY)
    assert reader.heard == [(Code.REFUSED_BY_EXCHANGE, 7)]
    assert town.hub.interest(Category.LINEAR) == {BOOK.text: None}


def test_the_peak_is_the_most_readers_there_were(town: Town) -> None:
    readers = [RecordingReader() for _ in range(3)]
    for one in readers:
        town.follow(one, BOOK, (10, snapshot()))
    town.hub.leave(readers[0], [BOOK])
    audience = town.hub.audiences[BOOK.group]
    assert (audience.subscribers, audience.peak) == (2, 3)
