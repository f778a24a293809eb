"""relay/layers/inbox.py: no channel outlives its step, and no envelope ends one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from channels.layers import channel_layers, get_channel_layer
from redis.asyncio import Redis

from relay.bybit.topics import Category
from relay.downstream import runner as runner_module
from relay.downstream.runner import HubRunner
from relay.layers import post
from relay.layers.inbox import KINDS_LOGGED, Inbox, channel_in
from relay.layers.local import LocalChannelLayer
from relay.layers.redis import RedisChannelLayer
from relay.lib import timing
from relay.ops import service
from relay.ops.service import LiveService
from relay.seam import envelopes
from relay.seam.envelopes import UPSTREAM_GROUP, VERSION, UpstreamState
from relay.telemetry.telemetry import Telemetry
from relay.upstream.worker import UpstreamWorker
from tests.builders import topic
from tests.downstream.readers import RecordingReader
from tests.layers.makers import MAKERS
from tests.processes import PATIENCE, until
from tests.redis_server import RedisServer

BOOK = topic()
CHANNELS = 7  # the hub's, the live picture's, one of the worker, and one of each category
GROUPS = 7  # upstream, reports, workers, and the demand of each category


def channels_of(layer: Any) -> int:
    """Return how many channels a layer of any kind has."""
    if isinstance(layer, LocalChannelLayer):
        return len(layer._queues)
    return len(layer._get_layer().channels)


def groups_of(layer: Any) -> int:
    """Return how many groups have members, whatever kind the layer is of."""
    return len(layer._groups if isinstance(layer, LocalChannelLayer) else layer._get_layer().groups)


# ---- channels ----


@pytest.fixture(params=MAKERS)
async def any_layer(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    url = "" if request.param == "local" else request.getfixturevalue("redis_url")
    made = MAKERS[request.param](url)
    yield made
    await made.flush()


@pytest.mark.parametrize("ending", [KeyError, asyncio.CancelledError])
@pytest.mark.parametrize("waiting", [0, 3])
async def test_a_channel_is_given_up_however_its_step_ends(
    any_layer: Any,
    ending: type[BaseException],
    waiting: int,
) -> None:

    async def step() -> None:
        async with channel_in(any_layer, "g", "h") as channel:
            for number in range(waiting):
                await any_layer.group_send("g", {"type": "test", "number": number})
            if waiting:
                await any_layer.receive(channel)
            raise ending

    with pytest.raises(ending):
        await step()
    assert (channels_of(any_layer), groups_of(any_layer)) == (0, 0)


async def test_a_channel_that_could_not_join_is_given_up() -> None:
    class Unwilling(LocalChannelLayer):
        async def group_add(self, group: str, channel: str) -> None:
            if group == "h":
                raise OSError("away")
            await super().group_add(group, channel)

    unwilling = Unwilling()
    with pytest.raises(OSError, match="away"):
        async with channel_in(unwilling, "g", "h"):
            raise AssertionError
    assert (channels_of(unwilling), groups_of(unwilling)) == (0, 0)


class Processes:
    """A web process's tasks and a worker's, in one loop and over one layer."""

    def __init__(self) -> None:
        telemetry = Telemetry.fresh()
        self.runner = HubRunner(telemetry)
        self.live = LiveService(telemetry, self.runner, [], [])
        self.serving = asyncio.create_task(UpstreamWorker(Telemetry.fresh()).run())
        self.runner.start()
        self.live.start()

    async def end(self) -> None:
        self.serving.cancel()
        await asyncio.gather(self.serving, return_exceptions=True)
        await self.live.stop()
        await self.runner.stop()


@pytest.fixture
async def processes(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> AsyncIterator[Any]:
    """Return what starts them on a Redis that can be stopped before."""
    settings.RELAY = {"redis_urls": [redis_server.url], "upstream_url": "ws://127.0.0.1:9"}
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "relay.layers.redis.RedisChannelLayer",
            "CONFIG": {"hosts": [redis_server.url]},
        }
    }
    channel_layers.backends.clear()
    monkeypatch.setattr(service.pins, "read", list)
    started: list[Processes] = []

    def start() -> Processes:
        started.append(Processes())
        return started[0]

    yield start
    for one in started:
        await one.end()
    used = get_channel_layer()
    assert isinstance(used, RedisChannelLayer)
    await used.flush()
    channel_layers.backends.clear()


async def test_processes_that_wait_for_their_redis_leave_no_channel_behind(
    processes: Any, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LAYER_FIRST_RETRY", "LAYER_RETRY_CEILING", "LEADER_RETRY", "REPORT_INTERVAL"):
        monkeypatch.setattr(timing, name, 0.005)  # so that a second has as many tries as minutes
    tries = 0
    through = RedisChannelLayer.__getattr__

    def counting(self: Any, name: str) -> Any:
        nonlocal tries
        tries += name == "group_send"
        return through(self, name)

    monkeypatch.setattr(RedisChannelLayer, "__getattr__", counting)
    redis_server.stop()
    processes()
    await until(lambda: tries > 300, PATIENCE, "many tries have failed")
    redis_server.start()
    used: Any = get_channel_layer()
    await until(lambda: channels_of(used) == CHANNELS, PATIENCE, "all have a channel")
    async with Redis.from_url(redis_server.url) as redis:

        async def subscribed() -> int:
            return len(await redis.pubsub_channels())

        async with asyncio.timeout(PATIENCE):
            while await subscribed() != CHANNELS + GROUPS:  # noqa: ASYNC110 - nothing else tells
                await asyncio.sleep(0.02)
        assert groups_of(used) == GROUPS
        keys = sorted([key.decode() async for key in redis.scan_iter()])
        assert keys == sorted(
            f"marketfeed:{kind}:{category}" for kind in ("epoch", "leader") for category in Category
        )


# ---- envelopes ----


def body(*fields: Any) -> bytes:
    return msgspec.msgpack.encode(dict(fields))


def test_a_message_that_cannot_be_read_is_logged_once_a_kind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    taken: list[Any] = []

    def take(envelope: envelopes.ToLeader, now: float) -> None:
        match envelope:
            case envelopes.Resync("fault"):
                raise ZeroDivisionError
            case _:
                taken.append((envelope, now))

    intake = Inbox("worker", envelopes.decode_to_leader, take)
    resync = envelopes.Resync("orderbook.50.BTCUSDT")
    for _ in range(3):
        intake({"type": "resync", "v": VERSION + 1, "body": resync}, 1.0)
        intake({"type": "resync", "topic": "orderbook.50.BTCUSDT"}, 1.0)  # of marketfeed 0.1
        intake({"type": "new\nline", "v": VERSION, "body": body(("type", "new\nline"))}, 1.0)
        intake({"type": "resync", "v": VERSION, "body": body(("type", "resync"))}, 1.0)
        intake({"type": "resync", "v": VERSION, "body": b"\xc1"}, 1.0)
        intake(envelopes.as_message(envelopes.Resync("fault")), 1.0)
        intake({"type": "demand", "v": VERSION}, 1.0)
        intake([], 1.0)
        intake(envelopes.as_message(resync), 1.0)
        intake(envelopes.as_message(resync, is_shared=True), 1.0)
    assert taken == [(resync, 1.0)] * 6
    logged = [
        (record.levelno, record.getMessage().partition("of type ")[2]) for record in caplog.records
    ]
    assert logged == [
        (logging.WARNING, f"'resync': version {VERSION + 1}; this process has {VERSION}"),
        (logging.WARNING, f"'resync': version 1; this process has {VERSION}"),
        (logging.WARNING, "'new\\nline': unknown to this version"),
        (logging.ERROR, "'resync': ValidationError"),
        (logging.ERROR, "'resync': DecodeError"),
        (logging.ERROR, "'resync': ZeroDivisionError"),
        (logging.ERROR, "'demand': KeyError"),
        (logging.ERROR, "[]: AttributeError"),
    ]
    for number in range(2 * KINDS_LOGGED):
        intake({"type": str(number)}, 1.0)
    assert len(caplog.records) == KINDS_LOGGED


def of_version_1(category: Category = Category.LINEAR) -> list[Any]:
    """Return what processes of marketfeed 0.1 sent, with and without a version."""
    group, epoch = BOOK.group, 10**18
    said = [
        {"type": "publication", "group": group, "epoch": epoch, "after": 0, "texts": [b"{}"]},
        {"type": "base", "group": group, "epoch": epoch, "offset": 1, "texts": [b"{}"]},
        {"type": "stale", "group": group, "epoch": epoch, "after": 1},
        {"type": "verdict", "group": group, "epoch": epoch, "code": "", "message": ""},
        {"type": "upstream", "category": category.value, "epoch": epoch, "state": "down"}
        | {"since": 0, "worker": "old"},
        {"type": "demand", "process": "old", "epoch": epoch, "whole": True, "behind": False}
        | {"want": {BOOK.text: None}, "drop": []},
        {"type": "carries", "process": "old", "topics": {category.value: [epoch, 10**6]}},
        {"type": "left", "process": "old"},
    ]
    return said + [each | {"v": 1} for each in said]


def novelties(category: Category = Category.LINEAR) -> list[Any]:
    """Return what processes of other versions may send to the groups of this one."""
    group, now = BOOK.group, {"v": VERSION}
    later = envelopes.Upstream(category, 10**18, UpstreamState.DOWN, 0, "w")
    state = {"type": "upstream", "epoch": 1, "since": 0, "worker": "w"}
    spread = msgspec.msgpack.encode(state | {"category": "spread", "state": "live"})
    dreaming = msgspec.msgpack.encode(state | {"category": "linear", "state": "dreaming"})
    place = (("group", group), ("epoch", 1))
    rows = body(("type", "publication"), *place, ("after", 0), ("rows", []))
    refused = body(("type", "refused"), *place, ("code", "novel"), ("message", ""))
    return [
        {"type": "novelty", "body": body(("type", "novelty"))} | now,
        {"type": "novelty"},
        {"type": "upstream", "body": spread} | now,
        {"type": "upstream", "body": dreaming} | now,
        {"type": "publication", "body": rows} | now,
        {"type": "refused", "body": refused} | now,
        envelopes.as_message(later) | {"v": VERSION + 1},
        {},
        *of_version_1(category),
    ]


async def test_a_hub_goes_on_whatever_it_is_sent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    layer = LocalChannelLayer()
    monkeypatch.setattr(runner_module, "get_channel_layer", lambda: layer)
    runner = HubRunner(Telemetry.fresh())
    runner.start()
    reader = RecordingReader()
    try:
        linear = runner.hub.categories[Category.LINEAR]
        runner.subscribe(reader, [BOOK], 7, asyncio.get_running_loop().time())
        await until(lambda: not runner.hub.unjoined(), PATIENCE, "the hub has joined")
        for epoch in (1, 2):
            for envelope in novelties():
                await layer.group_send(UPSTREAM_GROUP, envelope)
                await layer.group_send(BOOK.group, envelope)
            live = envelopes.Upstream(Category.LINEAR, epoch, UpstreamState.LIVE, 0, "w")
            await post.group_send(layer, UPSTREAM_GROUP, live)
            await until(lambda e=epoch: linear.epoch == e, PATIENCE, "what can be read is read")
        assert linear.state is UpstreamState.LIVE
        assert channels_of(layer) == 1
        assert "failed; trying again" not in caplog.text
    finally:
        await runner.stop()
    assert (channels_of(layer), groups_of(layer)) == (0, 0)


async def test_processes_that_hear_what_they_cannot_read_hear_it_once_and_go_on(
    processes: Any, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    started: Processes = processes()
    used: Any = get_channel_layer()
    await until(lambda: channels_of(used) == CHANNELS, PATIENCE, "all have a channel")
    await until(lambda: len(used._get_layer().groups) == GROUPS, PATIENCE, "all have joined")
    names = set(used._get_layer().channels)
    async with Redis.from_url(redis_server.url) as redis:
        for group in list(used._get_layer().groups):
            await redis.publish(group, b"\xc1 this is not msgpack")
            carries = body(("type", "carries"), ("process", "x"), ("topics", {"a": 1}))
            odd = {"type": "carries", "v": VERSION, "body": carries}
            for envelope in [*novelties(), odd]:
                await redis.publish(group, used.serialize(envelope))
    known = started.live.overview
    await until(lambda: bool(known.processes()), PATIENCE, "reports go on")
    at = known._hubs[started.runner.process].report["at"]
    await until(
        lambda: known._hubs[started.runner.process].report["at"] > at + 1, PATIENCE, "and on"
    )
    assert set(used._get_layer().channels) == names
    assert "failed; trying again" not in caplog.text
    assert "not a message of this channel layer" in caplog.text
