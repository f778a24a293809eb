"""relay/bybit/subscriptions.py: what is wanted ends up subscribed, whatever is answered."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.bybit import subscriptions as module
from relay.bybit.frames import ARGS_PER_REQUEST
from relay.bybit.subscriptions import (
    MAX_TRIES,
    REQUEST_BURST,
    REQUESTS_IN_FLIGHT,
    REQUESTS_PER_SECOND,
    Data,
    Subscriptions,
    Verdict,
    says_no_such_topic,
)
from relay.bybit.topics import Category
from relay.lib import timing
from tests.builders import (
    ack,
    already_subscribed,
    command_response,
    frame,
    refusal,
    unknown_topic,
)

Asked = tuple[str, str, list[str]]


def ledger_of(*topics: str, category: Category = Category.LINEAR) -> Subscriptions:
    return Subscriptions(category, topics, 0.0)


def asked(subscriptions: Subscriptions, now: float = 0.0) -> list[Asked]:
    """Return the requests that are due, as (id, op, args)."""
    bodies = [json.loads(request) for request in subscriptions.requests(now)]
    return [(body["req_id"], body["op"], body["args"]) for body in bodies]


def told(subscriptions: Subscriptions, text: bytes, now: float = 0.0) -> list[Verdict]:
    """Have the subscriptions read an answer."""
    return subscriptions.reply(frame(text), now, 0.0)


def confirmed(*topics: str) -> list[Verdict]:
    return [Verdict(topic, is_confirmed=True) for topic in topics]


def refused(topic: str, words: str, *, is_asked_again: bool = False) -> Verdict:
    return Verdict(topic, is_confirmed=False, words=words, is_asked_again=is_asked_again)


def settled(*topics: str) -> Subscriptions:
    """Return a subscriptions whose topics the exchange has confirmed."""
    subscriptions = ledger_of(*topics)
    assert asked(subscriptions) == [("1", "subscribe", list(topics))]
    assert told(subscriptions, ack("1")) == confirmed(*topics)
    assert asked(subscriptions) == []
    return subscriptions


# ---- what is asked for ----


def test_a_new_connection_subscribes_everything_wanted() -> None:
    subscriptions = ledger_of("a", "b")
    assert asked(subscriptions) == [("1", "subscribe", ["a", "b"])]
    assert subscriptions.confirmed() == 0
    assert told(subscriptions, ack("1")) == confirmed("a", "b")
    assert (subscriptions.confirmed(), asked(subscriptions)) == (2, [])
    assert (subscriptions.has_work, subscriptions.due_at(0)) == (False, None)


@pytest.mark.parametrize(
    ("category", "limit"),
    [
        (Category.SPOT, 10),
        (Category.LINEAR, 200),
        (Category.INVERSE, 200),
        (Category.OPTION, 200),
    ],
)
def test_batches_respect_the_limit_of_the_category(category: Category, limit: int) -> None:
    topics = [f"t{number}" for number in range(3 * limit - 1)]
    batches = [args for _, _, args in asked(ledger_of(*topics, category=category))]
    assert [len(batch) for batch in batches] == [limit, limit, limit - 1]
    assert [topic for batch in batches for topic in batch] == topics


def test_request_ids_count_up_and_pings_share_them() -> None:
    subscriptions = settled("a")
    subscriptions.want("b")
    assert subscriptions.next_request_id() == "2"
    assert asked(subscriptions) == [("3", "subscribe", ["b"])]


def test_an_unwanted_topic_is_unsubscribed_once() -> None:
    subscriptions = settled("a", "b")
    subscriptions.unwant("a")
    assert asked(subscriptions) == [("2", "unsubscribe", ["a"])]
    subscriptions.unwant("a")
    assert asked(subscriptions) == []
    assert told(subscriptions, ack("2", "unsubscribe")) == []
    assert (asked(subscriptions), subscriptions.confirmed()) == ([], 1)


def test_a_topic_that_was_not_yet_asked_for_is_dropped_without_a_word() -> None:
    subscriptions = ledger_of("a")
    subscriptions.unwant("a")
    assert (asked(subscriptions), subscriptions.due_at(0)) == ([], None)
    subscriptions.unwant("stranger")
    assert asked(subscriptions) == []


def test_a_topic_unwanted_while_its_ack_is_pending_leaves_after_the_ack() -> None:
    subscriptions = ledger_of("a", "b")
    asked(subscriptions)
    subscriptions.unwant("a")
    assert asked(subscriptions) == []
    told(subscriptions, ack("1"))
    assert asked(subscriptions) == [("2", "unsubscribe", ["a"])]


def test_a_topic_wanted_again_while_it_leaves_is_subscribed_again() -> None:
    subscriptions = settled("a")
    subscriptions.unwant("a")
    assert asked(subscriptions) == [("2", "unsubscribe", ["a"])]
    subscriptions.want("a")
    assert asked(subscriptions) == []
    told(subscriptions, ack("2", "unsubscribe"))
    assert asked(subscriptions) == [("3", "subscribe", ["a"])]


def test_a_topic_wanted_again_before_it_could_leave_is_subscribed_anew() -> None:
    """Whoever wants it now has seen no snapshot, and only a new subscription sends one."""
    subscriptions = settled("a")
    subscriptions.unwant("a")
    subscriptions.want("a")
    assert asked(subscriptions) == [("2", "unsubscribe", ["a"])]
    told(subscriptions, ack("2", "unsubscribe"))
    assert asked(subscriptions) == [("3", "subscribe", ["a"])]
    assert told(subscriptions, ack("3")) == confirmed("a")


def test_wanting_twice_asks_once() -> None:
    subscriptions = settled("a")
    subscriptions.want("a")
    assert asked(subscriptions) == []


def test_a_resync_unsubscribes_and_subscribes() -> None:
    subscriptions = settled("a", "b")
    subscriptions.resync("a")
    subscriptions.resync("a")
    subscriptions.resync("stranger")
    assert asked(subscriptions) == [("2", "unsubscribe", ["a"])]
    assert told(subscriptions, ack("2", "unsubscribe")) == []
    assert asked(subscriptions) == [("3", "subscribe", ["a"])]
    assert told(subscriptions, ack("3")) == confirmed("a")
    assert asked(subscriptions) == []


def test_a_topic_that_is_not_yet_subscribed_needs_no_resync() -> None:
    subscriptions = ledger_of("a")
    assert asked(subscriptions) == [("1", "subscribe", ["a"])]
    subscriptions.resync("a")
    told(subscriptions, ack("1"))
    assert asked(subscriptions) == []


# ---- what is answered ----


def test_data_before_the_ack_confirms_its_topic_and_the_ack_the_others() -> None:
    subscriptions = ledger_of("a", "b")
    asked(subscriptions)
    assert [subscriptions.data(topic) for topic in ("a", "a", "stranger")] == [
        Data.CONFIRMING,
        Data.EXPECTED,
        Data.EXPECTED,
    ]
    assert told(subscriptions, ack("1")) == confirmed("b")


def test_a_confirmation_that_nobody_wants_any_more_is_not_told() -> None:
    subscriptions = ledger_of("a", "b")
    asked(subscriptions)
    subscriptions.unwant("a")
    assert told(subscriptions, ack("1")) == confirmed("b")


def test_those_before_the_named_topic_are_asked_for_together_and_those_after_it_in_halves() -> None:
    subscriptions = ledger_of("a", "b", "bad", "c", "d", "e")
    asked(subscriptions)
    words = unknown_topic("bad")
    assert told(subscriptions, refusal("1", words)) == [refused("bad", words)]
    assert sorted(asked(subscriptions)) == [
        ("2", "subscribe", ["a", "b"]),
        ("3", "subscribe", ["c", "d"]),
        ("4", "subscribe", ["e"]),
    ]


@pytest.mark.parametrize(
    "words",
    [
        "error:handler not found,topic:bad",
        "Invalid symbol :[bad]",
        "error:handler not found,topic:good,bad",
    ],
)
def test_the_words_of_every_category_name_the_topic(words: str) -> None:
    subscriptions = ledger_of("x", "bad", "bad2", "ba")
    asked(subscriptions)
    assert [verdict.topic for verdict in told(subscriptions, refusal("1", words))] == ["bad"]


def test_a_refusal_that_names_nobody_is_narrowed_down_to_the_one_to_blame() -> None:
    subscriptions, verdicts, requests = ledger_of(*"abcdefgh"), [], 0
    while due := asked(subscriptions):
        for request_id, _, args in due:
            requests += 1
            text = refusal(request_id, "no") if "f" in args else ack(request_id)
            verdicts += told(subscriptions, text)
    assert sorted(verdicts, key=lambda verdict: verdict.topic) == [
        refused("f", "no") if topic == "f" else Verdict(topic, is_confirmed=True)
        for topic in "abcdefgh"
    ]
    assert requests == 7  # 8, then 4 + 4, 2 + 2, 1 + 1


def test_an_already_subscribed_topic_counts_as_confirmed() -> None:
    subscriptions = ledger_of("a", "b")
    asked(subscriptions)
    assert told(subscriptions, refusal("1", already_subscribed("b"))) == confirmed("b")
    assert asked(subscriptions) == [("2", "subscribe", ["a"])]
    assert told(subscriptions, refusal("2", already_subscribed("a"))) == confirmed("a")
    assert asked(subscriptions) == []


def test_a_single_topic_that_is_already_subscribed_is_confirmed_without_being_named() -> None:
    subscriptions = ledger_of("a")
    asked(subscriptions)
    assert told(subscriptions, refusal("1", "error:already subscribed")) == confirmed("a")
    assert asked(subscriptions) == []


def test_an_unsubscribe_refused_because_there_is_nothing_to_end_ends_the_subscription() -> None:
    subscriptions = settled("a")
    subscriptions.unwant("a")
    asked(subscriptions)
    assert told(subscriptions, refusal("2", "error:not subscribed", "unsubscribe")) == []
    assert (asked(subscriptions), subscriptions.due_at(0)) == ([], None)


def test_spot_refusals_without_an_id_are_matched_by_the_topic_they_name() -> None:
    topics = [f"t{number}" for number in range(12)]
    subscriptions = ledger_of(*topics, category=Category.SPOT)
    assert [args for _, _, args in asked(subscriptions)] == [topics[:10], topics[10:]]
    words = "Invalid symbol :[t11]"
    assert told(subscriptions, refusal(None, words)) == [refused("t11", words)]


def test_a_refusal_without_an_id_and_a_name_is_taken_for_the_oldest_request() -> None:
    subscriptions = ledger_of(*[f"t{number}" for number in range(11)], category=Category.SPOT)
    asked(subscriptions)
    assert told(subscriptions, refusal(None, "args size >10")) == []
    assert [len(args) for _, _, args in asked(subscriptions)] == [5, 5]
    assert told(subscriptions, ack("2")) == confirmed("t10")


def test_option_acks_are_matched_by_their_topics() -> None:
    topics = [f"t{number}" for number in range(201)]
    subscriptions = ledger_of(*topics, category=Category.OPTION)
    asked(subscriptions)
    assert told(subscriptions, command_response(topics[200:])) == confirmed("t200")
    assert told(subscriptions, command_response(topics[:200])) == confirmed(*topics[:200])


def test_an_option_ack_may_refuse_some_of_its_topics() -> None:
    subscriptions = ledger_of("a", "b", category=Category.OPTION)
    asked(subscriptions)
    text = command_response(["a"], ["b"]).replace(b'"success":false', b'"success":true')
    assert told(subscriptions, text) == [*confirmed("a"), refused("b", "refused: b")]
    assert asked(subscriptions) == []


def test_an_option_refusal_names_the_topics_that_failed() -> None:
    subscriptions = ledger_of("a", "b", "c", category=Category.OPTION)
    asked(subscriptions)
    assert told(subscriptions, command_response([], ["b"])) == [
        refused("b", "refused without words")
    ]
    assert sorted(args for _, _, args in asked(subscriptions)) == [["a"], ["c"]]


@pytest.mark.parametrize("text", [ack("99"), refusal("99", unknown_topic("a")), ack("")])
def test_an_answer_to_no_request_decides_nothing(text: bytes) -> None:
    subscriptions = settled("a")
    assert told(subscriptions, text) == []
    assert (subscriptions.confirmed(), asked(subscriptions)) == (1, [])


def test_a_request_is_answered_once() -> None:
    subscriptions = ledger_of("a", "b")
    asked(subscriptions)
    told(subscriptions, ack("1"))
    assert told(subscriptions, refusal("1", unknown_topic("a"))) == []
    assert subscriptions.confirmed() == 2


# ---- refusals that are no verdict ----


BUSY = "Internal Server error"


class Refusing:
    """An exchange that has topics and refuses them for a while."""

    def __init__(self, subscriptions: Subscriptions, words: Callable[[list[str]], str]) -> None:
        """Connect; `words` refuses a batch unless it returns nothing."""
        self.subscriptions = subscriptions
        self.words = words
        self.now = 0.0
        self.subscribed: dict[str, float] = {}
        self.refused: dict[str, float] = {}
        self.put_off: set[str] = set()
        self.sent: list[float] = []

    def run(self, seconds: float) -> None:
        """Let time pass; the exchange answers after 10 ms."""
        end = self.now + seconds
        while self.now < end:
            for request_id, op, args in asked(self.subscriptions, self.now):
                assert op == "subscribe"
                self.sent.append(self.now)
                words = self.words(args)
                text = refusal(request_id, words) if words else ack(request_id)
                for verdict in told(self.subscriptions, text, self.now):
                    if verdict.is_confirmed:
                        self.subscribed[verdict.topic] = self.now
                    elif verdict.is_asked_again:
                        self.put_off.add(verdict.topic)
                    else:
                        self.refused[verdict.topic] = self.now
            self.now += 0.01


def names(count: int) -> list[str]:
    return [f"orderbook.50.T{number}" for number in range(count)]


def naming_the_first(args: list[str]) -> str:
    return unknown_topic(args[0])


def of_the_moment(args: list[str]) -> str:
    return BUSY


@pytest.mark.parametrize("refusal_words", [of_the_moment, naming_the_first])
@pytest.mark.parametrize("outage", [0.0, 1.0, 30.0])
@pytest.mark.parametrize("count", [1, 20, 1_000])
def test_topics_that_were_live_are_back_soon_after_the_exchange_accepts_topics_again(
    count: int, outage: float, refusal_words: Callable[[list[str]], str]
) -> None:
    """Refused once or for a while, with any words: none of them says that they are gone."""
    topics = names(count)
    exchange = Refusing(
        Subscriptions(Category.LINEAR, topics, 0.0, known=set(topics)),
        lambda args: refusal_words(args) if exchange.now <= outage else "",
    )
    exchange.run(outage + timing.REFUSAL_RETRY_CEILING + 1)
    assert set(exchange.subscribed) == set(topics)
    assert (exchange.put_off, exchange.refused) == (set(topics), {})
    assert len([at for at in exchange.sent if at <= outage]) < 20 + outage


@pytest.mark.parametrize(
    "words",
    [
        BUSY,
        "Too many visits!",
        "Request timeout",
        "Service is restarting, please try again later.",
        f"Internal error,topic:{names(1)[0]}",
    ],
)
def test_words_about_the_moment_are_no_verdict_on_a_new_topic(words: str) -> None:
    topics = names(20)
    exchange = Refusing(
        Subscriptions(Category.LINEAR, topics, 0.0), lambda args: words if exchange.now < 1 else ""
    )
    exchange.run(5)
    assert (set(exchange.subscribed), exchange.refused) == (set(topics), {})


@pytest.mark.parametrize("words", [unknown_topic("a.b"), "Invalid symbol :[a.b]", "no", ""])
def test_other_words_are_a_verdict_on_a_new_topic(words: str) -> None:
    subscriptions = ledger_of("a.b")
    asked(subscriptions)
    assert told(subscriptions, refusal("1", words)) == [
        refused("a.b", words or "refused without words")
    ]


@pytest.mark.parametrize("refusal_words", [of_the_moment, naming_the_first])
def test_what_is_refused_for_a_minute_is_given_up(
    refusal_words: Callable[[list[str]], str],
) -> None:
    topics = names(200)
    exchange = Refusing(
        Subscriptions(Category.LINEAR, topics, 0.0, known=set(topics)), refusal_words
    )
    exchange.run(timing.REFUSED_LASTINGLY - 1)
    assert exchange.refused == {}
    exchange.run(2 * timing.REFUSAL_RETRY_CEILING + 2)
    assert set(exchange.refused) == set(topics)
    assert len(exchange.sent) < 60
    assert exchange.subscriptions.due_at(exchange.now) is None


@pytest.mark.parametrize("bad", [0, 7, 150, 199])
@pytest.mark.parametrize("is_named", [True, False])
def test_one_topic_that_is_refused_for_long_does_not_keep_the_others_waiting(
    bad: int, *, is_named: bool
) -> None:
    topics = names(200)
    words = unknown_topic(topics[bad]) if is_named else BUSY
    exchange = Refusing(
        Subscriptions(Category.LINEAR, topics, 0.0, known=set(topics)),
        lambda args: words if topics[bad] in args else "",
    )
    exchange.run(10)
    assert set(exchange.subscribed) == {*topics} - {topics[bad]}
    exchange.subscriptions.want("orderbook.50.NEW")
    exchange.run(0.1)
    assert "orderbook.50.NEW" in exchange.subscribed
    assert exchange.refused == {}
    exchange.run(timing.REFUSED_LASTINGLY + timing.REFUSAL_RETRY_CEILING - 10)
    assert set(exchange.refused) == {topics[bad]}


def test_a_probe_for_no_topic_of_the_exchange_says_nothing_of_the_others() -> None:
    subscriptions = ledger_of("a", "b", "c")
    assert asked(subscriptions) == [("1", "subscribe", ["a", "b", "c"])]
    told(subscriptions, refusal("1", "system busy"))
    assert asked(subscriptions) == []
    due = subscriptions.due_at(0.0)
    assert due is not None
    [(request_id, _, [probe])] = asked(subscriptions, due)
    words = unknown_topic(probe)
    assert told(subscriptions, refusal(request_id, words), due) == [refused(probe, words)]
    [(request_id, _, [other])] = asked(subscriptions, due)  # without another pause
    assert told(subscriptions, ack(request_id), due) == confirmed(other)
    [(_, _, last)] = asked(subscriptions, due)
    assert {probe, other, *last} == {"a", "b", "c"}


def test_a_topic_refused_on_its_way_back_from_a_resync_is_asked_for_again() -> None:
    subscriptions = settled("a", "b")
    subscriptions.resync("a")
    asked(subscriptions)
    told(subscriptions, ack("2", "unsubscribe"))
    assert asked(subscriptions) == [("3", "subscribe", ["a"])]
    words = unknown_topic("a")
    assert told(subscriptions, refusal("3", words)) == [refused("a", words, is_asked_again=True)]
    assert subscriptions.due_at(0) == timing.REFUSAL_FIRST_RETRY
    assert asked(subscriptions, timing.REFUSAL_FIRST_RETRY) == [("4", "subscribe", ["a"])]
    assert told(subscriptions, ack("4")) == confirmed("a")


def test_the_name_that_a_client_invented_is_not_read_as_a_reason() -> None:
    text = "orderbook.50.RETRY-LATER"
    for words in (f"what is {text}", f"Invalid symbol :[{text}]", unknown_topic(text)):
        subscriptions = ledger_of(text)
        asked(subscriptions)
        assert told(subscriptions, refusal("1", words)) == [refused(text, words)]
    assert not says_no_such_topic("no good: orderbook.50.INVALIDSYMBOL")


def test_a_refusal_of_what_was_confirmed_by_data_is_told() -> None:
    """Whatever that data was, nothing follows it."""
    subscriptions = ledger_of("a", "b")
    asked(subscriptions)
    assert subscriptions.data("a") is Data.CONFIRMING
    assert told(subscriptions, refusal("1", BUSY)) == [
        refused(topic, BUSY, is_asked_again=True) for topic in "ab"
    ]
    assert asked(subscriptions, timing.REFUSAL_FIRST_RETRY) == [("2", "subscribe", ["a"])]


def test_a_refused_unsubscribe_is_tried_again_each_topic_alone() -> None:
    subscriptions = settled("a", "b", "c")
    subscriptions.unwant("a")
    subscriptions.resync("b")
    assert asked(subscriptions) == [("2", "unsubscribe", ["a", "b"])]
    assert told(subscriptions, refusal("2", BUSY, "unsubscribe")) == []
    assert asked(subscriptions, timing.REFUSAL_FIRST_RETRY / 2) == []
    assert subscriptions.data("b") is Data.OUTDATED
    assert sorted(asked(subscriptions, timing.REFUSAL_FIRST_RETRY)) == [
        ("3", "unsubscribe", ["a"]),
        ("4", "unsubscribe", ["b"]),
    ]
    told(subscriptions, refusal("3", "error:not subscribed,topic:a", "unsubscribe"))
    told(subscriptions, ack("4", "unsubscribe"))
    assert asked(subscriptions, timing.REFUSAL_FIRST_RETRY) == [("5", "subscribe", ["b"])]
    assert "a" not in subscriptions


def test_an_unsubscribe_that_is_refused_again_and_again_is_at_last_taken_for_done() -> None:
    subscriptions = settled("a")
    subscriptions.unwant("a")
    sent: list[str] = []
    now: float | None = 0.0
    while now is not None:
        for request_id, op, args in asked(subscriptions, now):
            assert (op, args) == ("unsubscribe", ["a"])
            sent.append(request_id)
            assert len(sent) <= MAX_TRIES
            assert told(subscriptions, refusal(request_id, BUSY, op), now) == []
        now = subscriptions.due_at(now)
    assert len(sent) == MAX_TRIES
    assert "a" not in subscriptions


def test_what_was_known_is_asked_for_first_and_not_together_with_the_unknown() -> None:
    subscriptions = Subscriptions(
        Category.LINEAR, ["new", "a", "newer", "b"], 0.0, known={"a", "b"}
    )
    assert [args for _, _, args in asked(subscriptions)] == [["a", "b"], ["new", "newer"]]


@pytest.mark.parametrize("position", [0, 475, 950])
def test_a_good_topic_among_many_invented_ones_is_up_in_a_few_seconds(position: int) -> None:
    """Measured: with a burst of 50 requests it waited up to 31 s."""
    topics = names(951)
    good = topics[position]
    exchange = Refusing(
        ledger_of(*topics),
        lambda args: next((unknown_topic(topic) for topic in args if topic != good), ""),
    )
    exchange.run(3)
    assert good in exchange.subscribed
    exchange.run(60)
    assert len(exchange.refused) == 950
    assert len(exchange.sent) < 1_000


# ---- lost answers, and limits ----


def test_a_request_without_an_ack_is_written_off_and_asked_again() -> None:
    subscriptions = ledger_of("a")
    asked(subscriptions)
    assert subscriptions.due_at(1) == timing.ACK_PATIENCE
    assert asked(subscriptions, timing.ACK_PATIENCE - 0.1) == []
    assert asked(subscriptions, timing.ACK_PATIENCE) == [("2", "subscribe", ["a"])]
    assert told(subscriptions, ack("1")) == []
    assert told(subscriptions, ack("2")) == confirmed("a")


@given(st.floats(0, 1e6))
def test_a_request_is_written_off_at_the_very_moment_that_was_told(sent_at: float) -> None:
    subscriptions = ledger_of("a")
    assert asked(subscriptions, sent_at) == [("1", "subscribe", ["a"])]
    due_at = subscriptions.due_at(sent_at)
    assert due_at is not None
    assert asked(subscriptions, due_at) == [("2", "subscribe", ["a"])]


def test_an_unsubscribe_without_an_ack_is_repeated_and_at_last_taken_for_done() -> None:
    subscriptions = settled("a")
    subscriptions.unwant("a")
    sent = [asked(subscriptions, tries * timing.ACK_PATIENCE) for tries in range(MAX_TRIES)]
    assert sent == [[(str(2 + tries), "unsubscribe", ["a"])] for tries in range(MAX_TRIES)]
    assert asked(subscriptions, MAX_TRIES * timing.ACK_PATIENCE) == []
    assert subscriptions.due_at(MAX_TRIES * timing.ACK_PATIENCE) is None
    assert "a" not in subscriptions


def test_a_topic_whose_unsubscribe_was_lost_may_be_wanted_again() -> None:
    subscriptions = settled("a")
    subscriptions.unwant("a")
    asked(subscriptions)
    subscriptions.want("a")
    assert asked(subscriptions, timing.ACK_PATIENCE) == [("3", "subscribe", ["a"])]


def test_a_topic_unwanted_while_its_ack_is_lost_is_unsubscribed_all_the_same() -> None:
    subscriptions = ledger_of("a")
    asked(subscriptions)
    subscriptions.unwant("a")
    assert asked(subscriptions, timing.ACK_PATIENCE) == [("2", "unsubscribe", ["a"])]
    told(subscriptions, ack("2", "unsubscribe"))
    assert subscriptions.due_at(timing.ACK_PATIENCE) is None


def test_an_exchange_that_never_acknowledges_is_not_asked_for_ever() -> None:
    subscriptions = ledger_of("a")
    assert sum(len(asked(subscriptions, step * timing.ACK_PATIENCE)) for step in range(50)) == 5
    assert subscriptions.confirmed() == 1


def test_no_more_requests_are_in_flight_than_may_be() -> None:
    topics = [f"t{number}" for number in range(500)]
    subscriptions = ledger_of(*topics, category=Category.SPOT)
    assert len(asked(subscriptions)) == REQUESTS_IN_FLIGHT
    told(subscriptions, ack("3"))
    assert [request_id for request_id, _, _ in asked(subscriptions)] == ["21"]


def test_topics_keep_their_turn_while_the_rate_is_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_BURST", 50.0)
    subscriptions, sent, number = ledger_of(), [], 0
    for step in range(300):  # one new topic each 10 ms; requests may go out each 40 ms
        now = step / 100
        if step < 200:
            subscriptions.want(f"t{step:03}")
        for request_id, _, args in asked(subscriptions, now):
            number += 1
            sent += args
            told(subscriptions, ack(request_id))
    assert sent == [f"t{step:03}" for step in range(200)]
    assert number < 50 + 3 * REQUESTS_PER_SECOND


def test_the_ledger_says_when_the_rate_allows_more() -> None:
    subscriptions = ledger_of()
    for step in range(int(REQUEST_BURST)):
        subscriptions.want(f"t{step}")
        [(request_id, _, _)] = asked(subscriptions)
        told(subscriptions, ack(request_id))
    subscriptions.want("late")
    assert asked(subscriptions) == []
    due_at = subscriptions.due_at(0.0)
    assert due_at == pytest.approx(1 / REQUESTS_PER_SECOND)
    assert [args for _, _, args in asked(subscriptions, due_at)] == [["late"]]


# ---- against a model of the exchange ----


class Exchange:
    """Bybit's side of one connection, as far as the reference describes it.

    Frames wait in `wire` in the order they were sent; an ack may be lost there.
    """

    def __init__(self, category: Category, bad: Sequence[str]) -> None:
        self.category = category
        self.bad = bad
        self.subscribed: set[str] = set()
        self.wire: deque[tuple[str, Any]] = deque()
        self.losses = 0
        self.sent_at: list[float] = []

    def request(self, text: bytes, now: float) -> None:
        body = json.loads(text)
        args, request_id = body["args"], body["req_id"]
        self.sent_at.append(now)
        assert args, "an empty request"
        assert len(set(args)) == len(args), "a topic twice in a request"
        assert len(args) <= ARGS_PER_REQUEST[self.category]
        if body["op"] == "unsubscribe":
            assert self.losses or set(args) <= self.subscribed, "left what it had not joined"
            self.subscribed -= set(args)
            self._answer(request_id, "unsubscribe", args, "")
            return
        words = ""
        for topic in args:
            if topic in self.bad:
                words = words or unknown_topic(topic)
            elif topic in self.subscribed:
                words = words or already_subscribed(topic)
        if self.category is Category.SPOT:
            words = words.replace("error:handler not found,topic:", "Invalid symbol :")
        if not words:
            self.subscribed |= set(args)
        self._answer(request_id, "subscribe", args, words)

    def _answer(self, request_id: str, op: str, args: list[str], words: str) -> None:
        if self.category is Category.OPTION:
            # The topic to blame is in the words of no option ack: the model names the first.
            failed = [topic for topic in args if words.endswith(f":{topic}")]
            text = command_response([] if words else args, failed)
            if "already" in words:  # a name for the fault, which the reference leaves open
                text = text[:-1] + json.dumps({"ret_msg": words}).encode().replace(b"{", b",")
        elif words:
            text = refusal(request_id, words, op)
        else:
            text = ack(request_id, op)
        self.wire.append(("reply", text))

    def push(self, topic: str) -> None:
        if topic in self.subscribed:
            self.wire.append(("data", topic))


class Conversation:
    """A subscriptions, its exchange, and a worker that stops wanting what was refused."""

    def __init__(self, category: Category, good: Sequence[str], bad: Sequence[str]) -> None:
        self.exchange = Exchange(category, bad)
        self.subscriptions = Subscriptions(category, [], 0.0)
        self.good, self.bad = good, bad
        self.wanted: set[str] = set()
        self.refusals: Counter[str] = Counter()
        self.now = 0.0

    def want(self, topic: str) -> None:
        if not self.refusals[topic]:  # a worker remembers what was refused
            self.wanted.add(topic)
            self.subscriptions.want(topic)

    def unwant(self, topic: str) -> None:
        self.wanted.discard(topic)
        self.subscriptions.unwant(topic)

    def send(self) -> None:
        for text in self.subscriptions.requests(self.now):
            self.exchange.request(text, self.now)

    def deliver(self) -> None:
        if not self.exchange.wire:
            return
        kind, content = self.exchange.wire.popleft()
        if kind == "data":
            self.subscriptions.data(content)
            return
        for verdict in self.subscriptions.reply(frame(content), self.now, 0.0):
            if verdict.is_confirmed:
                assert verdict.topic in self.wanted, "told of what nobody wants"
            else:
                self.refusals[verdict.topic] += 1
                self.unwant(verdict.topic)

    def lose(self) -> None:
        """Lose the next ack on the wire; what came before it arrives."""
        wire = self.exchange.wire
        if self.exchange.losses >= 4 or not any(kind == "reply" for kind, _ in wire):
            return  # five losses of one request count as success
        while wire[0][0] != "reply":
            self.deliver()
        wire.popleft()
        self.exchange.losses += 1

    def settle(self) -> None:
        for _ in range(2_000):
            self.send()
            while self.exchange.wire:
                self.deliver()
            due_at = self.subscriptions.due_at(self.now)
            if due_at is None:
                return
            self.now = max(self.now, due_at)
        raise AssertionError("the subscriptions never settles")


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["want"] * 4
            + ["unwant"] * 2
            + ["resync", "data", "send", "send"]
            + ["deliver"] * 3
            + ["lose", "wait", "everything"]
        ),
        st.integers(0, 39),
    ),
    max_size=80,
)


@settings(max_examples=300)
@given(
    category=st.sampled_from(Category),
    steps=STEPS,
    bad=st.sets(st.integers(0, 39), max_size=15),
)
def test_after_any_history_exactly_the_wanted_good_topics_are_subscribed(
    category: Category, steps: list[tuple[str, int]], bad: set[int]
) -> None:
    topics = [f"orderbook.50.T{number}" for number in range(40)]
    conversation = Conversation(
        category,
        [topics[number] for number in range(40) if number not in bad],
        [topics[number] for number in sorted(bad)],
    )
    exchange, subscriptions = conversation.exchange, conversation.subscriptions
    for step, number in steps:
        match step:
            case "want":
                conversation.want(topics[number])
            case "everything":
                for topic in topics[number:]:
                    conversation.want(topic)
            case "unwant":
                conversation.unwant(topics[number])
            case "resync":
                subscriptions.resync(topics[number])
            case "data":
                exchange.push(topics[number])
            case "send":
                conversation.send()
            case "deliver":
                conversation.deliver()
            case "lose":
                conversation.lose()
            case "wait":
                while exchange.wire:  # nothing is under way for as long as a request is waited for
                    conversation.deliver()
                conversation.now += number / 10
    conversation.settle()

    assert exchange.subscribed == conversation.wanted
    assert not conversation.wanted & set(conversation.bad)
    assert subscriptions.confirmed() == len(conversation.wanted)
    assert not set(conversation.refusals) - set(conversation.bad)
    assert set(conversation.refusals.values()) <= {1}
    sent_at = exchange.sent_at
    for first in range(len(sent_at)):
        for last in range(first, len(sent_at)):
            most = REQUEST_BURST + REQUESTS_PER_SECOND * (sent_at[last] - sent_at[first])
            assert last - first + 1 <= most + 1e-6


@pytest.mark.parametrize("category", Category)
def test_every_bad_topic_of_many_is_refused_once_and_the_good_ones_are_soon_subscribed(
    category: Category,
) -> None:
    topics = [f"orderbook.50.T{number}" for number in range(400)]
    bad = topics[::20]
    conversation = Conversation(category, [t for t in topics if t not in bad], bad)
    for topic in topics:
        conversation.want(topic)
    conversation.settle()
    assert conversation.exchange.subscribed == set(topics) - set(bad)
    assert conversation.refusals == Counter(bad)
    assert len(conversation.exchange.sent_at) <= 150
    assert conversation.now < 5
