"""relay/lib/pacing.py: delays that grow with jitter, and rates that hold however time falls."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.lib.pacing import Backoff, Buckets, Seldom, TokenBucket

FRACTIONS = st.floats(0, 1, exclude_max=True)
PAUSES = st.lists(st.floats(0, 5), min_size=1, max_size=60)


# ---- tries ----


def test_without_jitter_delays_double_up_to_the_ceiling() -> None:
    backoff = Backoff(2.0, 30.0)
    assert [backoff.next(0.0) for _ in range(7)] == [2, 4, 8, 16, 30, 30, 30]


def test_jitter_takes_up_to_a_third_off_but_never_below_the_first() -> None:
    backoff = Backoff(2.0, 30.0)
    assert [backoff.next(0.75) for _ in range(6)] == [2, 3, 6, 12, 22.5, 22.5]


def test_a_success_starts_over() -> None:
    backoff = Backoff(2.0, 30.0)
    delays = [backoff.next(0.0), backoff.next(0.0)]
    backoff.reset()
    assert [*delays, backoff.next(0.9)] == [2, 4, 2]


@given(st.lists(FRACTIONS, min_size=1, max_size=100))
def test_every_delay_is_between_the_first_and_the_ceiling(fractions: list[float]) -> None:
    backoff = Backoff(2.0, 30.0)
    delays = [backoff.next(fraction) for fraction in fractions]
    assert delays[0] == 2.0
    assert all(2.0 <= delay <= 30.0 for delay in delays)
    assert all(delay >= 20.0 for delay in delays[4:])


def test_ten_thousand_failures_do_not_overflow() -> None:
    backoff = Backoff(1.0, 60.0)
    for _ in range(10_000):
        last = backoff.next(0.0)
    assert last == pytest.approx(60.0)


# ---- rates ----


def test_a_burst_is_allowed_at_once_and_then_the_rate() -> None:
    bucket = TokenBucket(rate=2, burst=3, now=100)
    assert [bucket.take(100) for _ in range(4)] == [True, True, True, False]
    assert bucket.available_at(100) == 100.5
    assert [bucket.take(time) for time in (100.4, 100.5, 100.5)] == [False, True, False]


def test_a_long_rest_earns_one_burst_and_no_more() -> None:
    bucket = TokenBucket(rate=2, burst=3, now=0)
    assert [bucket.take(1_000_000) for _ in range(4)] == [True, True, True, False]


def test_a_dear_event_is_owed_for_up_to_one_burst() -> None:
    bucket = TokenBucket(rate=2, burst=4, now=0)
    assert bucket.take(0, price=3)
    assert bucket.take(0, price=3)
    assert bucket.available_at(0) == 1.5
    assert bucket.take(1.5, price=1_000)
    assert bucket.available_at(1.5) == 3.5


def test_an_event_that_is_given_back_can_be_used_again() -> None:
    bucket = TokenBucket(rate=1, burst=1, now=0)
    for _ in range(5):
        assert bucket.take(0)
        bucket.give_back()
    bucket.give_back()
    assert [bucket.take(0), bucket.take(0)] == [True, False]


def test_asking_when_does_not_use_anything_up() -> None:
    bucket = TokenBucket(rate=1, burst=1, now=0)
    assert [bucket.available_at(0) for _ in range(5)] == [0] * 5
    assert bucket.take(0)


@given(PAUSES)
def test_no_history_gets_more_out_of_a_bucket_than_rate_and_burst(pauses: list[float]) -> None:
    bucket, now, taken = TokenBucket(rate=3, burst=5, now=0), 0.0, []
    for pause in pauses:
        now += pause
        while bucket.take(now):
            taken.append(now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= 5 + 3 * (taken[last] - taken[first]) + 1e-6


@given(PAUSES, st.floats(0.1, 1_000))
def test_who_waits_until_it_is_available_gets_it(pauses: list[float], rate: float) -> None:
    bucket, now = TokenBucket(rate, burst=1, now=0), 0.0
    for pause in pauses:
        now = bucket.available_at(now + pause)
        while not bucket.take(now):  # a rounding may be left
            later = bucket.available_at(now)
            assert 0 < later - now < 1e-9
            now = later


def test_each_key_has_a_bucket_of_its_own() -> None:
    buckets = Buckets(rate=2, burst=2, keys=10)
    assert [buckets.take("a", 1, 0) for _ in range(3)] == [0, 0, 0.5]
    assert buckets.take("b", 1, 0) == 0
    assert buckets.take("a", 1, 0.5) == 0


def test_what_has_no_key_has_no_limit() -> None:
    buckets = Buckets(rate=1, burst=1, keys=1)
    assert [buckets.take(None, 1, 0) for _ in range(5)] == [0] * 5
    assert len(buckets) == 0


def test_the_key_longest_unused_is_forgotten_above_the_bound() -> None:
    buckets = Buckets(rate=1, burst=1, keys=2)
    assert buckets.take("old", 1, 0) == 0
    assert buckets.take("used", 1, 0) == 0
    assert buckets.take("old", 1, 0) == 1  # in use again
    for number in range(1_000):
        assert buckets.take("old", 1, 0) == 1
        buckets.take(f"new {number}", 1, 0)
        assert len(buckets) == 2


def test_an_event_is_allowed_once_in_a_time() -> None:
    seldom = Seldom(seconds=60, keys=10)
    assert [seldom.take("a", now) for now in (0, 0, 59.9, 60, 61)] == [
        True,
        False,
        False,
        True,
        False,
    ]
    assert seldom.take("b", 61)


def test_no_more_events_are_allowed_in_a_time_than_there_may_be_keys() -> None:
    seldom = Seldom(seconds=60, keys=3)
    assert sum(seldom.take(f"{n}", now=0) for n in range(1_000)) == 3
    assert sum(seldom.take(f"{n}", now=30) for n in range(1_000)) == 0
    assert sum(seldom.take(f"{n}", now=60) for n in range(1_000)) == 3
