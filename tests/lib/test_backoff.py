"""relay/lib/backoff.py: 2 s, then growing with jitter to 30 s."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.lib.backoff import Backoff

FRACTIONS = st.floats(0, 1, exclude_max=True)


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
