"""A client's session with its clock, its hub and the worker behind it."""

from __future__ import annotations

import json
from typing import Any

from relay.bybit.errors import Code
from relay.bybit.requests import Endpoint
from relay.bybit.topics import Category, Topic
from relay.downstream.hub import Hub
from relay.downstream.outbound import Outbound
from relay.downstream.session import ClientSession
from relay.downstream.wire import Batch
from relay.lib import timing
from relay.seam import envelopes
from relay.telemetry.telemetry import Telemetry
from tests.builders import compact
from tests.downstream.plain_runner import PlainRunner

EPOCH = 100


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return int(self.now * 1e9)


class RecordingOutbound(Outbound):
    """Writes down what is sent; `waiting` bytes are said to be unsent."""

    def __init__(self) -> None:
        self.corked = None
        self.texts: list[bytes] = []
        self.closed: list[int] = []
        self.waiting = 0
        self.is_detached = False
        self.is_paused = False

    async def accept(self, subprotocol: str | None = None) -> None: ...

    def deliver(self, batch: Batch) -> bool:
        self.write(batch)
        return True

    def write(self, batch: Batch) -> None:
        assert not self.closed, "written after the close"
        self.texts += batch.texts

    def unsent(self) -> int:
        return self.waiting

    def accepted(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def close(self, code: int, reason: str = "") -> None:
        self.closed.append(code)

    def abort(self) -> None: ...

    def detach(self) -> None:
        self.is_detached = True


class Call:
    """One client on the line, its hub and the worker behind it."""

    def __init__(
        self,
        clock: Clock,
        endpoint: Endpoint = Endpoint.NATIVE,
        category: Category | None = None,
        *,
        beside: Call | None = None,
    ) -> None:
        """Connect a client, to the hub of another one where `beside` is given."""
        self.clock = clock
        self.telemetry = Telemetry.fresh()
        self.counters = self.telemetry.counters
        self.runner = PlainRunner(Hub(self.telemetry, wall_ms=lambda: 1_700))
        if beside is not None:
            self.runner = beside.runner
        self.hub = self.runner.hub
        self.client = ClientSession(self.telemetry, self.runner, endpoint)
        self.client.category = category
        self.outbound = RecordingOutbound()
        self.client.attach(self.outbound)

    def say(self, message: Any) -> None:
        """Send one message, as the way in does: text as it is, anything else as JSON."""
        if not isinstance(message, str | bytes | None):
            message = compact(message)
        self.client.on_frame()
        self.client.on_message(message)

    def raw(self) -> list[bytes]:
        texts, self.outbound.texts = self.outbound.texts, []
        return texts

    def heard(self) -> list[Any]:
        return [json.loads(text) for text in self.raw()]

    def ask(self, message: Any) -> Any:
        """Send a message that is answered at once; return the one answer."""
        self.say(message)
        self.pass_time(0)  # it may have to wait for the next turn of the event loop
        [answer] = self.heard()
        return answer

    def settle(self, topic: Topic, refusal: str = "") -> None:
        """Have the exchange agree to a topic, or refuse it, and the ack go out."""
        self.hub.receive(
            envelopes.as_message(envelopes.Joined(self.hub.unjoined())), self.clock.now
        )
        code = Code.REFUSED_BY_EXCHANGE
        self.receive(
            envelopes.Refused(topic.group, EPOCH, code, refusal)
            if refusal
            else envelopes.Confirmed(topic.group, EPOCH)
        )
        self.pass_time(timing.MIN_ACK_DELAY)

    def follow(self, topic: Topic) -> None:
        """Subscribe in Bybit's dialect and take the ack away."""
        self.say({"op": "subscribe", "args": [topic.text]})
        self.settle(topic)
        assert len(self.raw()) == 1

    def receive(self, envelope: Any) -> None:
        self.hub.receive(envelopes.as_message(envelope), self.clock.now)

    def publish(self, topic: Topic, after: int, text: bytes) -> None:
        self.receive(envelopes.Publication(topic.group, EPOCH, after, [text]))
        self.hub.flush()

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.runner.tick(self.clock.now)
        self.hub.flush()
