"""relay/ops/deploy_checks.py: what `check --deploy` says of Redis, the layer, files and hosts."""

from __future__ import annotations

import re
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.core import checks

from relay import conf
from relay.ops import deploy_checks
from tests.processes import MANAGE, ROOT, run
from tests.redis_server import RedisServer, free_port

WIDE = ("--client-output-buffer-limit", "pubsub 256mb 64mb 60")
PRODUCTION = {
    "SECRET_KEY": "0123456789abcdefghijklmnopqrstuvwxyz-0123456789-ABCDEFGHI",
    "HTTPS": "on",
    "ALLOWED_HOSTS": "relay.example",
    "RELAY_MAX_CONNECTIONS": "500",  # whatever this machine allows
}


@pytest.fixture(autouse=True)
def production(settings: Any) -> None:
    """Settings with nothing to say about."""
    settings.ALLOWED_HOSTS = ["relay.example"]
    settings.RELAY = {"max_connections": "500"}


def on_redis(settings: Any, *urls: str, **fields: str) -> None:
    settings.RELAY = {"max_connections": "500", "redis_urls": ",".join(urls), **fields}
    settings.CHANNEL_LAYERS = {
        "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer"}
    }


def tell(url: str, *command: str) -> None:
    """Have a Redis carry out one command."""
    with redis.Redis.from_url(url) as connection:
        connection.execute_command(*command)


def messages() -> dict[str, checks.CheckMessage]:
    """Return what `check --deploy` says of the relay, by id."""
    found = checks.run_checks(include_deployment_checks=True)
    return {message.id: message for message in found if (message.id or "").startswith("relay.")}


@pytest.fixture
def redis_with(tmp_path: Path) -> Iterator[Any]:
    """Starts a Redis with given options; returns its address."""
    servers: list[RedisServer] = []

    def start(*options: str) -> str:
        folder = tmp_path / str(len(servers))
        folder.mkdir()
        servers.append(RedisServer(folder, *options))
        servers[-1].start()
        return servers[-1].url

    yield start
    for server in servers:
        server.stop()


def test_nothing_is_said_of_one_process() -> None:
    assert messages() == {}


def test_a_redis_with_the_advised_settings_is_silent(settings: Any, redis_with: Any) -> None:
    on_redis(settings, redis_with(*WIDE, "--maxmemory", "1gb", "--maxmemory-policy", "noeviction"))
    assert messages() == {}


def test_the_stock_buffer_is_too_small_for_five_thousand_topics(
    settings: Any, redis_with: Any
) -> None:
    url = redis_with()
    on_redis(settings, url)
    [message] = messages().values()
    assert (message.id, message.level) == ("relay.W002", checks.WARNING)
    assert "32 MB" in message.msg
    assert deploy_checks.ADVISED_BUFFER in (message.hint or "")
    on_redis(settings, url, max_topics="1000")
    assert messages() == {}


def test_the_settings_that_the_docs_advise_satisfy_the_check(
    settings: Any, redis_with: Any
) -> None:
    text = (ROOT / "docs" / "deployment.md").read_text()
    assert deploy_checks.ADVISED_BUFFER in text
    options: list[str] = []
    for line in text.partition("```conf\n")[2].partition("```")[0].splitlines():
        name, _, value = line.partition(" ")
        options += [f"--{name}", value.strip('"')]
    on_redis(settings, redis_with(*options))
    assert messages() == {}


def test_the_links_of_the_docs_lead_somewhere() -> None:
    docs = ROOT / "docs"
    links = re.findall(r"\]\(([^)#:]+)[^):]*\)", (docs / "deployment.md").read_text())
    assert "../deploy/nginx/marketfeed.conf" in links
    assert [link for link in links if not (docs / link).exists()] == []


@pytest.mark.parametrize("limit", ["0 0 0", "256mb 64mb 60"])
def test_a_wide_or_no_limit_of_the_buffer_is_enough(
    limit: str, settings: Any, redis_with: Any
) -> None:
    on_redis(settings, redis_with("--client-output-buffer-limit", f"pubsub {limit}"))
    assert messages() == {}


def test_an_eviction_policy_is_named_where_memory_is_limited(
    settings: Any, redis_with: Any
) -> None:
    policy = ("--maxmemory-policy", "allkeys-lru")
    on_redis(settings, redis_with(*WIDE, *policy))
    assert messages() == {}
    on_redis(settings, redis_with(*WIDE, *policy, "--maxmemory", "1gb"))
    [message] = messages().values()
    assert message.id == "relay.W003"
    assert "allkeys-lru" in message.msg


def test_every_shard_is_asked(settings: Any, redis_with: Any) -> None:
    urls = [redis_with(*WIDE), redis_with(), redis_with()]
    on_redis(settings, *urls)
    found = checks.run_checks(include_deployment_checks=True)
    assert [m.msg.split()[2] for m in found if m.id == "relay.W002"] == [
        url.removeprefix("redis://").removesuffix("/0") for url in urls[1:]
    ]


