"""relay/telemetry/events.py: what operators are told, in a bounded list."""

from __future__ import annotations

from relay.telemetry.events import KEPT, STORM, EventLog, SharedLog


class Clock:
    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


def words(log: EventLog, number: int = 0) -> list[str]:
    return [event["words"] for event in log.since(number)]


def test_events_are_told_once_to_who_knows_the_last_number() -> None:
    log = EventLog(Clock())
    log.record("gap", "expected u 8, received 11", category="linear", topic="tickers.A")
    [event] = log.since(0)
    assert event == {
        "number": 1,
        "at": 1_000_000,
        "kind": "gap",
        "category": "linear",
        "topic": "tickers.A",
        "words": "expected u 8, received 11",
    }
    assert log.since(1) == []


def test_a_storm_of_one_kind_is_cut_short_and_counted() -> None:
    clock = Clock()
    log = EventLog(clock)
    for number in range(STORM + 7):
        log.record("gap", f"gap {number}")
    log.record("leader", "w leads")
    assert words(log) == [*(f"gap {number}" for number in range(STORM)), "w leads"]
    clock.ms += 1_000
    assert words(log, STORM + 1) == ["and 7 more within a second"]
    log.record("gap", "again")
    assert words(log, STORM + 2) == ["again"]


def test_the_list_is_bounded() -> None:
    clock = Clock()
    log = EventLog(clock)
    for number in range(KEPT + 10):
        clock.ms += 1_000
        log.record("gap", f"gap {number}")
    assert len(log.since(0)) == KEPT
    assert words(log)[-1] == f"gap {KEPT + 9}"


def test_long_words_are_cut() -> None:
    log = EventLog(Clock())
    log.record("refused", "x" * 5_000)
    assert len(words(log)[0]) == 200


def test_the_shared_log_has_each_event_once_newest_first_however_often_it_is_told() -> None:
    clock = Clock()
    one, two, shared = EventLog(clock), EventLog(clock), SharedLog()
    one.record("leader", "first")
    clock.ms += 1_000
    two.record("leader", "second")
    shared.take(two.origin, "two", two.since(0))
    shared.take(one.origin, "one", one.since(0))  # told late
    shared.take(one.origin, "one again", one.since(0))
    assert [(e["words"], e["process"]) for e in shared.newest_first()] == [
        ("second", "two"),
        ("first", "one"),
    ]


def test_the_shared_log_is_bounded() -> None:
    shared = SharedLog()
    for number in range(3):
        clock = Clock()
        log = EventLog(clock)
        for _ in range(KEPT):
            clock.ms += 1_000 + number
            log.record("gap", "g")
        shared.take(log.origin, "p", log.since(0))
    assert len(shared.newest_first()) == KEPT
