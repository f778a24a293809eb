"""relay/lib/timing.py: the relations between the times, which a change of one may break."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from relay.conf import RelaySettings
from relay.lib import timing as t

DEFAULTS = RelaySettings()
REDIS_SILENCE = t.REDIS_PING * t.REDIS_SILENT_PINGS
LEADERLESS = t.LEADER_LEASE + t.LEADER_RETRY + t.REDIS_ANSWER_LIMIT
"""The longest from the last sign of life of a leader to the first of its follower."""

ORDERED = {
    # hubs and workers
    "a demand lease outlives the loss of two renewals": (3 * t.DEMAND_RENEWAL, t.DEMAND_LEASE),
    "silence outlives the loss of two beats": (3 * t.BEAT, t.SILENCE),
    "a beat comes sooner than demand needs it": (t.BEAT, t.DEMAND_RENEWAL),
    "each repeated demand may be answered": (t.BEHIND_PAUSE, t.DEMAND_RENEWAL),
    "silence is noticed before a hub's demand runs out": (t.SILENCE, t.DEMAND_LEASE),
    "topics outlive a restart of Redis": (10 * t.DEMAND_LEASE, t.DEMAND_KEPT_IN_DOUBT),
    "a change of leader is no outage": (t.SILENCE, t.UNSERVED_LIMIT),
    "a process that starts is not told that workers are missing": (
        2 * t.UNSERVED_LIMIT,
        t.WORKER_MISSED_AFTER,
    ),
    # leadership
    "a lease outlives the loss of three renewals": (4 * t.LEADER_RENEWAL, t.LEADER_LEASE),
    "a leader asks again before its lease runs out": (
        t.LEADER_RENEWAL + t.REDIS_ANSWER_LIMIT,
        t.LEADER_LEASE,
    ),
    "a forgotten leader renews within the grace": (2 * t.LEADER_RENEWAL, t.LEADER_GRACE),
    "a leader follows before hubs take the last one for dead": (
        t.LEADER_LEASE + t.LEADER_RETRY,
        t.SILENCE,
    ),
    "tries are few against the lease": (4 * t.LEADER_RETRY, t.LEADER_LEASE),
    # the channel layer
    "a stopped Redis is noticed before its worker is missed": (REDIS_SILENCE, t.SILENCE),
    "the layer is tried before the next beat": (t.LAYER_RETRY_CEILING, t.BEAT),
    "retries grow": (t.LAYER_FIRST_RETRY, t.LAYER_RETRY_CEILING),
    "an order outlives a new connection": (REDIS_SILENCE + t.REDIS_CONNECT_LIMIT, t.ORDER_LIMIT),
    # the exchange
    "a connection answers two pings before it is given up": (2, t.UNANSWERED_PINGS),
    "reconnects grow": (t.EXCHANGE_FIRST_RETRY, t.EXCHANGE_RETRY_CEILING),
    "a connection that flaps keeps its pauses": (
        t.EXCHANGE_RETRY_CEILING + t.EXCHANGE_OPEN_LIMIT,
        t.EXCHANGE_STEADY_AFTER,
    ),
    "a connection outlives its topics": (DEFAULTS.linger, t.CONNECTION_LINGER),
    "refusals grow": (t.REFUSAL_FIRST_RETRY, t.REFUSAL_RETRY_CEILING),
    "a topic is given up after many tries": (10 * t.REFUSAL_RETRY_CEILING, t.REFUSED_LASTINGLY),
    "a topic is not sooner back than given up": (t.REFUSED_LASTINGLY, t.REFUSED_FOR),
    # a topic's state
    "resyncs grow": (t.RESYNC_FIRST_BACKOFF, t.BROKEN_CEILING),
    "a topic that was right waits less": (t.BROKEN_CEILING, t.RESYNC_CEILING),
    "a snapshot is waited for before the next resync": (t.SNAPSHOT_PATIENCE, t.BROKEN_CEILING),
    "a topic that breaks again and again keeps its pauses": (t.BROKEN_CEILING, t.HEALTHY_AFTER),
    "an order is not repeated while the first is carried out": (
        t.SNAPSHOT_PATIENCE,
        t.RESYNC_ORDER_PAUSE,
    ),
    # processes
    "a worker looks before a crossed book is broken": (t.WORKER_TICK, t.CROSSED_PATIENCE),
    "a worker looks before its beat is late": (10 * t.WORKER_TICK, t.BEAT),
    "a late look is no chance": (10 * t.SLOW_RETRY, t.LATE),
    "load alone is no suspension": (2 * t.LATE, t.SUSPENDED_AFTER),
    "a suspension that ends a silence is noticed": (t.SUSPENDED_AFTER + t.BEAT, t.SILENCE),
    "a suspension that ends a demand lease is noticed": (
        t.SUSPENDED_AFTER + t.DEMAND_RENEWAL,
        t.DEMAND_LEASE,
    ),
    "a report lease outlives the loss of five reports": (6 * t.REPORT_INTERVAL, t.REPORT_LEASE),
    "workers forget a process no later than the picture": (t.DEMAND_LEASE, t.REPORT_LEASE),
    # clients
    "an answer waits": (t.MIN_ACK_DELAY, t.MAX_ACK_DELAY),
    "a client is answered before its topic's request is repeated": (
        t.MAX_ACK_DELAY,
        t.ACK_PATIENCE,
    ),
    "watch misses a pong, not a ping": (t.TERMINAL_PING, t.TERMINAL_SILENCE),
    "watch's retries grow": (t.TERMINAL_FIRST_RETRY, t.TERMINAL_RETRY_CEILING),
    "the relay repairs a book before watch asks": (
        t.CROSSED_PATIENCE + t.WORKER_TICK,
        t.TERMINAL_CROSSED_PATIENCE,
    ),
    # the end
    "a web process ends its clients in time": (t.HANDOVER + t.GOODBYE + t.LAST_BYTES, t.STOP_LIMIT),
    "a worker says goodbye in time": (2 * t.FAREWELL_LIMIT, t.STOP_LIMIT),
    "a swallowed cancel is repeated in time": (4 * t.CANCEL_INTERVAL, t.STOP_LIMIT),
    "the children of demo end before it": (t.CHILD_STOP_LIMIT, t.STOP_LIMIT),
}

RECOVERIES = {
    "the exchange can be reached again": t.EXCHANGE_RETRY_CEILING + t.EXCHANGE_OPEN_LIMIT,
    "the exchange closes a connection that had lived": t.EXCHANGE_FIRST_RETRY,
    "the exchange accepts topics again": t.REFUSAL_RETRY_CEILING + t.WORKER_TICK,
    "the answer to a request is lost": t.ACK_PATIENCE + t.WORKER_TICK,
    "the answer to a probe is lost": t.ACK_PATIENCE + t.REFUSAL_RETRY_CEILING,
    "a snapshot does not come": t.SNAPSHOT_PATIENCE + t.WORKER_TICK,
    "a book has a gap for the last of many times": t.BROKEN_CEILING + t.WORKER_TICK,
    "a book stays crossed": t.CROSSED_PATIENCE + t.BROKEN_CEILING + t.WORKER_TICK,
    "a leader dies or freezes": LEADERLESS,
    "a leader is forgotten with its Redis": LEADERLESS + t.LEADER_GRACE,
    "Redis stops to answer, and answers": REDIS_SILENCE
    + t.REDIS_CONNECT_LIMIT
    + t.LAYER_RETRY_CEILING
    + t.DEMAND_RENEWAL,
    "the last message of a topic is lost": 2 * t.BEAT + t.DEMAND_RENEWAL + t.BEHIND_PAUSE,
    "the first word of a new leader is lost": t.BEAT + t.DEMAND_RENEWAL,
    "a relay is silent to watch": t.TERMINAL_SILENCE,
    "a relay is back for watch": t.TERMINAL_RETRY_CEILING,
}
"""Fault -> the longest wait, from the end of the fault to the request that mends what it broke."""


@pytest.mark.parametrize("relation", ORDERED)
def test_a_time_is_no_larger_than_the_one_that_depends_on_it(relation: str) -> None:
    smaller, larger = ORDERED[relation]
    assert smaller <= larger


@pytest.mark.parametrize("fault", RECOVERIES)
def test_no_wait_after_a_single_fault_breaks_the_promise(fault: str) -> None:
    assert RECOVERIES[fault] < t.RIGHT_AGAIN


def test_every_time_has_a_relation_or_a_promise() -> None:
    """A new constant comes with a statement about the one that it depends on."""
    stated = {
        node.attr
        for node in ast.walk(ast.parse(Path(__file__).read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr.isupper()
        and isinstance(node.value, ast.Name)
        and node.value.id == "t"
    }
    assert {name for name in vars(t) if name.isupper()} == stated


def test_every_time_says_why() -> None:
    """The table is constants, each with a docstring, and imports nothing."""
    assert t.__file__ is not None
    _, future, *rest = ast.parse(Path(t.__file__).read_text()).body
    assert isinstance(future, ast.ImportFrom)
    assert future.module == "__future__"
    for constant, words in zip(rest[::2], rest[1::2], strict=True):
        assert isinstance(constant, ast.Assign)
        assert isinstance(words, ast.Expr)
        assert isinstance(words.value, ast.Constant)
        assert isinstance(words.value.value, str)