def test_a_redis_that_tells_no_settings_is_a_note(settings: Any, redis_with: Any) -> None:
    renamed, guarded = redis_with("--rename-command", "CONFIG", ""), redis_with(*WIDE)
    tell(guarded, "ACL", "SETUSER", "default", "-config")
    for url in (renamed, guarded):
        on_redis(settings, url)
        [message] = messages().values()
        assert (message.id, message.level) == ("relay.I002", checks.INFO)


def test_a_wrong_password_is_a_warning_that_does_not_show_it(
    settings: Any, redis_with: Any
) -> None:
    url = redis_with(*WIDE)
    tell(url, "CONFIG", "SET", "requirepass", "right")
    for given in ("", ":hidden@"):
        on_redis(settings, url.replace("redis://", f"redis://{given}"))
        [message] = messages().values()
        assert (message.id, message.level) == ("relay.W007", checks.WARNING)
        assert "hidden" not in str(message)
    on_redis(settings, url.replace("redis://", "redis://:right@"))
    assert messages() == {}


def test_a_redis_that_is_away_is_a_note_that_does_not_show_the_password(settings: Any) -> None:
    on_redis(settings, f"redis://:hidden@127.0.0.1:{free_port()}/0", "unix:///nowhere/redis.sock")
    found = checks.run_checks(include_deployment_checks=True)
    notes = [m for m in found if m.id == "relay.I001"]
    assert [note.level for note in notes] == [checks.INFO] * 2
    assert "127.0.0.1:" in notes[0].msg
    assert "/nowhere/redis.sock" in notes[1].msg
    assert "hidden" not in str(notes)


def test_a_redis_that_never_answers_holds_the_check_up_for_seconds_only(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy_checks, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        on_redis(settings, f"redis://127.0.0.1:{mute.getsockname()[1]}/0")
        assert list(messages()) == ["relay.I001"]


def test_too_few_files_for_the_clients_are_named(settings: Any) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard in (resource.RLIM_INFINITY, -1) or hard > 9_000_000:
        pytest.skip("this machine sets no limit that could be passed")
    settings.RELAY = {"max_connections": str(hard)}
    [message] = messages().values()
    assert message.id == "relay.W004"
    assert str(hard) in message.msg


@pytest.mark.parametrize(
    "backend",
    [
        "channels.layers.InMemoryChannelLayer",
        "channels_redis.core.RedisChannelLayer",
        "relay.layers.local.LocalChannelLayer",
        "relay.no_such.Layer",
    ],
)
def test_a_layer_on_which_processes_cannot_meet_is_named(
    backend: str, settings: Any, redis_with: Any
) -> None:
    on_redis(settings, redis_with(*WIDE))
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend}}
    [message] = messages().values()
    assert message.id == "relay.W005"
    assert backend in message.msg


def test_the_layers_of_the_settings_themselves_are_right(redis_url: str) -> None:
    for url in ("", redis_url):
        result = run(*MANAGE, "check", "--deploy", **PRODUCTION, REDIS_URL=url)
        assert result.returncode == 0
        assert "relay.W005" not in result.stderr


@pytest.mark.parametrize(
    ("hosts", "is_named"),
    [
        (["localhost", "127.0.0.1", "[::1]"], True),
        ([], True),
        (["*"], True),
        (["localhost", "feed.example.com"], False),
    ],
)
def test_hosts_that_name_nobody_or_everybody_are_named(
    hosts: list[str], is_named: bool, settings: Any
) -> None:
    settings.ALLOWED_HOSTS = hosts
    assert ("relay.W006" in messages()) is is_named


def test_values_that_cannot_be_used_stop_no_other_check(settings: Any) -> None:
    settings.RELAY = {"redis_urls": "what", "max_connections": "many"}
    assert {"relay.E005", "relay.E006"} <= set(messages())


def test_nothing_is_asked_without_deploy(settings: Any) -> None:
    on_redis(settings, f"redis://127.0.0.1:{free_port()}/0")
    found = checks.run_checks()
    assert [m for m in found if (m.id or "").startswith("relay.")] == []


def test_the_command_tells_a_redis_that_is_away_and_ends_well() -> None:
    result = run(
        *(*MANAGE, "check", "--deploy", "--fail-level", "WARNING"),
        **PRODUCTION,
        REDIS_URL=f"redis://127.0.0.1:{free_port()}/0",
    )
    assert result.returncode == 0, result.stderr
    assert "(relay.I001) Redis at 127.0.0.1:" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_command_fails_at_that_level_for_a_stock_redis(redis_url: str) -> None:
    command = (*MANAGE, "check", "--deploy", "--fail-level", "WARNING")
    result = run(*command, **PRODUCTION, REDIS_URL=redis_url)
    assert result.returncode == 1
    assert "(relay.W002)" in result.stderr
    assert conf.VARIABLES["max_topics"] in result.stderr


def test_an_autobahn_that_does_not_bound_inflation_is_told_of(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "relay.W008" not in messages()
    monkeypatch.setattr(deploy_checks, "BOUNDS_INFLATION", False)
    assert "compression" in messages()["relay.W008"].msg
    settings.RELAY = {**settings.RELAY, "compression": "off"}
    assert "relay.W008" not in messages()
