"""relay/seam/demand.py: demand that heals itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.lib import timing
from relay.seam.demand import DemandLeases

LINGER = 10.0


def wanted(interest: DemandLeases) -> set[str]:
    return {topic for topic in "abc" if topic in interest}


def test_a_topic_lingers_after_its_last_process_dropped_it() -> None:
    interest = DemandLeases()
    interest.add("p", ["a"], 0)
    interest.drop("p", ["a"], 3)
    assert (interest.holders("a"), "a" in interest) == (0, True)
    assert interest.expire(12.9, LINGER) == []
    assert interest.expire(13.0, LINGER) == ["a"]
    assert (len(interest), interest.expire(14, LINGER)) == (0, [])


def test_the_longest_lingering_topic_is_the_first_to_be_let_go() -> None:
    interest = DemandLeases()
    interest.add("p", ["a", "b", "c"], 0)
    interest.drop("p", ["b"], 1)
    interest.drop("p", ["a", "c"], 2)
    interest.add("q", ["b"], 3)
    interest.drop("q", ["b"], 4)
    seen = []
    while (found := interest.longest_lingering()) is not None:
        seen.append(found)
        interest.let_go(found[1])
    assert seen == [(2, "a"), (2, "c"), (4, "b")]
    assert (len(interest), interest.expire(1e9, LINGER)) == (0, [])


def test_what_is_wanted_is_not_let_go() -> None:
    interest = DemandLeases()
    interest.add("p", ["a"], 0)
    interest.let_go("a")
    assert (interest.longest_lingering(), interest.holders("a"), "a" in interest) == (None, 1, True)


def test_without_linger_a_dropped_topic_goes_at_once() -> None:
    interest = DemandLeases()
    interest.add("p", ["a"], 0)
    assert interest.expire(0, 0.0) == []
    interest.drop("p", ["a"], 3)
    assert interest.expire(3, 0.0) == ["a"]


def test_who_comes_back_within_the_linger_costs_nothing() -> None:
    interest = DemandLeases()
    interest.add("p", ["a"], 0)
    interest.drop("p", ["a"], 1)
    interest.add("q", ["a"], 10)
    assert interest.expire(12, LINGER) == []
    interest.drop("q", ["a"], 13)
    assert interest.expire(22.9, LINGER) == []
    assert interest.expire(23, LINGER) == ["a"]


def test_a_lease_does_not_run_out_while_nobody_could_be_heard() -> None:
    interest = DemandLeases()
    interest.add("p", ["a"], 0)
    interest.add("q", ["b"], 0)
    interest.extend_leases(timing.DEMAND_LEASE)
    interest.renew("q", ["b"], timing.DEMAND_LEASE + 1)
    assert interest.expire(2 * timing.DEMAND_LEASE, 0.0) == []
    assert interest.expire(2 * timing.DEMAND_LEASE + 0.1, 0.0) == ["a"]


def test_a_topic_of_two_processes_stays_until_both_have_gone() -> None:
    interest = DemandLeases()
    interest.add("p", ["a"], 0)
    interest.add("q", ["a"], 0)
    assert interest.holders("a") == 2
    interest.drop("p", ["a"], 1)
    interest.drop("p", ["a"], 1)
    assert interest.holders("a") == 1
    interest.renew("q", ["a"], 5)
    assert interest.expire(11, 0.0) == []
    interest.drop("q", ["a"], 11)
    assert interest.expire(11, 0.0) == ["a"]


def test_a_silent_process_is_forgotten_after_its_lease_and_its_topics_after_the_linger() -> None:
    interest = DemandLeases()
    interest.renew("p", ["a"], 100)
    assert interest.expire(100 + timing.DEMAND_LEASE, 0.0) == []
    assert interest.holders("a") == 1
    assert interest.expire(100 + timing.DEMAND_LEASE + 0.1, LINGER) == []
    assert interest.holders("a") == 0
    assert interest.expire(100 + LINGER, LINGER) == ["a"]


def test_three_lost_renewals_are_survived() -> None:
    assert timing.DEMAND_LEASE >= 3 * timing.DEMAND_RENEWAL
    interest = DemandLeases()
    interest.renew("p", ["a"], 0)
    assert interest.expire(3 * timing.DEMAND_RENEWAL, 0.0) == []


def test_a_renewal_takes_back_what_it_leaves_out() -> None:
    interest = DemandLeases()
    interest.add("p", ["a", "b"], 0)
    interest.renew("p", ["b", "c"], 1)
    assert [interest.holders(topic) for topic in "abc"] == [0, 1, 1]
    assert interest.expire(1, 0.0) == ["a"]


def test_what_a_process_does_not_want_it_cannot_drop() -> None:
    interest = DemandLeases()
    interest.add("p", ["a"], 0)
    interest.drop("stranger", ["a"], 1)
    interest.drop("p", ["b"], 1)
    assert interest.expire(2, 0.0) == []
    assert (interest.holders("a"), wanted(interest)) == (1, {"a"})


@pytest.mark.parametrize("times", [1, 5])
def test_saying_it_twice_does_not_count_twice(times: int) -> None:
    interest = DemandLeases()
    for _ in range(times):
        interest.add("p", ["a", "a"], 0)
    interest.drop("p", ["a"], 0)
    assert interest.holders("a") == 0


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "renew", "drop", "expire", "die"]),
        st.sampled_from("pqr"),
        st.sets(st.sampled_from("abc")),
        st.floats(0, 4),
    ),
    max_size=40,
)


@given(STEPS, st.sampled_from([0.0, 1.0, LINGER]))
def test_after_any_history_demand_is_what_was_last_said_and_ends_in_time(
    steps: list[tuple[str, str, set[str], float]], linger: float
) -> None:
    """Against a table of who said what, and when."""
    interest, now = DemandLeases(), 0.0
    said: dict[str, tuple[float, set[str]]] = {}
    gone: list[str] = []
    for step, process, topics, pause in steps:
        now += pause
        heard, wants = said.get(process, (now, set()))
        match step:
            case "add":
                interest.add(process, topics, now)
                said[process] = (now, wants | topics)
            case "renew":
                interest.renew(process, topics, now)
                said[process] = (now, topics)
            case "drop":
                interest.drop(process, topics, now)
                said[process] = (heard, wants - topics)
            case "expire":
                gone = interest.expire(now, linger)
                said = {
                    p: (at, w) for p, (at, w) in said.items() if now - at <= timing.DEMAND_LEASE
                }
                assert not {topic for _, w in said.values() for topic in w} & set(gone)
        for topic in "abc":
            assert interest.holders(topic) == sum(topic in w for _, w in said.values())
            if interest.holders(topic):
                assert topic in interest
    interest.expire(now + timing.DEMAND_LEASE + 0.001, linger)
    interest.expire(now + timing.DEMAND_LEASE + linger + 0.001, linger)
    assert (len(interest), [interest.holders(topic) for topic in "abc"]) == (0, [0, 0, 0])
