"""The live picture as reports make it: states, ages and the last minutes of the totals."""

from __future__ import annotations

from typing import Any

import pytest

from relay.bybit.topics import Category
from relay.lib import timing
from relay.ops.last_reports import LastReport
from relay.ops.overview import MOST_MISSING, Known, Overview
from relay.ops.topic_table import COLUMNS, Page, read_page
from relay.seam.envelopes import UpstreamState
from relay.telemetry.reports import HubRows, StreamRow, TopicRow, pack


def hub(at: float, *rows: TopicRow) -> Any:
    """What a web process reports."""
    return {
        "process": "p1",
        "name": "web-1",
        "started_at": 0,
        "at": at,
        "clients": 1,
        "subscriptions": len(rows),
        "topics": len(rows),
        "lagging": 0,
        "unsent": 0,
        "totals": {"messages": 0, "deliveries": 0, "bytes": 0},
        "redis_delay_ms": None,
        "packed": pack(HubRows(list(rows), [])),
        "origin": "o1",
        "events": [],
    }


def worker(at: float, messages: int) -> Any:
    """What a worker that leads linear reports."""
    part = {"role": "leader", "epoch": 1, "state": "live", "since": 0, "connections": []}
    counts = {"topics": 1, "wanted": 1, "confirmed": 1, "messages": messages}
    rows: list[StreamRow] = []
    return {
        "process": "w1",
        "name": "up-1",
        "at": at,
        "categories": {"linear": part | counts},
        "packed": pack(rows),
        "origin": "o2",
        "events": [],
    }


def topic(name: str, state: str = "live", age_ms: int | None = None) -> TopicRow:
    return TopicRow("linear", name, state, 1, 1, 0, 0, age_ms, False)


def test_readers_of_live_topics_are_summed_over_the_processes_in_which_they_are_live() -> None:
    picture = Overview()
    picture.take(hub(0.0, topic("a"), topic("b"), topic("c", "stale")), 100.0)
    picture.take(hub(0.0, topic("b"), topic("a", "waiting")) | {"process": "p2"}, 100.0)
    assert picture.live_readers(100.0) == {("linear", "a"): 1, ("linear", "b"): 2}
    assert picture.live_readers(100.0 + 2 * timing.REPORT_LEASE) == {}


def test_states_are_counted_over_all_topics() -> None:
    picture = Overview()
    picture.take(hub(0.0, topic("a"), topic("b"), topic("c", "stale")), 100.0)
    assert picture.show({}, None, 100.0)["states"] == {"live": 2, "stale": 1}


@pytest.mark.parametrize(("passed", "age"), [(0.0, 40), (0.9, 40), (3.0, 2040)])
def test_a_topic_is_as_old_as_its_last_report_says_until_the_next_one_is_late(
    passed: float, age: int
) -> None:
    picture = Overview()
    picture.take(hub(0.0, topic("a", age_ms=40)), 100.0)
    assert picture.show({}, None, 100.0 + passed)["topics"][0]["age_ms"] == age


def test_the_history_has_the_rate_of_every_category_each_second() -> None:
    picture = Overview()
    picture.beat(99.0)
    picture.take_worker(worker(0.0, 10), 100.0)
    picture.beat(100.0)
    picture.take_worker(worker(2.0, 50), 102.0)
    picture.beat(102.0)
    history = picture.history()
    assert history["upstream.linear"] == [0.0, 0.0, 20.0]
    assert history["upstream.spot"] == [0.0, 0.0, 0.0]
    assert history["messages_per_second"] == [0.0, 0.0, 20.0]


def test_a_page_is_searched_filtered_ordered_and_cut() -> None:
    picture = Overview()
    rows = [
        topic("tickers.A", age_ms=5),
        topic("tickers.B", "stale"),
        topic("orderbook.50.A", age_ms=9),
    ]
    picture.take(hub(0.0, *rows), 100.0)

    def names(**asked: Any) -> list[str]:
        return [row["topic"] for row in picture.show({}, Page(**asked), 100.0)["topics"]]

    assert names(sort="topic", descending=False) == ["orderbook.50.A", "tickers.A", "tickers.B"]
    assert names(sort="topic") == ["tickers.B", "tickers.A", "orderbook.50.A"]
    # Without a value last, whichever way.
    assert names(sort="age_ms") == ["orderbook.50.A", "tickers.A", "tickers.B"]
    assert names(sort="age_ms", descending=False) == ["tickers.A", "orderbook.50.A", "tickers.B"]
    assert names(search="linear A") == ["orderbook.50.A", "tickers.A", "tickers.B"]
    assert names(search="tickers.a") == ["tickers.A"]
    assert names(state="stale") == ["tickers.B"]
    assert names(category="spot") == []
    assert names(offset=1, limit=1) == ["tickers.A"]
    assert picture.show({}, Page(search="tickers", limit=1), 100.0)["topics_matched"] == 2


@pytest.mark.parametrize("sort", COLUMNS)
def test_every_column_can_be_ordered_by(sort: str) -> None:
    picture = Overview()
    picture.take(hub(0.0, topic("a"), topic("b", age_ms=1)), 100.0)
    assert len(picture.show({}, read_page({"sort": sort}), 100.0)["topics"]) == 2


