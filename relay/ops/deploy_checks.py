"""What `manage.py check --deploy` looks at besides values: Redis, the layer, file limits, hosts.

Redis is asked for the settings that lose messages or leadership under load. Managed ones often
refuse to tell; that, and a Redis that is away just now, is worth a note and no more, because
`/readyz` watches whether it is there.

`docs/deployment.md` says what to set and why.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import redis
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.conf import settings
from django.core.checks import CheckMessage, Info, Warning, register
from django.utils.module_loading import import_string
from redis.backoff import NoBackoff
from redis.retry import Retry

from relay import conf
from relay.downstream.outbound.daphne import BOUNDS_INFLATION
from relay.layers.local import LocalChannelLayer

PATIENCE = 2.0  # seconds for Redis to answer
BASE_SIZE = 22_000  # bytes: the state of a book of 500 levels a side, the usual largest
SPARE_FILES = 200  # for other things than clients: libraries, the database, Redis, Python's own
ADVISED_BUFFER = "client-output-buffer-limit pubsub 256mb 64mb 60"


@register(deploy=True)
def check_redis(**kwargs: Any) -> list[CheckMessage]:
    """Ask each Redis for the settings that matter."""
    # Values that cannot be used are relay.E005's.
    return [message for url in conf.read(conf.given())[0].redis_urls for message in _check_one(url)]


def _check_one(url: str) -> list[CheckMessage]:
    name = _name(url)
    try:
        found = _ask(url)
    except redis.AuthenticationError as error:
        hint = "Put the user and the password into REDIS_URL: redis://user:password@host:6379/0."
        return [
            Warning(f"Redis at {name} refuses connections: {error}.", hint=hint, id="relay.W007")
        ]
    except redis.ResponseError as error:
        hint = f"Ask its provider for: {ADVISED_BUFFER}; maxmemory-policy noeviction."
        words = f"Redis at {name} does not tell its settings: {error}."
        return [Info(words, hint=hint, id="relay.I002")]
    except (redis.RedisError, OSError, ValueError) as error:
        hint = "Its settings are unchecked; start it, or correct REDIS_URL, and check again."
        words = f"Redis at {name} cannot be reached: {type(error).__name__}."
        return [Info(words, hint=hint, id="relay.I001")]
    return [*_check_buffer(name, found), *_check_eviction(name, found)]


def _ask(url: str) -> Mapping[str, str]:
    connection = redis.Redis.from_url(
        url,
        socket_timeout=PATIENCE,
        socket_connect_timeout=PATIENCE,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
    try:
        found: dict[str, str] = {}
        for pattern in ("client-output-buffer-limit", "maxmemory", "maxmemory-policy"):
            answer: Any = connection.config_get(pattern)
            found |= answer
        return found
    finally:
        connection.close()


def _check_buffer(name: str, found: Mapping[str, str]) -> list[CheckMessage]:
    """Look whether the states of all topics fit into what Redis keeps for one web process."""
    words = found.get("client-output-buffer-limit", "").split()
    if "pubsub" not in words:
        return []
    hard = int(words[words.index("pubsub") + 1])
    needed = conf.read(conf.given())[0].max_topics * BASE_SIZE
    if hard == 0 or hard >= needed:
        return []
    return [
        Warning(
            f"Redis at {name} cuts a web process off when {_megabytes(hard)} wait for it; the "
            f"states of RELAY_MAX_TOPICS topics take {_megabytes(needed)}.",
            hint=f"Set {ADVISED_BUFFER}, or lower RELAY_MAX_TOPICS.",
            id="relay.W002",
        )
    ]


def _check_eviction(name: str, found: Mapping[str, str]) -> list[CheckMessage]:
    """Look whether Redis may throw away the keys that say who leads."""
    policy = found.get("maxmemory-policy", "noeviction")
    if policy == "noeviction" or found.get("maxmemory", "0") == "0":
        return []
    return [
        Warning(
            f"Redis at {name} may evict the keys that say which worker leads "
            f"(maxmemory-policy {policy}).",
            hint="Set maxmemory-policy noeviction, and give the relay a Redis of its own.",
            id="relay.W003",
        )
    ]


@register(deploy=True)
def check_files(**kwargs: Any) -> list[CheckMessage]:
    """Compare the limit of open files, as it is for this very command, with the clients let in."""
    # The web processes raise the soft limit as far as they may.
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    needed = conf.read(conf.given())[0].max_connections + SPARE_FILES
    if limit in (resource.RLIM_INFINITY, -1) or limit >= needed:
        return []
    return [
        Warning(
            f"A process started from here may open {limit} files; RELAY_MAX_CONNECTIONS needs "
            f"{needed}.",
            hint="Raise the limit (ulimit -Hn, LimitNOFILE=, ulimits:), or lower "
            "RELAY_MAX_CONNECTIONS.",
            id="relay.W004",
        )
    ]


@register(deploy=True)
def check_layer(**kwargs: Any) -> list[CheckMessage]:
    """Look whether the channel layer is one that the relay was made for."""
    if "default" not in getattr(settings, "CHANNEL_LAYERS", {}):
        return []  # which `relay.checks` reports
    backend = settings.CHANNEL_LAYERS["default"].get("BACKEND", "")
    try:
        layer = import_string(backend)
    except ImportError:
        layer = object
    has_redis = bool(conf.read(conf.given())[0].redis_urls)
    if issubclass(layer, RedisPubSubChannelLayer if has_redis else LocalChannelLayer):
        return []
    expected = (
        "a Redis pub/sub layer: several processes meet on nothing else without losing messages"
        if has_redis
        else "the relay's own for one process, as there is no REDIS_URL"
    )
    return [
        Warning(
            f"The channel layer is {backend}; expected {expected}.",
            hint="Set CHANNEL_LAYERS as marketfeed.settings does.",
            id="relay.W005",
        )
    ]


@register(deploy=True)
def check_hosts(**kwargs: Any) -> list[CheckMessage]:
    """Look whether other machines can ask, and only by names of the relay's own."""
    hosts = set(settings.ALLOWED_HOSTS)
    if "*" in hosts:
        words = "ALLOWED_HOSTS takes every name: foreign pages can pass for the relay's own."
    elif hosts <= {"localhost", "127.0.0.1", "[::1]"}:
        words = "ALLOWED_HOSTS names this machine alone: others are answered 400."
    else:
        return []
    hint = "Name the relay as its users do: ALLOWED_HOSTS=feed.example.com."
    return [Warning(words, hint=hint, id="relay.W006")]


@register(deploy=True)
def check_inflation(**kwargs: Any) -> list[CheckMessage]:
    """Look whether compressed messages of clients are bounded by what they inflate to."""
    if BOUNDS_INFLATION or not conf.read(conf.given())[0].compression:
        return []
    words = (
        f"autobahn {version('autobahn')} inflates a compressed message of any size before it looks "
        "at the limit: the relay declines compression."
    )
    hint = "Install the versions in requirements.txt, or set RELAY_COMPRESSION=off."
    return [Warning(words, hint=hint, id="relay.W008")]


def _name(url: str) -> str:
    """Return where a Redis is, without what must stay secret."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.hostname}:{parts.port or 6379}"


def _megabytes(count: int) -> str:
    return f"{count / 2**20:.0f} MB"
