"""relay/upstream/category.py: demand in, frames in; requests out, envelopes out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.bybit.errors import Code
from relay.bybit.frames import CHARACTERS_PER_CONNECTION
from relay.bybit.topics import Category
from relay.lib import timing
from relay.seam import envelopes
from relay.seam.envelopes import UPSTREAM_GROUP, UpstreamState
from relay.upstream.category import MAX_WAITING_BYTES, Effects
from tests.builders import (
    ack,
    command_response,
    delta,
    kind_of,
    refusal,
    snapshot,
    ticker,
    trades,
    unknown_topic,
)
from tests.upstream.market import EPOCH, LINGER, PUBLISHED_AT, Market, group

BOOK = "orderbook.50.BTCUSDT"
TRADES = "publicTrade.BTCUSDT"
TICKER = "tickers.BTCUSDT"


def test_hubs_that_lag_are_not_sent_what_they_have_not_missed() -> None:
    """What they have not read yet waits in their channels."""
    market = Market()
    market.follow(BOOK)
    market.frames(snapshot(5_000))
    market.told()
    at = [EPOCH, market.upstream.streams[BOOK].offset]
    for u in range(5_001, 5_004):
        market.frames(delta(u))
        market.upstream.beat()
        market.told()
    demand = envelopes.Demand("p", {BOOK: (at[0], at[1])}, epoch=EPOCH, whole=True, behind=True)
    market.upstream.on_demand(demand, market.now)
    assert market.told() == []
    market.want(BOOK, process="q", at=None)  # this one has nothing
    assert [kind_of(e) for e in market.told()] == ["base"]


def test_what_was_missed_is_sent_once_a_second_however_many_hubs_have_missed_it() -> None:
    market = Market()
    market.follow(BOOK)
    market.frames(snapshot(5_000))
    at = [EPOCH, market.upstream.streams[BOOK].offset]
    for u in range(5_001, 5_004):
        market.frames(delta(u))
        market.upstream.beat()
    market.told()
    sent = []
    for _ in range(10):
        for process in ("p", "q", "r"):
            market.want(BOOK, process=process, at=at, whole=True)
            market.frames(delta(market.upstream.streams[BOOK].update_id + 1))
            sent += [kind_of(e) for e in market.told()]
        market.pass_time(0.2)
    assert sent.count("base") == 2


def test_a_hub_that_was_frozen_until_its_topic_was_let_go_is_told_that_it_is_stale() -> None:
    market = Market()
    market.follow(BOOK)
    market.frames(snapshot(5_000))
    at = [EPOCH, market.upstream.streams[BOOK].offset]
    market.pass_time(timing.DEMAND_LEASE + 0.1)
    market.pass_time(LINGER + 0.1)
    assert BOOK not in market.upstream.streams
    market.told()
    market.want(BOOK, at=at, whole=True)
    assert [(kind_of(e), e.after) for e in market.told(BOOK)] == [("stale", at[1])]
    while requests := market.requests():  # out, and in again
        market.frames(*[ack(request_id, op) for request_id, op, _ in requests])
    market.told()
    market.frames(snapshot(9_000))
    assert market.told(BOOK) == [published(BOOK, at[1] + 1, snapshot(9_000))]


def published(text: str, after: int, *texts: bytes) -> Any:
    envelope = envelopes.Publication(group(text), EPOCH, after, [texts[0]])
    envelope.texts += texts[1:]
    envelope.at = PUBLISHED_AT
    return envelope


def based(text: str, offset: int, state: bytes | None) -> Any:
    return envelopes.Base(group(text), EPOCH, offset, [] if state is None else [state])


@pytest.fixture
def market() -> Market:
    return Market()


# ---- demand ----


def test_a_wanted_topic_is_subscribed_and_its_ack_told(market: Market) -> None:
    market.want(BOOK)
    assert (list(market.upstream.streams), len(market.upstream.connections)) == ([BOOK], 1)
    market.open()
    assert market.requests() == [("1", "subscribe", [BOOK])]
    assert market.told() == []
    market.frames(ack("1"))
    assert market.told() == [envelopes.Confirmed(group(BOOK), EPOCH)]


def test_who_comes_later_gets_a_base(market: Market) -> None:
    market.follow(BOOK)
    market.frames(snapshot(5_000), delta(5_001))
    market.told()
    market.want(BOOK, process="q")
    state = snapshot(5_001, [("10.05", "3.2"), ("10.04", "2")])
    assert market.told() == [based(BOOK, 2, state)]
    assert market.requests() == []


def test_hubs_that_ask_together_get_one_base(market: Market) -> None:
    market.follow(BOOK)
    market.frames(snapshot(5_000))
    market.told()
    for process in "qrs":
        market.want(BOOK, process=process)
    assert market.told() == [based(BOOK, 1, snapshot(5_000))]


def test_a_confirmed_topic_without_a_snapshot_is_confirmed_to_who_comes_later(
    market: Market,
) -> None:
    market.follow(BOOK)
    market.want(BOOK, process="q")
    assert market.told() == [envelopes.Confirmed(group(BOOK), EPOCH)]


def test_a_hub_that_is_behind_what_has_settled_gets_a_base(market: Market) -> None:
    market.follow(BOOK)
    market.frames(snapshot(5_000), delta(5_001))
    market.told()
    market.want(BOOK, at=(EPOCH, 1))
    assert market.told() == []  # the message may be on its way
    market.upstream.beat()
    market.upstream.beat()
    market.told()
    market.want(BOOK, at=(EPOCH, 2))
    assert market.told() == []
    market.want(BOOK, at=(EPOCH, 1))
    market.want(BOOK, at=(EPOCH - 1, 900))
    assert len(market.told()) == 1


def test_what_comes_late_on_a_connection_that_is_given_up_asks_for_nothing() -> None:
    market = Market(linger=0.0)
    market.follow(BOOK)
    [connection] = market.upstream.effects().opens
    market.drop(BOOK)
    market.pass_time(1)
    [(request_id, _, _)] = market.requests()
    market.pass_time(timing.CONNECTION_LINGER)
    assert market.upstream.effects().closes == (connection,)
    market.upstream.on_frame(connection, ack(request_id, "unsubscribe"), market.now)
    assert market.upstream.effects().asks == ()


def test_a_topic_lingers_after_its_last_hub_and_is_then_unsubscribed(market: Market) -> None:
    market.follow(BOOK)
    market.frames(snapshot())
    market.drop(BOOK)
    market.pass_time(LINGER - 0.1)
    assert market.requests() == []
    market.pass_time(0.2)
    assert market.requests() == [("2", "unsubscribe", [BOOK])]
    assert market.upstream.streams == {}


def test_the_demand_of_a_killed_process_ends_with_its_lease_and_the_linger(market: Market) -> None:
    market.follow(BOOK)
    market.pass_time(max(timing.DEMAND_LEASE, LINGER) + 0.1)
    market.pass_time(0.1)
    assert market.requests() == [("2", "unsubscribe", [BOOK])]


def test_a_renewal_takes_back_what_it_leaves_out(market: Market) -> None:
    market.want(BOOK, TICKER)
    market.want(TICKER, whole=True)
    market.now += LINGER + 0.1
    market.want(TICKER, whole=True)
    market.pass_time(0)
    assert list(market.upstream.streams) == [TICKER]


def test_a_topic_wanted_again_before_it_could_leave_is_seen_from_a_new_snapshot(
    market: Market,
) -> None:
    market.follow(BOOK)
    market.frames(snapshot(5_000))
    market.drop(BOOK)
    market.pass_time(LINGER)
    market.want(BOOK)
    market.told()
    [(request_id, op, args)] = market.requests()
    assert (op, args) == ("unsubscribe", [BOOK])
    market.frames(delta(5_001), ack(request_id, "unsubscribe"))
    [(request_id, op, args)] = market.requests()
    assert (op, args) == ("subscribe", [BOOK])
    market.frames(ack(request_id), snapshot(5_002))
    confirmed, publication = market.told(BOOK)
    assert confirmed == envelopes.Confirmed(group(BOOK), EPOCH)
    assert publication.texts == [snapshot(5_002)]


def test_a_topic_that_comes_back_repeats_no_position(market: Market) -> None:
    market.follow(BOOK)
    market.frames(*[snapshot(update_id) for update_id in range(1, 8)])
    market.drop(BOOK)
    market.pass_time(LINGER)
    market.told()
    assert [op for _, op, _ in market.requests()] == ["unsubscribe"]
    market.frames(ack("2", "unsubscribe"))
    market.want(BOOK)
    [(request_id, _, _)] = market.requests()
    market.frames(ack(request_id), snapshot(9))
    publication = market.told(BOOK)[-1]
    assert publication.after >= 7


def test_a_topic_that_comes_back_counts_on_from_its_own_last_position(market: Market) -> None:
    market.follow(TRADES, BOOK)
    market.frames(trades(range(5)), *[snapshot(update_id) for update_id in range(1, 1_001)])
    market.drop(TRADES, BOOK)
    market.pass_time(LINGER)
    market.frames(ack(market.requests()[0][0], "unsubscribe"))
    market.told()
    market.want(TRADES)
    market.frames(ack(market.requests()[0][0]), trades([7, 8]))
    market.want(TRADES, at=(EPOCH, 3))  # of a hub that was frozen: it lacks two, and who knows
    market.pass_time(0)
    assert market.told(TRADES)[-1] == published(TRADES, 6, trades([7, 8]))
    market.upstream.beat()
    market.upstream.beat()
    market.want(TRADES, at=(EPOCH, 3))
    assert market.told(TRADES) == [based(TRADES, 8, trades([7, 8]))]


def test_however_many_topics_are_let_go_none_repeats_a_position(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.upstream.category.MAX_LEFT", 3)
    last: dict[str, int] = {}
    for number in (1, 2, 3, 4, 5, 1, 6, 7, 8, 1, 4):
        text = f"orderbook.1.N{number}USDT"
        market.want(text)
        if market.upstream.connections[0].subscriptions is None:
            market.open()
        market.requests()
        stream = market.upstream.streams[text]
        assert stream.offset > last.get(text, -1)
        market.frames(*[snapshot(1 + nth, of=text) for nth in range(number)])
        last[text] = stream.offset
        market.drop(text)
        market.pass_time(LINGER)
        assert market.upstream.streams == {}


def test_what_comes_after_a_topic_came_back_does_not_continue_what_waits(market: Market) -> None:
    market.follow(TRADES, BOOK)
    market.frames(trades(range(3)))
    market.drop(TRADES)
    market.pass_time(LINGER)
    market.want(TRADES)
    market.frames(ack(market.requests()[0][0], "unsubscribe"))
    market.frames(ack(market.requests()[0][0]), trades([3]), trades([4]))
    assert market.told(TRADES) == [
        published(TRADES, 0, trades(range(3))),
        based(TRADES, 4, None),
        published(TRADES, 4, trades([3]), trades([4])),
    ]


def test_what_arrives_for_the_earlier_subscription_of_a_topic_that_came_back_is_ignored(
    market: Market,
) -> None:
    """Published, it would be followed by a hole that no position shows."""
    market.follow(TRADES)
    market.frames(trades([1]))
    market.drop(TRADES)
    market.pass_time(LINGER)
    [(unsubscribe, _, _)] = market.requests()
    market.told()
    market.want(TRADES)
    market.frames(trades([2]))  # sent before the exchange read the unsubscribe
    assert market.told() == []
    market.frames(ack(unsubscribe, "unsubscribe"))
    [(subscribe, _, _)] = market.requests()  # trade 3 happens, and is sent to nobody
    market.frames(ack(subscribe), trades([4]))
    assert market.told() == [based(TRADES, 2, None), published(TRADES, 2, trades([4]))]
    assert market.upstream.counted.not_understood == 0


def test_a_topic_that_moves_to_another_connection_is_heard_on_that_one_alone() -> None:
    market = Market(linger=0.0)
    names = [f"publicTrade.{'X' * 30}{number:06}" for number in range(411)]  # all that fit on one
    market.want(*names)
    moving = names[0]
    market.open()
    for request_id, _, _ in market.requests():
        market.frames(ack(request_id))
    market.drop(moving)
    market.pass_time(0)
    market.want(f"publicTrade.{'Y' * 30}000000", moving)  # the other takes its room
    assert [moving in connection.topics for connection in market.upstream.connections] == [
        False,
        True,
    ]
    market.open(1)
    [(request_id, _, _)] = market.requests(1)
    market.frames(ack(request_id), number=1)
    market.told()
    for number in range(1, 4):  # the unsubscribe is on its way
        market.frames(trades([number], of=moving))
        market.frames(trades([number], of=moving), number=1)
    [publication] = market.told(moving)
    assert publication.texts == [trades([number], of=moving) for number in range(1, 4)]
    assert market.upstream.counted.not_understood == 0


def test_an_ack_after_everybody_has_left_is_no_fault() -> None:
    market = Market(linger=0.0)
    market.want(BOOK)
    market.open()
    [(request_id, _, _)] = market.requests()
    market.drop(BOOK)
    market.pass_time(0)
    assert market.upstream.streams == {}
    market.frames(ack(request_id))
    assert market.told() == []
    assert market.requests() == [("2", "unsubscribe", [BOOK])]


def test_what_is_no_topic_is_not_admitted(market: Market) -> None:
    market.want("candles", "orderbook.7.X", "")
    assert (market.upstream.streams, market.upstream.connections, market.told()) == ({}, [], [])


def test_more_topics_than_allowed_are_refused(market: Market) -> None:
    market.room = 1
    market.want(BOOK, TICKER)
    assert list(market.upstream.streams) == [BOOK]
    [verdict] = market.told(TICKER)
    assert (kind_of(verdict), verdict.code) == ("refused", Code.TOO_MANY_TOPICS)


def test_topics_that_nobody_reads_make_room_the_longest_lingering_first(market: Market) -> None:
    """Measured: ten requests of one connection filled the relay, with no topic wanted."""
    names = [f"tickers.A{number}" for number in range(5)]
    market.room = 5
    market.follow(*names)
    for name in names[:3]:
        market.drop(name)
        market.now += 1
    market.want(BOOK, process="q")
    market.want(names[1], TICKER, process="q")
    assert list(market.upstream.streams) == [*names[1:2], *names[3:], BOOK, TICKER]
    assert "refused" not in [kind_of(e) for e in market.told()]


def test_what_one_process_drops_makes_room_for_what_it_wants_in_the_same_word(
    market: Market,
) -> None:
    market.room = 1
    market.want(BOOK)
    market.upstream.on_demand(envelopes.Demand("p", {TICKER: None}, [BOOK], epoch=0), market.now)
    assert list(market.upstream.streams) == [TICKER]
    market.want(TRADES, whole=True)
    assert list(market.upstream.streams) == [TRADES]
    assert market.told() == []


def test_never_confirmed_topics_make_room_of_the_process_that_has_the_most(
    market: Market,
) -> None:
    market.room = 6
    market.follow(BOOK)
    invented = [f"tickers.A{number}" for number in range(4)]
    market.want(*invented, process="q")
    market.want("tickers.B", process="r")
    market.now += 1
    market.want("tickers.C", process="r")
    market.want("tickers.D", process="r")
    assert list(market.upstream.streams) == [
        *(BOOK, *invented[2:], "tickers.B", "tickers.C", "tickers.D"),
    ]
    codes = {e.group: e.code for e in market.told() if kind_of(e) == "refused"}
    assert codes == {group(text): Code.TOO_MANY_TOPICS for text in invented[:2]}
    market.want("tickers.E", process="r")  # it has the most itself
    assert "tickers.B" not in market.upstream.streams
    assert BOOK in market.upstream.streams


def test_confirmed_topics_that_are_wanted_make_no_room(market: Market) -> None:
    market.room = 2
    market.follow(BOOK, TICKER)
    market.now += 1
    market.want(TRADES, process="q")
    assert list(market.upstream.streams) == [BOOK, TICKER]
    assert [e.code for e in market.told(TRADES)] == [Code.TOO_MANY_TOPICS]


def test_another_category_of_the_same_worker_makes_room() -> None:
    linear, spot = Market(), Market(Category.SPOT)
    both = (linear.upstream, spot.upstream)
    for market in (linear, spot):
        market.upstream._max_topics = lambda: 2 - sum(len(each.streams) for each in both)
        market.upstream._peers = lambda: both
    spot.follow(BOOK, TICKER)
    spot.drop(BOOK)
    linear.want(BOOK)
    assert (list(linear.upstream.streams), list(spot.upstream.streams)) == ([BOOK], [TICKER])
    linear.now += 1
    linear.want(TRADES)
    assert (list(linear.upstream.streams), list(spot.upstream.streams)) == ([TRADES], [TICKER])


# ---- refusals ----


def test_a_refusal_is_told_and_the_others_notice_nothing(market: Market) -> None:
    bad = "tickers.NOPE"
    market.want(BOOK, bad, TICKER)
    market.open()
    [(request_id, _, _)] = market.requests()
    words = unknown_topic(bad)
    market.frames(refusal(request_id, words))
    assert market.told() == [envelopes.Refused(group(bad), EPOCH, Code.REFUSED_BY_EXCHANGE, words)]
    for request_id, _, args in market.requests():
        market.frames(ack(request_id))
        assert market.told() == [envelopes.Confirmed(group(text), EPOCH) for text in args]
    assert [stream.is_confirmed for stream in market.upstream.streams.values()] == [True, True]
    assert list(market.upstream.streams) == [BOOK, TICKER]


def test_a_refused_topic_is_not_asked_for_again_for_a_minute(market: Market) -> None:
    market.want(BOOK)
    market.open()
    [(request_id, _, _)] = market.requests()
    market.frames(refusal(request_id, unknown_topic(BOOK)))
    told = market.told()
    for _ in range(11):
        market.pass_time(timing.REFUSED_FOR / 12)
        market.want(BOOK)
        assert (market.upstream.streams, market.told()) == ({}, told)
    market.pass_time(timing.REFUSED_FOR / 12)
    market.want(BOOK)
    market.open()
    assert [(op, args) for _, op, args in market.requests()] == [("subscribe", [BOOK])]


BUSY = "Internal Server error"


def test_a_live_topic_that_is_refused_on_its_way_back_is_asked_for_again(market: Market) -> None:
    """Measured: one refusal took it from all readers for good, and from newcomers for a minute."""
    market.follow(BOOK, TICKER)
    market.frames(snapshot(5_000), ticker(lastPrice="1"))
    market.upstream.on_closed(market.upstream.connections[0], "gone")
    market.told()
    market.open()
    [(request_id, _, _)] = market.requests()
    market.frames(refusal(request_id, unknown_topic(BOOK)))
    assert market.told() == []
    market.want(BOOK, process="q")
    assert market.told() == []
    for _ in range(20):
        market.pass_time(0.1)
        for request_id, _, args in market.requests():
            market.frames(ack(request_id))
            if BOOK in args:
                market.frames(snapshot(6_000))
    assert [kind_of(e) for e in market.told(BOOK)] == ["confirmed", "publication"]
    assert all(stream.is_confirmed for stream in market.upstream.streams.values())


@pytest.mark.parametrize("words", [BUSY, unknown_topic(BOOK)])
def test_a_live_topic_that_stays_refused_is_revoked_after_a_minute_and_not_remembered(
    market: Market, words: str
) -> None:
    market.follow(BOOK)
    market.frames(snapshot(5_000))
    market.upstream.on_closed(market.upstream.connections[0], "gone")
    market.open()
    refusals = 0
    while BOOK in market.upstream.streams and market.now < 1_100:
        market.want(BOOK)
        for request_id, _, _ in market.requests():
            market.frames(refusal(request_id, words))
            refusals += 1
        market.pass_time(0.1)
    assert (
        timing.REFUSED_LASTINGLY
        <= market.now - 1_000
        < timing.REFUSED_LASTINGLY + 2 * timing.REFUSAL_RETRY_CEILING
    )
    assert refusals < 30
    assert market.told(BOOK)[-1] == envelopes.Refused(
        group(BOOK), EPOCH, Code.REFUSED_BY_EXCHANGE, words
    )
    market.want(BOOK)
    assert market.told(BOOK) == []
    assert [args for _, _, args in market.requests()] == [[BOOK]]


def test_a_refused_resync_leaves_no_reader_behind(market: Market) -> None:
    market.follow(BOOK)
    market.frames(snapshot(5_000), delta(5_009))
    market.pass_time(0)
    market.frames(ack(market.requests()[0][0], "unsubscribe"))
    market.frames(refusal(market.requests()[0][0], BUSY))
    market.told()
    market.pass_time(timing.REFUSAL_FIRST_RETRY)
    market.frames(ack(market.requests()[0][0]), snapshot(6_000))
    assert [kind_of(e) for e in market.told(BOOK)] == ["confirmed", "publication"]


def test_a_refusal_after_data_makes_the_topic_stale(market: Market) -> None:
    market.want(BOOK)
    market.open()
    [(request_id, _, _)] = market.requests()
    market.frames(snapshot(5_000))
    market.told()
    market.frames(refusal(request_id, BUSY))
    assert market.told() == [envelopes.Stale(group(BOOK), EPOCH, 1)]


def test_a_new_connection_forgets_what_was_refused(market: Market) -> None:
    bad = "tickers.NOPE"
    market.follow(BOOK)
    market.want(bad)
    market.frames(refusal(market.requests()[0][0], unknown_topic(bad)))
    market.told()
    market.want(bad)
    assert [e.code for e in market.told()] == [Code.REFUSED_BY_EXCHANGE]
    market.upstream.on_closed(market.upstream.connections[0], "gone")
    market.open()
    market.told()
    market.want(bad)
    assert market.told() == []
    assert [args for _, _, args in market.requests()] == [[BOOK], [bad]]


def test_option_verdicts_are_read_from_their_topics() -> None:
    market = Market(Category.OPTION)
    texts = ["tickers.BTC-6JAN23-17500-C", "tickers.BTC-NOPE"]
    market.want(*texts)
    market.open()
    assert market.requests() == [("1", "subscribe", texts)]
    market.frames(command_response([texts[0]], [texts[1]]).replace(b"false", b"true"))
    confirmed, refused = market.told()
    assert (kind_of(confirmed), confirmed.group) == ("confirmed", group(texts[0], Category.OPTION))
    assert (kind_of(refused), refused.group) == ("refused", group(texts[1], Category.OPTION))
    assert refused.code is Code.REFUSED_BY_EXCHANGE


# ---- messages ----


def test_messages_are_published_byte_for_byte_and_together(market: Market) -> None:
    market.follow(BOOK)
    spaced = delta(5_001).replace(b'"u":', b'"u" : ')
    market.frames(snapshot(5_000), spaced)
    assert market.told() == [published(BOOK, 0, snapshot(5_000), spaced)]
    market.frames(delta(5_002))
    assert market.told() == [published(BOOK, 2, delta(5_002))]
    assert market.upstream.counted.messages == 3


def test_data_before_the_ack_is_published_and_confirms(market: Market) -> None:
    market.want(BOOK)
    market.open()
    market.requests()
    market.frames(snapshot(5_000), delta(5_001))
    assert market.told() == [
        envelopes.Confirmed(group(BOOK), EPOCH),
        published(BOOK, 0, snapshot(5_000), delta(5_001)),
    ]
    market.frames(ack("1"))
    assert market.told() == []


def test_trades_are_live_from_the_ack_and_counted_one_by_one(market: Market) -> None:
    market.follow(TRADES)
    market.want(TRADES, process="q")
    assert market.told() == [based(TRADES, 0, None)]
    market.frames(trades(range(3)), trades([3]))
    assert market.told() == [published(TRADES, 0, trades(range(3)), trades([3]))]
    market.want(TRADES, process="q")
    assert market.told() == [based(TRADES, 4, trades(range(4)))]


def test_a_gap_is_told_as_stale_and_mended_by_subscribing_anew(market: Market) -> None:
    market.follow(BOOK, TICKER)
    market.frames(snapshot(5_000), ticker(lastPrice="1"))
    market.told()
    market.frames(delta(5_002), delta(5_003))
    assert market.told() == [envelopes.Stale(group(BOOK), EPOCH, 1)]
    market.pass_time(0)
    assert market.requests() == [("2", "unsubscribe", [BOOK])]
    market.frames(ack("2", "unsubscribe"))
    assert market.requests() == [("3", "subscribe", [BOOK])]
    market.frames(ack("3"), snapshot(6_000), ticker("delta", markPrice="2"))
    assert market.told(BOOK)[-1] == published(BOOK, 2, snapshot(6_000))
    assert [stream.gaps for stream in market.upstream.streams.values()] == [1, 0]


def test_a_book_that_is_broken_greets_nobody(market: Market) -> None:
    market.follow(BOOK)
    market.frames(snapshot(5_000), delta(5_002))
    market.told()
    market.want(BOOK, process="q")
    assert market.told() == [envelopes.Confirmed(group(BOOK), EPOCH)]


CROSSED = delta(5_001, [("10.07", "1")])


def test_a_hub_that_asks_while_a_book_is_crossed_gets_its_base_when_it_has_healed(
    market: Market,
) -> None:
    market.follow(BOOK)
    market.frames(snapshot(5_000), CROSSED)
    assert market.told() == [published(BOOK, 0, snapshot(5_000))]
    market.want(BOOK, process="q")
    assert market.told() == []
    healed = delta(5_002, [("10.07", "0")])
    market.frames(healed)
    assert market.told() == [published(BOOK, 1, CROSSED, healed), based(BOOK, 3, snapshot(5_002))]


def test_a_book_that_stays_crossed_is_told_as_stale_and_asked_for_anew(market: Market) -> None:
    market.follow(BOOK)
    market.frames(snapshot(5_000), CROSSED)
    market.want(BOOK, process="q")
    market.told()
    market.pass_time(timing.CROSSED_PATIENCE + 0.1)
    assert market.told() == [envelopes.Stale(group(BOOK), EPOCH, 1)]
    assert [op for _, op, _ in market.requests()] == ["unsubscribe"]
    assert market.upstream.counted.gaps == 1


def test_a_hub_that_missed_the_word_of_staleness_is_told_again(market: Market) -> None:
    market.follow(BOOK)
    market.frames(snapshot(5_000), delta(5_002))
    market.told()  # and lost on the way
    market.upstream.beat()
    market.upstream.beat()
    market.told()
    market.want(BOOK, at=(EPOCH, 1), whole=True)
    assert [kind_of(envelope) for envelope in market.told()] == ["stale"]


def test_a_confirmed_topic_that_sends_nothing_is_asked_for_again(market: Market) -> None:
    market.follow(TICKER)
    for _ in range(int(timing.SNAPSHOT_PATIENCE)):
        assert market.requests() == []
        market.pass_time(1)
        market.want(TICKER)
    assert market.requests() == [("2", "unsubscribe", [TICKER])]


@pytest.mark.parametrize(
    "text",
    [
        b"garbage",
        b"\xff\xfe",
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"topic":5}',
        b'{"topic":"tickers.STRANGER","data":{}}',
        b'{"success":null,"op":"dance"}',
        b"x" * 10_000_000,
        b'{"x":"' + b"y" * 10_000_000 + b'"}',
    ],
    ids=lambda text: repr(text[:30]),
)
def test_a_frame_that_is_not_understood_is_counted_and_costs_nothing(
    market: Market, text: bytes
) -> None:
    market.follow(BOOK)
    market.frames(snapshot(5_000))
    market.told()
    market.frames(text, delta(5_001))
    assert market.told() == [published(BOOK, 1, delta(5_001))]
    assert market.upstream.counted.not_understood == 1
    market.upstream.on_binary(5)
    assert market.upstream.counted.not_understood == 2


@given(st.lists(st.binary(max_size=50) | st.sampled_from([
    b'{"topic":"orderbook.50.BTCUSDT"}', b'{"topic":"orderbook.50.BTCUSDT","data":null}',
    b'{"topic":"orderbook.50.BTCUSDT","type":"snapshot","data":{"s":"","b":[["x","1"]],"a":[],"u":1}}',
    b'{"success":true}', b'{"success":false}', b'{"success":true,"req_id":"1"}',
    b'{"success":false,"req_id":"1","op":"subscribe"}', b'{"op":"ping","ret_msg":"pong"}',
]), max_size=8))  # fmt: skip
def test_no_frames_whatever_end_the_worker(texts: list[bytes]) -> None:
    market = Market()
    market.want(BOOK, TICKER)
    market.open()
    market.requests()
    market.frames(*texts)
    for _ in range(10):
        market.pass_time(1)
        market.requests()
        market.upstream.beat()


def test_pongs_are_told_apart(market: Market) -> None:
    market.follow(BOOK)
    connection = market.upstream.connections[0]
    for pong in (ack("9", "ping", ret_msg="pong"), b'{"args":["1"],"op":"pong"}'):
        market.now += 1
        market.frames(pong)
        assert connection.answered_at == market.now
    market.now += 1
    market.frames(snapshot())
    assert connection.answered_at == market.now - 1
    assert market.upstream.counted.not_understood == 0


def test_data_on_its_way_while_a_topic_leaves_is_no_fault(market: Market) -> None:
    market.follow(BOOK)
    market.drop(BOOK)
    market.pass_time(LINGER)
    assert [op for _, op, _ in market.requests()] == ["unsubscribe"]
    market.frames(snapshot(5_000), delta(5_001))
    assert market.upstream.counted.not_understood == 0


# ---- connections ----


def test_a_lost_connection_makes_its_topics_stale_and_the_next_one_subscribes_them(
    market: Market,
) -> None:
    market.follow(BOOK, TRADES, TICKER)
    market.frames(snapshot(5_000), trades([1]))
    market.told()
    market.upstream.on_closed(market.upstream.connections[0], "gone")
    assert market.told() == [
        envelopes.Stale(group(BOOK), EPOCH, 1),
        envelopes.Stale(group(TRADES), EPOCH, 1),
    ]
    market.open()
    assert market.requests() == [("1", "subscribe", [BOOK, TRADES, TICKER])]
    market.frames(snapshot(800), ack("1"), delta(801))
    assert market.told(BOOK) == [
        envelopes.Confirmed(group(BOOK), EPOCH),
        published(BOOK, 2, snapshot(800), delta(801)),
    ]


def test_trades_begin_anew_where_they_were(market: Market) -> None:
    market.follow(TRADES)
    market.frames(trades(range(3)))
    market.upstream.on_closed(market.upstream.connections[0], "gone")
    market.told()
    market.open()
    market.requests()
    market.frames(ack("1"))
    assert market.told() == [based(TRADES, 3, trades(range(3)))]


def test_the_state_follows_the_connections(market: Market) -> None:
    assert market.upstream.state is UpstreamState.IDLE
    market.want(BOOK)
    market.open()
    assert market.states() == ["connecting", "live"]
    market.upstream.on_closed(market.upstream.connections[0], "gone")
    market.upstream.on_closed(market.upstream.connections[0], "gone")
    assert market.states() == ["down"]
    market.open()
    assert market.states() == ["live"]
    market.drop(BOOK)
    market.pass_time(LINGER)
    assert market.states() == ["idle"]
    market.upstream.beat()
    assert market.states() == ["idle"]


def test_since_tells_when_the_state_began(market: Market) -> None:
    market.follow(BOOK)
    market.now += 5
    market.upstream.on_closed(market.upstream.connections[0], "gone")
    began = int(market.now * 1_000)
    market.now += 5
    market.upstream.beat()
    [*_, last] = market.upstream.take_envelopes(market.now, PUBLISHED_AT)[UPSTREAM_GROUP]
    assert (last.state, last.since, last.epoch) == ("down", began, EPOCH)


def test_a_connection_without_topics_is_given_up_after_a_while(market: Market) -> None:
    market.follow(BOOK)
    market.drop(BOOK)
    market.pass_time(LINGER)
    market.pass_time(timing.CONNECTION_LINGER - 0.1)
    assert len(market.upstream.connections) == 1
    market.pass_time(0.2)
    assert market.upstream.connections == []


def long_names(count: int) -> list[str]:
    return [f"orderbook.50.{'X' * 30}{number:06}" for number in range(count)]


def test_past_the_characters_of_one_connection_a_further_one_is_opened(market: Market) -> None:
    names = long_names(1_000)
    market.want(*names)
    connections = market.upstream.connections
    assert len(connections) == 3
    assert [text for connection in connections for text in connection.topics] == names
    for connection in connections:
        assert (
            len(json.dumps([*connection.topics], separators=(",", ":")))
            <= CHARACTERS_PER_CONNECTION
        )


def test_the_room_of_topics_that_left_is_used_again() -> None:
    market = Market(linger=0.0)
    for number in range(5):
        names = [f"{name}{number}" for name in long_names(300)]
        market.want(*names, whole=True)
        for connection in market.upstream.connections:
            if connection.subscriptions is None:
                market.upstream.on_opened(connection, market.now)
        market.pass_time(0)
        assert list(market.upstream.streams) == names
    assert len(market.upstream.connections) == 2  # one and the overlap while both were wanted


def test_a_connection_that_is_not_open_yet_is_given_up_with_its_last_topic(market: Market) -> None:
    market.want(BOOK)
    assert len(market.upstream.connections) == 1
    market.drop(BOOK)
    market.pass_time(LINGER)
    assert (market.upstream.connections, market.states()[-1]) == ([], "idle")


def test_no_connection_of_option_carries_more_than_its_args_and_characters() -> None:
    market = Market(Category.OPTION)
    market.want(*[f"tickers.{number}" for number in range(4_000)])
    for connection in market.upstream.connections:
        assert len(connection.topics) <= 2_000
        assert sum(map(len, connection.topics)) <= CHARACTERS_PER_CONNECTION
    assert sum(len(connection.topics) for connection in market.upstream.connections) == 4_000


class Connected(Market):
    """Answers every request of every connection at once, and watches what each one carries."""

    def __init__(self) -> None:
        super().__init__(linger=0.0)
        self.carried: dict[int, set[str]] = {}

    def run(self) -> None:
        for connection in self.upstream.connections:
            if connection.subscriptions is None:
                self.upstream.on_opened(connection, self.now)
                self.carried[connection.number] = set()
            assert connection.subscriptions is not None
            carried = self.carried[connection.number]
            for text in connection.subscriptions.requests(self.now):
                body = json.loads(text)
                args: Sequence[str] = body["args"]
                if body["op"] == "subscribe":
                    assert not carried & set(args)
                    carried |= set(args)
                else:
                    assert carried >= set(args)
                    carried -= set(args)
                assert sum(map(len, carried)) <= CHARACTERS_PER_CONNECTION
                self.upstream.on_frame(connection, ack(body["req_id"], body["op"]), self.now)
                if body["op"] == "subscribe":
                    for topic_text in args:
                        self.upstream.on_frame(connection, snapshot(of=topic_text), self.now)
            self.told()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1_199), st.integers(0, 400)), max_size=8))
def test_whatever_comes_and_goes_each_wanted_topic_is_on_one_connection_within_its_limit(
    spans: list[tuple[int, int]],
) -> None:
    market, names = Connected(), long_names(1_600)
    for first, count in spans:
        wanted = names[first : first + count]
        market.want(*wanted, whole=True)
        for _ in range(3):
            market.pass_time(0.1)
            market.run()
        for _ in range(5):
            market.pass_time(1)
            market.run()
        carried = [text for topics in market.carried.values() for text in topics]
        assert sorted(carried) == wanted
        topics = [text for each in market.upstream.connections for text in each.topics]
        assert sorted(topics) == wanted


# ---- effects ----


def test_what_an_input_leads_to_is_told_once(market: Market) -> None:
    assert not market.upstream.has_effects
    market.want(BOOK)
    assert market.upstream.has_effects
    [connection] = market.upstream.connections
    assert market.upstream.effects() == Effects(
        opens=(connection,), has_envelopes=True, has_other_topics=True
    )
    assert not market.upstream.has_effects
    market.want(BOOK, process="another")
    assert not market.upstream.has_effects


def test_the_requests_of_an_open_connection_are_asked_for_when_there_may_be_some(
    market: Market,
) -> None:
    market.follow(BOOK)
    market.upstream.effects()
    [connection] = market.upstream.connections
    market.want(TICKER)
    assert market.upstream.effects() == Effects(asks=(connection,), has_other_topics=True)
    [(request_id, _, _)] = market.requests()
    market.frames(refusal(request_id, "busy"))
    assert market.upstream.effects().asks == (connection,)
    market.drop(TICKER)
    market.pass_time(LINGER)
    assert market.upstream.effects().asks == (connection,)


def test_the_frames_that_wait_with_others_have_no_effects(market: Market) -> None:
    market.follow(BOOK)
    market.upstream.effects()
    market.frames(snapshot())
    assert market.upstream.effects() == Effects(has_envelopes=True)
    for u in range(5_001, 5_004):
        market.frames(delta(u=u))
        assert not market.upstream.has_effects
    assert market.told(BOOK)
    market.frames(delta(u=5_004))
    assert market.upstream.has_effects


def test_a_connection_is_closed_when_it_has_carried_nothing_for_a_while(market: Market) -> None:
    market.follow(BOOK)
    [connection] = market.upstream.connections
    market.drop(BOOK)
    market.pass_time(LINGER)
    assert market.upstream.effects().closes == ()
    market.pass_time(timing.CONNECTION_LINGER)
    assert market.upstream.effects().closes == (connection,)


def test_a_connection_that_nobody_wants_any_more_is_not_opened_first(market: Market) -> None:
    market.want(BOOK)
    market.drop(BOOK)
    market.pass_time(LINGER)
    effects = market.upstream.effects()
    assert (effects.opens, effects.closes) == ((), ())


def test_the_exchange_is_to_wait_while_too_much_waits_for_the_channel_layer(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.upstream.category.CROWDED_BYTES", 10_000)
    market.follow(TICKER)
    market.frames(ticker(padding="x" * 5_000))
    assert not market.upstream.effects().is_crowded
    for _ in range(2):  # each connection that reads one is to pause
        market.frames(ticker(padding="x" * 5_000))
        assert market.upstream.has_effects
        assert market.upstream.effects().is_crowded
    market.told()
    assert market.upstream.has_effects
    assert market.upstream.effects() == Effects()


# ---- envelopes ----


def test_what_nobody_takes_is_bounded_and_counted(market: Market) -> None:
    market.follow(TICKER)
    text = ticker(padding="x" * 2**20)
    for _ in range(70):
        market.frames(text)
    waiting = sum(len(e.texts) for e in market.told(TICKER))
    assert waiting * len(text) <= MAX_WAITING_BYTES
    assert market.upstream.counted.dropped > 0
    market.frames(ticker())
    [publication] = market.told(TICKER)
    assert (publication.after, publication.texts) == (70, [ticker()])


def test_answers_that_nobody_takes_are_bounded_too(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    market.want(BOOK)
    market.open()
    [(request_id, _, _)] = market.requests()
    market.frames(refusal(request_id, unknown_topic(BOOK)))
    market.told()
    monkeypatch.setattr("relay.upstream.category.CROWDED_BYTES", 10_000)
    monkeypatch.setattr("relay.upstream.category.MAX_WAITING_BYTES", 20_000)
    for _ in range(100):
        market.want(BOOK)  # is answered from memory
    assert 0 < len(market.told(BOOK)) <= 20
    assert market.upstream.counted.dropped > 0


def test_a_lost_ack_does_not_stop_the_data(market: Market) -> None:
    market.want(BOOK)
    market.open()
    market.requests()
    market.frames(snapshot(5_000))
    market.told()
    market.pass_time(timing.ACK_PATIENCE)
    market.want(BOOK, at=(EPOCH, 1))
    assert market.requests() == []
    market.frames(delta(5_001))
    assert market.told() == [published(BOOK, 1, delta(5_001))]


# ---- operators ----


def test_a_resync_is_asked_for_once_and_the_topic_is_stale_until_its_snapshot(
    market: Market,
) -> None:
    market.follow(BOOK)
    market.frames(snapshot(5_000))
    market.told()
    market.upstream.on_resync(BOOK, market.now)
    assert market.told() == [envelopes.Stale(group(BOOK), EPOCH, 1)]
    market.upstream.on_resync(BOOK, market.now + 1)
    market.pass_time(0.1)
    [(request_id, op, args)] = market.requests()
    assert (op, args) == ("unsubscribe", [BOOK])
    market.frames(ack(request_id, "unsubscribe"))
    [(request_id, op, args)] = market.requests()
    assert (op, args) == ("subscribe", [BOOK])
    market.frames(ack(request_id), snapshot(6_000))
    assert market.told()[-1] == published(BOOK, 2, snapshot(6_000))
    market.pass_time(1)
    assert market.requests() == []
    assert market.upstream.streams[BOOK].resyncs == 1


def test_a_resync_of_what_is_not_subscribed_does_nothing(market: Market) -> None:
    market.follow(BOOK)
    market.upstream.on_resync(TICKER, market.now)
    market.pass_time(0.1)
    assert market.requests() == []


def test_the_report_says_how_connections_and_topics_are(market: Market) -> None:
    market.follow(BOOK, TICKER)
    market.frames(snapshot(5_000), delta(5_001))
    before = market.upstream.report()["messages"]
    market.frames(delta(5_002))
    report = market.upstream.report()
    assert report["messages"] == before + 1
    assert (report["role"], report["epoch"], report["topics"], report["wanted"]) == (
        *("leader", EPOCH),
        *(2, 2),
    )
    assert report["connections"] == [
        {
            "number": 1,
            "state": "live",
            "since": 1_000_000,
            "topics": 2,
            "confirmed": 2,
            "error": "",
        }
    ]
    assert [(row.topic, row.messages, row.u) for row in market.upstream.rows()] == [
        (BOOK, 3, 5_002),
        (TICKER, 0, None),
    ]
    market.drop(BOOK)
    assert market.upstream.report()["wanted"] == 1  # it lingers
    market.now += 1
    market.upstream.on_closed(market.upstream.connections[0], "gone")
    [connection] = market.upstream.report()["connections"]
    assert (
        connection["state"],
        connection["since"],
        connection["error"],
        connection["confirmed"],
    ) == (
        *("down", 1_001_000),
        *("gone", 0),
    )
