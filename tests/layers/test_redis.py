"""relay/layers/redis.py on a real Redis that is stopped, killed, restarted and short of room."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from channels_redis.pubsub import RedisPubSubChannelLayer
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from relay.layers import redis as redis_layer
from relay.layers import redis_link
from relay.layers.redis import RedisChannelLayer
from relay.lib import timing
from tests.certificates import self_signed
from tests.processes import PATIENCE
from tests.redis_server import NoServer, RedisServer, free_port

GROUPS = 1_800


@pytest.fixture
async def layers(redis_server: RedisServer) -> AsyncIterator[list[RedisChannelLayer]]:
    """One to send with, as another process would, and one to receive with."""
    made = [RedisChannelLayer(hosts=[redis_server.url]) for _ in range(2)]
    yield made
    for layer in made:
        await layer.flush()


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    async with contextlib.aclosing(Redis.from_url(redis_server.url)) as client:
        yield client


def message(number: int) -> dict[str, Any]:
    return {"type": "test", "number": number}


async def arrives(sender: Any, receiver: Any, channel: str, *groups: str) -> None:
    """Return when what is sent to each group arrives; until then it is sent again and again."""
    async with asyncio.timeout(PATIENCE):
        missing = set(groups)
        number = time.monotonic_ns()
        while missing:
            number += 1
            try:
                for group in missing:
                    await sender.group_send(group, {"type": "probe", "group": group})
                await sender.send(channel, message(number))
            except ConnectionError:
                await asyncio.sleep(0.1)
                continue
            while True:
                try:
                    async with asyncio.timeout(1):
                        found = await asyncio.shield(reading(receiver, channel))
                except TimeoutError:
                    break  # the mark was lost: it was sent before the receiver was back
                if found.get("number") == number:
                    break
                missing.discard(found.get("group"))


_readings: dict[str, asyncio.Task[Any]] = {}


def reading(receiver: Any, channel: str) -> asyncio.Task[Any]:
    """Return the one `receive` that is under way: a cancelled one would give the channel up."""
    task = _readings.get(channel)
    if task is None or task.done():
        task = _readings[channel] = asyncio.ensure_future(receiver.receive(channel))
    return task


@pytest.fixture(autouse=True)
def _no_reading_is_left() -> Iterator[None]:
    _readings.clear()
    yield
    for task in _readings.values():
        task.cancel()


async def until(claim: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await claim():  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0.02)


async def until_refused(sender: Any, *groups: str) -> None:
    """Send to the groups until the layer says that it cannot."""
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionError):
            while True:
                await sender.group_send_many([(group, message(-1)) for group in groups])


# ---- faults of the server ----


async def test_a_restarted_redis_has_every_subscription_again_by_one_command(
    redis_server: RedisServer,
    redis: Redis,
    layers: list[RedisChannelLayer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A machine that stands still is not to be the fault.
    for name in ("REDIS_CONNECT_LIMIT", "REDIS_PING"):
        monkeypatch.setattr(timing, name, PATIENCE)
    sender, receiver = layers
    channel = await receiver.new_channel()
    groups = [f"g{number}" for number in range(GROUPS)]
    for group in groups:
        await receiver.group_add(group, channel)
    redis_server.kill()
    await until_refused(sender, "g1")
    redis_server.start()
    await arrives(sender, receiver, channel, "g0", "g1799")
    assert len(await redis.pubsub_channels()) == GROUPS + 1
    assert (await redis.info("commandstats"))["cmdstat_subscribe"]["calls"] == 1


async def test_a_fault_of_the_program_does_not_end_the_task_that_keeps_the_connection(
    layers: list[RedisChannelLayer],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sender, receiver = layers
    channel = await receiver.new_channel()
    await receiver.group_add("g", channel)
    watch, faults = redis_link.RedisLink.watch, [ZeroDivisionError("once"), KeyError("and again")]

    async def failing(self: Any) -> str:
        if faults:
            raise faults.pop()
        return await watch(self)

    with monkeypatch.context() as patched:
        patched.setattr(redis_link.RedisLink, "watch", failing)
        await arrives(sender, receiver, channel, "g")
        await until(lambda: _is_empty(faults))
        await arrives(sender, receiver, channel, "g")
    assert "ZeroDivisionError" in caplog.text


async def _is_empty(faults: list[Any]) -> bool:
    return not faults


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
async def test_killed_connections_are_made_again(
    redis: Redis, layers: list[RedisChannelLayer], kind: str
) -> None:
    sender, receiver = layers
    channel = await receiver.new_channel()
    await receiver.group_add("g", channel)
    await arrives(sender, receiver, channel, "g")
    for _ in range(3):
        await redis.client_kill_filter(_type=kind, skipme=True)
        await arrives(sender, receiver, channel, "g")


async def test_a_stopped_redis_is_noticed_and_heals_when_it_goes_on(
    redis_server: RedisServer, layers: list[RedisChannelLayer]
) -> None:
    sender, receiver = layers
    channel = await receiver.new_channel()
    await receiver.group_add("g", channel)
    await arrives(sender, receiver, channel, "g")
    assert redis_server.process is not None
    redis_server.process.send_signal(signal.SIGSTOP)
    try:
        await until_refused(sender, "g")
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(ConnectionError):
                await sender.group_send("g", message(2))
    finally:
        redis_server.process.send_signal(signal.SIGCONT)
    await arrives(sender, receiver, channel, "g")


async def test_a_paused_redis_is_noticed_and_heals(
    redis: Redis, layers: list[RedisChannelLayer]
) -> None:
    sender, receiver = layers
    channel = await receiver.new_channel()
    await receiver.group_add("g", channel)
    await arrives(sender, receiver, channel, "g")
    await redis.client_pause(6_000)
    await until_refused(sender, "g")
    await arrives(sender, receiver, channel, "g")


async def test_an_address_that_accepts_and_says_nothing_does_not_hang_a_sender(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "REDIS_CONNECT_LIMIT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        layer = RedisChannelLayer(hosts=[f"redis://127.0.0.1:{silent.getsockname()[1]}/0"])
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(ConnectionError):
                await layer.group_send("g", message(1))
        await layer.flush()


async def test_an_address_that_redis_py_cannot_use_does_not_hang_a_sender() -> None:
    layer = RedisChannelLayer(hosts=["redis://127.0.0.1:1/0?no_such_option=1"])
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ConnectionError, match="no_such_option"):
            await layer.group_send("g", message(1))
    await layer.flush()


async def test_what_is_joined_while_redis_is_away_is_joined_when_it_comes(
    redis_server: RedisServer, layers: list[RedisChannelLayer]
) -> None:
    sender, receiver = layers
    redis_server.stop()
    channel = await receiver.new_channel()
    await receiver.group_add("g", channel)
    await receiver.group_add("left", channel)
    await receiver.group_discard("left", channel)
    assert receiver.delay is None
    redis_server.start()
    await arrives(sender, receiver, channel, "g")


async def test_a_receiver_whose_output_buffer_was_exceeded_comes_back(
    redis: Redis, layers: list[RedisChannelLayer]
) -> None:
    sender, receiver = layers
    channel = await receiver.new_channel()
    await receiver.group_add("g", channel)
    await arrives(sender, receiver, channel, "g")
    await redis.config_set("client-output-buffer-limit", "pubsub 65536 0 0")
    connections = (await redis.info("stats"))["total_connections_received"]
    for _ in range(20):
        await sender.group_send("g", {"type": "test", "text": b"x" * 2**20})

    async def is_back() -> bool:
        return (await redis.info("stats"))["total_connections_received"] > connections

    await until(is_back)
    await arrives(sender, receiver, channel, "g")


async def test_a_redis_that_is_full_carries_messages_and_subscriptions(
    redis: Redis, layers: list[RedisChannelLayer]
) -> None:
    sender, receiver = layers
    await redis.config_set("maxmemory", 1)
    with pytest.raises(OutOfMemoryError):
        await redis.set("key", "value")
    channel = await receiver.new_channel()
    await receiver.group_add("g", channel)
    await sender.group_send("nobody", message(1))
    await arrives(sender, receiver, channel, "g")


async def test_flushall_loses_nothing(redis: Redis, layers: list[RedisChannelLayer]) -> None:
    sender, receiver = layers
    channel = await receiver.new_channel()
    await receiver.group_add("g", channel)
    await arrives(sender, receiver, channel, "g")
    for number in range(50):
        await sender.group_send("g", message(number))
        await redis.flushall()
    assert [(await receiver.receive(channel))["number"] for _ in range(50)] == list(range(50))


async def test_one_shard_that_is_away_leaves_the_groups_of_the_other(
    redis_server: RedisServer, redis_url: str
) -> None:
    sender, receiver = [RedisChannelLayer(hosts=[redis_url, redis_server.url]) for _ in range(2)]
    channel = await receiver.new_channel()
    groups = [f"g{number}" for number in range(20)]
    for group in groups:
        await receiver.group_add(group, channel)
    await sender.group_send_many([(group, message(1)) for group in groups])
    for _ in groups:
        await receiver.receive(channel)
    redis_server.kill()
    alive = [group for group in groups if _shard_of(sender, group) == 0]
    assert 0 < len(alive) < len(groups)
    await until_refused(sender, *groups)
    assert sender.delay is None
    assert {(await receiver.receive(channel))["number"] for _ in alive} == {-1}
    trips = 3 * redis_layer.PER_TRIP
    with pytest.raises(ConnectionError):
        await sender.group_send_many(
            [(groups[number % len(groups)], message(number)) for number in range(trips)]
        )
    expected = [number for number in range(trips) if groups[number % len(groups)] in alive]
    assert [(await receiver.receive(channel))["number"] for _ in expected] == expected
    for layer in (sender, receiver):
        await layer.flush()


def _shard_of(layer: RedisChannelLayer, group: str) -> int:
    inner = layer._get_layer()
    return inner.shards.index(inner._get_shard(inner._get_group_channel_name(group)))


# ---- bounds ----


async def test_a_full_channel_misses_a_message_and_it_is_counted(redis_url: str) -> None:
    layer = RedisChannelLayer(hosts=[redis_url], capacity=2)
    full, other = await layer.new_channel(), await layer.new_channel()
    await layer.group_add("g", full)
    await layer.group_add("g", other)
    for number in range(3):
        await layer.group_send("g", message(number))
        assert (await layer.receive(other))["number"] == number
    assert layer.dropped == 1
    assert [(await layer.receive(full))["number"] for _ in range(2)] == [0, 1]
    await layer.group_send("g", message(3))
    assert (await layer.receive(full))["number"] == 3
    await layer.flush()


async def test_what_waits_is_bounded_in_bytes(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_layer, "MAX_WAITING", 3_000)
    layer = RedisChannelLayer(hosts=[redis_url])
    channel, other = await layer.new_channel(), await layer.new_channel()
    for group, member in (("g", channel), ("g", other)):
        await layer.group_add(group, member)
    for _ in range(5):
        await layer.group_send("g", {"type": "test", "text": b"x" * 1_000})
        await layer.receive(other)
    assert layer.dropped == 3
    for _ in range(2):
        await layer.receive(channel)
    await layer.group_send("g", message(1))
    assert (await layer.receive(channel))["number"] == 1
    await layer.flush()


async def test_a_cancelled_receiver_gives_its_channel_and_groups_up(
    redis_url: str, redis_server: RedisServer, redis: Redis
) -> None:
    layer = RedisChannelLayer(hosts=[redis_server.url])
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    waiting = asyncio.ensure_future(layer.receive(channel))

    async def is_subscribed() -> bool:
        return len(await redis.pubsub_channels()) == 2

    await until(is_subscribed)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    async def is_unsubscribed() -> bool:
        return not await redis.pubsub_channels()

    await until(is_unsubscribed)
    with pytest.raises(RuntimeError):
        await layer.group_add("g", channel)
    await layer.flush()


async def test_a_cancelled_sender_does_not_mix_up_the_answers(redis_url: str) -> None:
    layer = RedisChannelLayer(hosts=[redis_url])
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    sending = [asyncio.ensure_future(layer.group_send("g", message(n))) for n in range(10)]
    await asyncio.sleep(0)
    for task in sending[::2]:
        task.cancel()
    await asyncio.gather(*sending, return_exceptions=True)
    await layer.send(channel, message(-1))
    numbers = []
    while (number := (await layer.receive(channel))["number"]) >= 0:
        numbers.append(number)
    assert set(range(1, 10, 2)) <= set(numbers)
    assert numbers == sorted(numbers)
    await layer.flush()


async def test_a_pause_of_our_own_is_no_silence_of_redis(
    redis: Redis, layers: list[RedisChannelLayer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "REDIS_PING", 0.2)
    pause = 1.5 * timing.REDIS_SILENT_PINGS * timing.REDIS_PING
    layer, _ = layers
    channel = await layer.new_channel()
    await layer.send(channel, message(0))
    connections = (await redis.info("stats"))["total_connections_received"]
    for number in range(1, 5):
        time.sleep(pause)  # noqa: ASYNC251 - the event loop is to stand still
        await layer.send(channel, message(number))
        await asyncio.sleep(0.01)
    assert [(await layer.receive(channel))["number"] for _ in range(5)] == list(range(5))
    assert (await redis.info("stats"))["total_connections_received"] == connections
    assert layer.delay is not None


# ---- the outside ----


async def test_the_stock_layer_and_ours_understand_each_other(redis_url: str, redis: Redis) -> None:
    ours, stock = (kind(hosts=[redis_url]) for kind in (RedisChannelLayer, RedisPubSubChannelLayer))
    for sender, receiver in ((ours, stock), (stock, ours)):
        channel = await receiver.new_channel()
        await receiver.group_add("g", channel)
        await arrives(sender, receiver, channel, "g")
    await stock.flush()
    await ours.flush()


async def test_a_password_is_used_and_never_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer(tmp_path) as server:
        async with contextlib.aclosing(Redis.from_url(server.url)) as client:
            await client.config_set("requirepass", "not-for-logs")
        address = server.url.replace("//", "//:not-for-logs@")
        layer = RedisChannelLayer(hosts=[address])
        channel = await layer.new_channel()
        await layer.send(channel, message(1))
        assert await layer.receive(channel) == message(1)
        wrong = RedisChannelLayer(hosts=[address.replace("-logs", "-log")])
        with pytest.raises(ConnectionError):
            await wrong.group_send("g", message(1))
        server.kill()

        async def is_told() -> bool:
            return f"127.0.0.1:{server.port}" in caplog.text

        await until(is_told)
        assert "not-for" not in caplog.text
        for each in (layer, wrong):
            await each.flush()


async def test_a_unix_socket_will_do(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer(tmp_path, "--unixsocket", str(path)):
        layer = RedisChannelLayer(hosts=[f"unix://{path}"])
        channel = await layer.new_channel()
        await layer.send(channel, message(1))
        assert await layer.receive(channel) == message(1)
        await layer.flush()


async def test_tls_is_spoken_and_certificates_are_looked_at(tmp_path: Path) -> None:
    key, certificate = self_signed(tmp_path)
    port = free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", str(certificate)]
    options += ["--tls-key-file", str(key), "--tls-auth-clients", "no"]
    server = RedisServer(tmp_path, *options)
    try:
        server.start()
    except NoServer as fault:
        pytest.skip(f"a server without TLS: {fault}")
    trusting, other = (
        RedisChannelLayer(hosts=[f"rediss://localhost:{port}/0{query}"])
        for query in (f"?ssl_ca_certs={certificate}", "")
    )
    channel = await trusting.new_channel()
    await trusting.group_add("g", channel)
    await arrives(trusting, trusting, channel, "g")
    with pytest.raises(ConnectionError, match=r"(?i)certificate"):
        await other.group_send("g", message(1))
    for layer in (trusting, other):
        await layer.flush()
    server.stop()


async def test_a_subscription_that_redis_refuses_is_told_and_disturbs_no_other(
    redis: Redis, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    await redis.acl_setuser(
        "relay", enabled=True, nopass=True, commands=["+@all"], channels=["asgispecific*"]
    )
    layer = RedisChannelLayer(hosts=[redis_server.url.replace("//", "//relay:any@")])
    channel = await layer.new_channel()
    await layer.send(channel, message(1))
    await layer.group_add("g", channel)
    await layer.send(channel, message(2))
    assert [(await layer.receive(channel))["number"] for _ in range(2)] == [1, 2]
    assert "refuses to subscribe" in caplog.text
    await layer.flush()
