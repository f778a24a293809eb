"""A look inside the relay's processes, for the churn test alone.

Python imports this module in each process that is started with this folder in `PYTHONPATH`, so the
commands under test are the documented ones, unchanged. It does nothing unless `CHURN_INSIDE` names
a folder. There each process listens on a Unix socket, named by its process id, and answers one
JSON object to each line:

    count     what is alive, and how much every collection holds
    collect   the same after a full run of the garbage collector
    stops     the longest stops of the event loop since the last answer

The loop stops for as long as it counts; that stop is not reported.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socketserver
import sys
import threading
from collections import Counter, deque
from types import FunctionType, ModuleType

TICK = 0.02  # seconds between two looks at the clock: a stop is what a tick comes too late
LONGEST = 5  # stops that are kept
OURS = ("relay.", "marketfeed.")  # packages whose collections are measured
ANSWER_WITHIN = 60.0  # seconds in which the loop must take a question

_loop = None  # the event loop that runs in this process
_stops = []  # seconds, the longest first
_run_forever = asyncio.BaseEventLoop.run_forever


def _watch_loop(loop):
    """Note how much later than asked the loop calls back."""
    waited, due = _waited(), loop.time() + TICK

    def tick():
        nonlocal waited, due
        now, before = loop.time(), waited
        waited = _waited()
        _stops.append(round(max(0.0, now - due - (waited - before)), 4))
        _stops.sort(reverse=True)
        del _stops[LONGEST:]
        due = now + TICK
        loop.call_later(TICK, tick)

    loop.call_later(TICK, tick)


def _waited():
    """Return the seconds in which this thread was ready and the kernel ran others."""
    try:
        with open(f"/proc/self/task/{threading.get_native_id()}/schedstat") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _running(loop):
    global _loop  # noqa: PLW0603
    if _loop is None:
        _loop = loop
        _watch_loop(loop)
    _run_forever(loop)


def _collect():
    gc.collect()
    return _count()


def _count():
    """Return what is alive in this process; called in its event loop."""
    alive = gc.get_objects()
    answer = {
        "objects": _by_name(map(type, alive)),
        "visitors": Counter(one.user_agent for one in alive if _is_ours(one) and _has_agent(one)),
        "tasks": Counter(map(_task_name, asyncio.all_tasks(_loop))),
        "timers": sum(not timer.cancelled() for timer in _loop._scheduled),
        "collections": _collections(alive),
        "garbage": len(gc.garbage),
        "pooled": _pooled(alive),
    }
    _stops.clear()
    return answer


def _pooled(alive):
    """Return how many sockets the pools of redis-py have open, in use or not."""
    pools = [one for one in alive if type(one).__module__ == "redis.asyncio.connection"]
    return sum(
        connection._writer is not None and not connection._writer.transport.is_closing()
        for pool in pools
        if hasattr(pool, "_available_connections")
        for connection in (*pool._available_connections, *pool._in_use_connections)
    )


def _by_name(kinds):
    numbers = Counter()
    for kind, number in Counter(kinds).items():
        numbers[f"{kind.__module__}.{kind.__qualname__}"] += number
    return numbers


def _has_agent(one):
    return isinstance(getattr(one, "user_agent", None), str)


def _task_name(task):
    name = task.get_name()
    return getattr(task.get_coro(), "__qualname__", "?") if name.startswith("Task-") else name


def _collections(alive):
    """Return how much each attribute of the relay's objects and modules holds, summed by name.

    What was there at the call of `gc.freeze` is not among `alive`: it is found by following the
    attributes of the relay's modules.
    """
    sizes = Counter()
    seen = set()
    waiting = deque(one for one in alive if _is_ours(one))
    for name, module in list(sys.modules.items()):
        if f"{name}.".startswith(OURS):
            for attribute, value in list(vars(module).items()):
                if not attribute.startswith("__") and not isinstance(
                    value, (ModuleType, FunctionType)
                ):
                    _measure(f"{name}.{attribute}", value, sizes, waiting)
    while waiting:
        one = waiting.popleft()
        if id(one) not in seen:
            seen.add(id(one))
            for attribute, value in _attributes(one):
                kind = type(one)
                _measure(f"{kind.__module__}.{kind.__name__}.{attribute}", value, sizes, waiting)
    return {name: size for name, size in sizes.items() if size}


def _measure(name, value, sizes, waiting):
    if isinstance(value, (dict, list, set, deque, bytearray)):
        sizes[name] += len(value)
        if isinstance(value, dict):
            inside = [*value.keys(), *value.values()]
        else:
            inside = [] if isinstance(value, bytearray) else list(value)
        for one in inside:
            if _is_ours(one):
                waiting.append(one)
            elif isinstance(one, (dict, list, set, deque)):
                sizes[name + "[]"] += len(one)
    elif _is_ours(value):
        waiting.append(value)


def _is_ours(one):
    return str(type(one).__module__).startswith(OURS)


def _attributes(one):
    found = dict(getattr(one, "__dict__", {}))
    for kind in type(one).__mro__:
        slots = getattr(kind, "__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            private = name.startswith("__") and not name.endswith("__")
            full = f"_{kind.__name__.lstrip('_')}{name}" if private else name
            try:
                found[name] = object.__getattribute__(one, full)
            except AttributeError:
                continue
    return found.items()


def _take_stops():
    answer = {"stops": list(_stops)}
    _stops.clear()
    return answer


class _Answers(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            what = {b"count": _count, b"collect": _collect, b"stops": _take_stops}[line.strip()]
            answer = {} if _loop is None else _in_loop(what)
            self.wfile.write(json.dumps(answer).encode() + b"\n")
            self.wfile.flush()


def _in_loop(function):
    """Call a function in the event loop of this process; return what it returns."""
    answer, done = {}, threading.Event()

    def call():
        try:
            answer.update(function())
        except Exception as fault:
            answer["fault"] = repr(fault)
        done.set()

    _loop.call_soon_threadsafe(call)
    return answer if done.wait(ANSWER_WITHIN) else {"fault": "the event loop did not answer"}


if folder := os.environ.get("CHURN_INSIDE"):
    asyncio.BaseEventLoop.run_forever = _running
    server = socketserver.ThreadingUnixStreamServer(f"{folder}/{os.getpid()}", _Answers)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="churn", daemon=True).start()
