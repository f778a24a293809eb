"""What the log says of upstream workers that are missing."""

from __future__ import annotations

from relay.bybit.topics import Category
from relay.lib import timing
from relay.ops.worker_watch import WorkerWatch

LATE = timing.WORKER_MISSED_AFTER + 1.0
LINEAR = (Category.LINEAR,)


def test_a_worker_that_never_came_is_missed_once_with_what_to_do() -> None:
    watch = WorkerWatch(100.0)
    assert watch.look([], [], LINEAR, 100.0 + timing.WORKER_MISSED_AFTER) == []
    [(is_fault, words)] = watch.look([], [], LINEAR, 100.0 + LATE)
    assert is_fault
    assert "no upstream worker reports" in words
    assert "manage.py run_upstream" in words
    assert watch.look([], [], LINEAR, 1000.0) == []
    assert watch.look(["up-1"], ["linear"], LINEAR, 1001.0) == [
        (False, "upstream worker up-1 reports")
    ]
    assert watch.look(["up-1"], ["linear"], LINEAR, 1002.0) == []


def test_a_worker_that_is_lost_is_missed_again() -> None:
    watch = WorkerWatch(100.0)
    assert watch.look(["up-1"], ["linear"], (), 200.0) == []
    assert watch.look([], [], (), 200.0 + timing.WORKER_MISSED_AFTER) == []
    assert len(watch.look([], [], (), 200.0 + LATE)) == 1


def test_a_category_that_no_worker_leads_is_missed_while_it_is_wanted() -> None:
    watch = WorkerWatch(100.0)
    spot = ["spot"]
    assert watch.look(["up-1"], spot, LINEAR, 101.0) == []
    [(is_fault, words)] = watch.look(["up-1"], spot, LINEAR, 101.0 + LATE)
    assert is_fault
    assert words.startswith("linear: topics are wanted and no upstream worker leads it")
    assert "run_upstream --category linear" in words
    assert watch.look(["up-1"], spot, LINEAR, 200.0) == []
    assert watch.look(["up-1"], spot, (), 201.0) == []  # nobody wants it any more
    assert watch.look(["up-1"], spot, LINEAR, 202.0) == []  # wanted anew
    assert len(watch.look(["up-1"], spot, LINEAR, 202.0 + LATE)) == 1


def test_while_no_worker_is_there_no_category_is_missed_besides() -> None:
    watch = WorkerWatch(100.0)
    assert len(watch.look([], [], LINEAR, 100.0 + LATE)) == 1
    assert watch.look([], [], LINEAR, 300.0) == []
    assert watch.look(["up-1"], [], LINEAR, 301.0) == [(False, "upstream worker up-1 reports")]
    assert watch.look(["up-1"], [], LINEAR, 302.0) == []  # it has only just come
