"""How long each part of the relay waits: every liveness constant, in one table.

The relay promises that what clients are shown is right within `RIGHT_AGAIN` of the end of any
single fault, and each time below is chosen against another one. They stand together so that a
reader who changes one sees which others depend on it; `tests/lib/test_timing.py` asserts the
relations. Constants that concern one module alone (sizes, rates, the pace of a display) stay there.

Modules read `timing.NAME` when they need it, so a test changes a time with
`monkeypatch.setattr(timing, "NAME", ...)`. All times are in seconds. This module imports nothing,
so any room may read it.
"""

from __future__ import annotations

RIGHT_AGAIN = 10.0
"""The promise: after any single fault is over, what clients are shown is right within this time."""

# ---- hubs and workers, through the channel layer ----

DEMAND_RENEWAL = 2.0
"""Between repetitions of a hub's whole demand: bounds how long a lost last message goes unseen."""

DEMAND_LEASE = 6.0
"""Without a repetition a worker forgets a hub: three renewals were lost, not one by chance."""

DEMAND_KEPT_IN_DOUBT = 60.0
"""A leader without Redis keeps topics so long though no demand arrives: ten leases, so that a
restart of Redis costs no topic, and yet a worker that is cut off lets go in the end."""

BEAT = 1.0
"""Between repetitions of `upstream`: shorter than a demand renewal, for hubs learn from it whom to
ask."""

SILENCE = 3.0
"""Without a beat a hub takes its worker for dead: three beats were lost. Longer than a change of
leader by lease takes, so that readers are told of an outage and not of a handover."""

BEHIND_PAUSE = 1.0
"""Between a worker's answers to hubs that have lost something of a topic: shorter than a demand
renewal, so that each repetition may be answered; hubs that lost the same share one answer."""

UNSERVED_LIMIT = 5.0
"""Without a worker for a wanted category a web process is not ready: longer than `SILENCE`, within
which another worker takes over."""

WORKER_MISSED_AFTER = 10.0
"""Without a worker the log says what to start: twice `UNSERVED_LIMIT`, for a worker that takes over
needs 3 s and one that starts with the web process 5 s."""

# ---- which worker leads a category ----

LEADER_RENEWAL = 0.5
"""Between renewals of the lease: four in one lease, so that one slow answer does not cost it."""

LEADER_LEASE = 2.0
"""A leader that renews nothing for so long is followed by another: below `SILENCE` by more than
`LEADER_RETRY`, the two of which are the longest that a category goes unserved."""

LEADER_RETRY = 0.25
"""Between tries of a standby to acquire the lease: a fraction of the lease, which it adds to."""

LEADER_GRACE = 1.0
"""A standby leaves the lease to a leader that Redis has forgotten for so long: two renewals, of
which the leader needs one."""

REDIS_ANSWER_LIMIT = 1.0
"""For Redis to answer a question about the lease or about connects: half a lease, so that a leader
asks again before it runs out."""

# ---- the channel layer's connection to Redis ----

REDIS_PING = 0.5
"""Between pings."""

REDIS_SILENT_PINGS = 3
"""Pings (a count) without one byte from Redis, after which the connection is replaced: 1.5 s, below
`SILENCE`, so that a stopped Redis is not taken for a dead worker alone."""

REDIS_CONNECT_LIMIT = 1.5
"""For TCP, TLS, password and HELLO together: as long as an open connection may be silent."""

LAYER_FIRST_RETRY = 0.1
"""From a failure of the channel layer, or of a task that needs it, to the next try: most are over
at once."""

LAYER_RETRY_CEILING = 1.0
"""Between tries while the channel layer is away: no longer than a beat, which the next try sends.
A task that ran for longer begins again with `LAYER_FIRST_RETRY`."""

ORDER_LIMIT = 3.0
"""For the channel layer to carry an operator's order: as long as it takes to notice that a
connection to Redis is silent and to make another."""

# ---- a connection to the exchange ----

UNANSWERED_PINGS = 2.9
"""Ping intervals (a factor of `RELAY_PING_INTERVAL`) without an answer, after which a connection is
replaced: three, less the time that a new connection needs."""

EXCHANGE_OPEN_LIMIT = 5.0
"""For the handshake: with `EXCHANGE_RETRY_CEILING` below `RIGHT_AGAIN`, for a try that began before
the outage ended may hang until then."""

EXCHANGE_FIRST_RETRY = 2.0
"""From the break of a connection to the next try: the exchange allows 500 connects in 5 minutes."""

EXCHANGE_RETRY_CEILING = 4.0
"""Between tries while the exchange is away, without an end; see `EXCHANGE_OPEN_LIMIT`."""

EXCHANGE_STEADY_AFTER = 30.0
"""A connection that lived so long ends a series of failures: many times the longest pause, so that
one which breaks again and again keeps its pauses."""

CONNECTION_LINGER = 60.0
"""A connection without a topic stays open so long: longer than the default `RELAY_LINGER` of a
topic, because a connect costs more than a subscribe."""