def test_a_page_is_read_from_json_and_from_an_address() -> None:
    page = Page(search="x", descending=False, offset=3)
    assert read_page({"search": "x", "descending": False, "offset": 3}) == page
    assert read_page({"search": "x", "descending": "false", "offset": "3", "more": ""}) == page
    for wrong in ({"limit": "201"}, {"sort": "password"}, {"offset": "-1"}, {"search": "x" * 101}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            read_page(wrong)


def test_a_silent_process_is_forgotten_with_its_lease_and_named() -> None:
    picture = Overview()
    picture.take(hub(0.0, topic("a")), 100.0)
    assert picture.beat(100.0 + timing.REPORT_LEASE) == []
    assert picture.show({}, None, 100.1 + timing.REPORT_LEASE)["totals"]["clients"] == 0
    assert picture.beat(100.1 + timing.REPORT_LEASE) == ["web-1"]
    assert picture.beat(100.2 + timing.REPORT_LEASE) == []


def known(worker: str = "up-1") -> dict[Category, Known]:
    return {Category.LINEAR: Known(UpstreamState.DOWN, 5, 1, worker)}


def test_a_worker_that_reports_no_more_is_not_named_as_leader() -> None:
    picture = Overview()
    picture.take_worker(worker(0.0, 10), 100.0)
    linear = picture.show(known(), None, 100.0)["upstream"]["linear"]
    assert (linear["worker"], linear["epoch"]) == ("up-1", 1)
    linear = picture.show(known(), None, 100.1 + timing.REPORT_LEASE)["upstream"]["linear"]
    assert (linear["worker"], linear["epoch"]) == ("", 1)


def reports(name: str, at: float) -> Any:
    return worker(at, 0) | {"process": f"process of {name}", "name": name, "origin": name}


def missing(picture: Overview, now: float) -> list[str]:
    return [one["name"] for one in picture.show({}, None, now)["missing"]]


LATE = timing.REPORT_LEASE + 0.1


def test_a_process_that_fell_silent_is_missing_until_it_returns_or_another_takes_its_place() -> (
    None
):
    picture = Overview()
    for name in ("up-1", "up-2"):
        picture.take_worker(reports(name, 0.0), 100.0)
    for second in range(1, 4_000):
        picture.take_worker(reports("up-1", float(second)), 100.0 + second)
        picture.beat(100.0 + second)
    assert missing(picture, 4_099.0) == ["up-2"]  # as long as that lasts
    picture.take_worker(reports("up-2", 0.0), 4_100.0)
    assert missing(picture, 4_100.0) == []
    picture.take(hub(0.0), 4_110.0)
    picture.beat(4_100.0 + LATE)
    assert sorted(missing(picture, 4_100.0 + LATE)) == ["up-1", "up-2"]
    picture.take_worker(reports("up-3", 0.0), 4_111.0)
    assert missing(picture, 4_111.0) == ["up-2"]
    picture.beat(4_110.0 + LATE)
    shown = picture.show({}, None, 4_110.0 + LATE)["missing"]
    assert [(one["kind"], one["name"]) for one in shown] == [("worker", "up-2"), ("web", "web-1")]


def test_a_process_that_was_replaced_before_it_was_missed_is_not_missing() -> None:
    picture = Overview()
    picture.take_worker(reports("up-1", 0.0), 100.0)
    picture.take_worker(reports("up-2", 0.0), 101.0)  # restarted, before the lease has run out
    picture.take_worker(reports("up-2", 5.0), 106.0)
    picture.beat(100.0 + LATE)
    assert missing(picture, 100.0 + LATE) == []
    picture.beat(106.0 + LATE)  # nobody came after this one
    assert missing(picture, 106.0 + LATE) == ["up-2"]


def test_a_process_that_said_goodbye_is_not_missing_and_the_list_is_bounded() -> None:
    picture = Overview()
    picture.take_worker(reports("up-1", 0.0), 100.0)
    picture.forget("process of up-1")
    picture.beat(100.0 + LATE)
    assert missing(picture, 100.0 + LATE) == []
    for number in range(500):
        picture.take_worker(reports(f"up-{number}", 0.0), 200.0)
    picture.beat(200.0 + LATE)
    assert len(missing(picture, 200.0 + LATE)) == MOST_MISSING


def test_after_a_time_without_redis_those_that_do_not_return_are_missing() -> None:
    picture = Overview()
    for name in ("up-1", "up-2"):
        picture.take_worker(reports(name, 0.0), 100.0)
    picture.beat(100.0 + LATE, could_hear=False)
    assert missing(picture, 100.0 + LATE) == []
    picture.take_worker(reports("up-1", 0.0), 200.0)
    picture.beat(200.0, could_hear=False)
    assert missing(picture, 200.0) == []
    picture.beat(201.0)
    assert missing(picture, 201.0) == ["up-2"]


def test_of_two_that_say_they_lead_the_newer_counts() -> None:
    picture = Overview()
    old, new = worker(0.0, 10), worker(0.0, 20)
    new["process"], new["name"] = "w2", "up-2"
    new["categories"]["linear"] |= {"epoch": 2, "topics": 7}
    for report in (new, old):
        picture.take_worker(report, 100.0)
    known = {Category.LINEAR: Known(UpstreamState.LIVE, 0, 2, "up-2")}
    assert picture.show(known, None, 100.0)["upstream"]["linear"]["topics"] == 7


def test_the_history_is_five_minutes() -> None:
    picture = Overview()
    for second in range(400):
        picture.beat(float(second))
    assert {len(values) for values in picture.history().values()} == {300}


def test_a_report_keeps_the_one_before_it_with_its_rows_and_none_before_that() -> None:
    last: LastReport[Any] = LastReport(hub(0.0, topic("a")), 100.0)
    rows = last.rows
    for second in (1.0, 2.0):
        last = LastReport(hub(second), 100.0 + second, last)
        assert last.before is not None
        assert last.before.before is None
        if second == 1.0:
            assert last.before.rows is rows
