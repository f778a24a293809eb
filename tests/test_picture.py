"""The live picture as reports make it: states, ages and the last minutes of the totals."""

from __future__ import annotations

from typing import Any

import pytest

from relay.picture import Picture
from relay.reports import HubRows, StreamRow, TopicRow, pack


def hub(at: float, *rows: TopicRow) -> Any:
    """What a web process reports."""
    return {
        "type": "report",
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
        "type": "worker_report",
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


def test_states_are_counted_over_all_topics() -> None:
    picture = Picture()
    picture.take(hub(0.0, topic("a"), topic("b"), topic("c", "stale")), 100.0)
    assert picture.show({}, None, 100.0)["states"] == {"live": 2, "stale": 1}


@pytest.mark.parametrize(("passed", "age"), [(0.0, 40), (0.9, 40), (3.0, 2040)])
def test_a_topic_is_as_old_as_its_last_report_says_until_the_next_one_is_late(
    passed: float, age: int
) -> None:
    picture = Picture()
    picture.take(hub(0.0, topic("a", age_ms=40)), 100.0)
    assert picture.show({}, None, 100.0 + passed)["topics"][0]["age_ms"] == age


def test_the_history_has_the_rate_of_every_category_each_second() -> None:
    picture = Picture()
    picture.beat(99.0)
    picture.take_worker(worker(0.0, 10), 100.0)
    picture.beat(100.0)
    picture.take_worker(worker(2.0, 50), 102.0)
    picture.beat(102.0)
    history = picture.history()
    assert history["upstream.linear"] == [0.0, 0.0, 20.0]
    assert history["upstream.spot"] == [0.0, 0.0, 0.0]
    assert history["messages_per_second"] == [0.0, 0.0, 20.0]