# ---- requests to the exchange and its answers ----

ACK_PATIENCE = 5.0
"""A request without an answer is written off and repeated: below `RIGHT_AGAIN` by the time that the
second request needs."""

REFUSAL_FIRST_RETRY = 0.5
"""From a refusal that is about the moment to the next request."""

REFUSAL_RETRY_CEILING = 4.0
"""Between such requests: with `ACK_PATIENCE` below `RIGHT_AGAIN`, once the exchange accepts topics
again."""

REFUSED_LASTINGLY = 60.0
"""Of refusals, after which a topic is given up: many times the ceiling, to outlive a restart of the
exchange."""

REFUSED_FOR = 60.0
"""A topic that does not exist is not requested again for so long: not sooner than one that was
given up."""

# ---- a topic whose state is not right ----

CROSSED_PATIENCE = 0.2
"""A crossed book may heal for so long before it counts as broken: several of its updates, and too
short for a client to miss."""

SNAPSHOT_PATIENCE = 5.0
"""From an ack to the first snapshot: half of `RIGHT_AGAIN`, so that a topic that lost its snapshot
is right in time."""

RESYNC_FIRST_BACKOFF = 1.0
"""Before the second resync of a topic in a row; the first of a healthy topic goes out at once."""

BROKEN_CEILING = 8.0
"""Between resyncs of a topic that was right once: below `RIGHT_AGAIN` by the time that a resync
needs."""

RESYNC_CEILING = 60.0
"""Between resyncs of a topic that was never right: no reader waits for what it had, so the exchange
is spared."""

HEALTHY_AFTER = 10.0
"""A topic that was right so long begins its backoff from the start: longer than `BROKEN_CEILING`,
so that one which breaks after each resync keeps its pauses."""

RESYNC_ORDER_PAUSE = 5.0
"""An operator's second order to resync a topic within this time is the same as the first: as long
as the first may wait for its snapshot."""

# ---- processes and their event loops ----

WORKER_TICK = 0.1
"""Between a worker's looks at what is due: a fraction of everything it waits for."""

SLOW_RETRY = 0.05
"""Between a hub's looks at readers that had no room."""

LATE = 0.5
"""A hub's look that is so late has read less than was sent, as an overloaded hub has: ten looks."""

SUSPENDED_AFTER = 1.0
"""A tick that is so late means that the process was suspended (SIGSTOP, a paused machine) and
received nothing meanwhile, so no lease has run out. Longer than `LATE`, which load alone explains;
shorter than every lease and than `SILENCE`, so that a pause that could end one is always
noticed."""

REPORT_INTERVAL = 1.0
"""Between reports of a process for the overview."""

REPORT_LEASE = 6.0
"""Without a report a process leaves the sums: six reports were lost. As long as a demand lease, so
that the overview and the workers forget a process together."""

# ---- clients ----

MIN_ACK_DELAY = 0.002
"""From a client's request to its answer, at least: pybit records its callback after it has sent."""

MAX_ACK_DELAY = 3.0
"""A client's answer waits so long for the exchange's verdict on a new topic: shorter than
`ACK_PATIENCE`, for clients have patience of their own."""

TERMINAL_PING = 5.0
"""Between pings of `watch` to the relay."""

TERMINAL_SILENCE = 9.0
"""Without a message `watch` replaces its connection: two pings, less the time to connect; within
`RIGHT_AGAIN`."""

TERMINAL_FIRST_RETRY = 0.5
"""From a dropped connection of `watch`, or a wrong book, to the next try: most are over at once."""

TERMINAL_RETRY_CEILING = 5.0
"""Between such tries: half of `RIGHT_AGAIN`, because what the relay needs comes before it."""

TERMINAL_CROSSED_PATIENCE = 0.5
"""`watch` asks for a new snapshot of a book that is crossed for so long: longer than
`CROSSED_PATIENCE`, in which the relay repairs it by itself."""

# ---- the end of a process ----

CANCEL_INTERVAL = 0.5
"""Between cancels of a task that does not end: several of them before `STOP_LIMIT`."""

FAREWELL_LIMIT = 1.0
"""For the last words of a process to leave through the channel layer, which may be what ended it:
a fraction of `STOP_LIMIT`."""

HANDOVER = 1.0
"""From the last new client of a web process to its first goodbye, so that a successor may start."""

GOODBYE = 1.5
"""Over which a web process closes its clients, so that they do not come back as one."""

LAST_BYTES = 1.0
"""For the last close frames to leave; with `HANDOVER` and `GOODBYE` below `STOP_LIMIT`."""

STOP_LIMIT = 4.3
"""From the signal to the end of a process, whatever still runs: the interpreter needs the rest of
the 5 s that are promised."""

CHILD_STOP_LIMIT = 4.0
"""From SIGTERM to SIGKILL for the children of `demo`: below `STOP_LIMIT`, the parent's own."""
