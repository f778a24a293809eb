"""relay/web/reactor.py: how many sockets one turn of the event loop handles."""

from __future__ import annotations

import socket
from collections import Counter
from selectors import EVENT_READ, DefaultSelector

from relay.web.reactor import in_portions


def test_sockets_that_are_always_ready_do_not_keep_others_waiting() -> None:
    pairs = [socket.socketpair() for _ in range(10)]
    try:
        with DefaultSelector() as selector:
            for reading, writing in pairs:
                selector.register(reading, EVENT_READ)
                writing.send(b"x")
            select = in_portions(selector.select, 3)
            handled: Counter[int] = Counter()
            for _ in range(10):
                events = select(0)
                assert len(events) == 3
                handled.update(key.fd for key, _ in events)
            assert set(handled.values()) == {3}
            for reading, _ in pairs[2:]:
                reading.recv(1)
            assert len(select(0)) == 2
    finally:
        for pair in pairs:
            for one in pair:
                one.close()
