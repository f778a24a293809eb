"""The relay's settings: one frozen value, read at call time.

`settings.RELAY` holds what was set, keyed by the fields below: the texts that
`marketfeed/settings.py` found in the environment, or values, such as the numbers of
`override_settings(RELAY={"linger": 0.1})`. A project that mounts the app may leave it out.

They are parsed field by field, so that every wrong value is found and none of them keeps Django
from loading: `faults()` is what the system checks, the commands and the ASGI entry point report.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

import msgspec
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from msgspec import Meta

from relay.lib.settings import Fault, Rule, parse, variables

V5_MAX_TOPICS_PER_CONNECTION = 1_000
"""Topics on one connection to `/v5`, where client libraries expect Bybit's generosity."""

DEFAULT_PREFIX = "marketfeed"

MAX_BODY = 64 * 1024
"""Bytes of an HTTP request's body: forms of the admin have a few thousand."""

# ---- what an address may be ----

# What the address of a whole socket ends with, which people paste from Bybit's documentation.
_ENDS_OF_SOCKETS = frozenset(
    ("spot", "linear", "inverse", "option", "spread", "rfq", "fp", "misc", "status", "private")
)


def _upstream_url(url: str) -> str:
    parts = _split(url, ("ws", "wss"))
    if not parts.hostname or parts.query or parts.fragment or "{" in url:
        raise ValueError
    if parts.path.rstrip("/").rpartition("/")[2].lower() in _ENDS_OF_SOCKETS:
        raise ValueError
    return url.rstrip("/")


def _redis_urls(urls: tuple[str, ...]) -> tuple[str, ...]:
    for url in urls:
        parts = _split(url, ("redis", "rediss", "unix"))
        if not (parts.path if parts.scheme == "unix" else parts.hostname):
            raise ValueError
        database = parts.path.strip("/")
        if parts.scheme != "unix" and database and not database.isdecimal():
            raise ValueError
    return urls


def _origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    if origins == ("*",):
        return origins
    return tuple(map(_allowed_origin, origins))


def _allowed_origin(text: str) -> str:
    if text in ("null", "file://"):
        return "null"
    scheme, separator, host = text.partition("://*.")
    if separator:  # the rest must be an origin's, and no further star
        return f"{scheme}://*.{_plain_origin(f'{scheme}://{host}').partition('://')[2]}"
    return _plain_origin(text)


def _plain_origin(text: str) -> str:
    parts = urlsplit(text)
    if "*" in text or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError
    return normal_origin(text.rstrip("/"))


DEFAULT_PORTS = {"http": 80, "https": 443}


def normal_origin(text: str) -> str:
    """Return an origin as browsers write it: in lower case, and without the scheme's own port.

    Raises:
        ValueError: it is none. Schemes may be those of apps, such as `capacitor`.
    """
    parts = urlsplit(text)
    if not parts.scheme or not parts.hostname or parts.username is not None or text.endswith("/"):
        raise ValueError
    if parts.path or parts.query or parts.fragment or any(map(str.isspace, text)):
        raise ValueError
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    own = DEFAULT_PORTS.get(parts.scheme)
    return f"{parts.scheme}://{host}" + ("" if parts.port in (None, own) else f":{parts.port}")


def _prefix(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", text):
        raise ValueError
    return text


def _metrics_address(address: str) -> str:
    if not address:
        return ""
    parts = _split(f"//{address}" if ":" in address else f"//127.0.0.1:{address}", ("",))
    if not parts.hostname or not parts.port or parts.path or parts.query or "@" in parts.netloc:
        raise ValueError
    return parts.netloc


def _split(url: str, schemes: tuple[str, ...]) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in schemes or any(character.isspace() for character in url):
        raise ValueError
    _ = parts.port  # raises ValueError when it is none
    return parts


# ---- the settings ----

Switch = Annotated[bool, Meta(description="on or off")]
Seconds = Annotated[
    float, Meta(ge=0.01, le=86_400, description="a number of seconds from 0.01 to 86400")
]
Rate = Annotated[float, Meta(ge=0.1, le=1e6, description="a number from 0.1 to 1000000")]
Count = Annotated[int, Meta(ge=1, le=10_000_000, description="a whole number from 1 to 10000000")]
Bytes = Annotated[
    int, Meta(ge=4_096, le=2**30, description="a whole number of bytes from 4096 to 1073741824")
]


def _variable(field: str) -> str:
    bare_names = {"upstream_url": "UPSTREAM_URL", "redis_urls": "REDIS_URL"}
    return bare_names.get(field, f"RELAY_{field.upper()}")


class RelaySettings(msgspec.Struct, frozen=True, kw_only=True, rename=_variable):
    """Everything an operator can set, with its default; times in seconds, sizes in bytes."""

    upstream_url: Annotated[
        str,
        Meta(
            description="a ws:// or wss:// address with a host, without a query and without the "
            "category, which is appended"
        ),
        Rule(_upstream_url, "relay.E004"),
    ] = "wss://stream.bybit.com/v5/public"
    """Base address of the exchange, without a closing slash; `/{category}` is appended."""

    redis_urls: Annotated[
        tuple[str, ...],
        Meta(description="one or more redis://, rediss:// or unix:// addresses, by commas"),
        Rule(_redis_urls, "relay.E005", is_secret=True),
    ] = ()
    """Shards of the channel layer; empty: in memory, with the upstream worker in this process."""

    prefix: Annotated[
        str,
        Meta(description="1 to 40 letters, digits, - or _"),
        Rule(_prefix),
    ] = DEFAULT_PREFIX
    """What the names of this relay's groups and Redis keys begin with. Relays with different ones
    share a Redis without meeting."""

    ping_interval: Seconds = 5.0
    """Between pings on an upstream connection; three unanswered (15 s) replace it."""

    linger: Annotated[
        float, Meta(ge=0, le=86_400, description="a number of seconds from 0 to 86400")
    ] = 10.0
    """From a topic's last reader to its upstream unsubscribe, so that a reload costs nothing."""

    max_topics: Count = 5_000
    """Topics subscribed upstream over all categories: what strangers can make the relay ask for."""

    max_topics_per_connection: Count = 200
    """Topics of one client on `/ws`; `/v5` has `V5_MAX_TOPICS_PER_CONNECTION`."""

    max_connections: Count = 20_000
    """Clients of one web process: about 0.5 GB at 25 KB each."""

    max_connections_per_address: Count = 1_000
    """Clients of one address in one web process; offices and proxies share addresses."""

    requests_per_second: Rate = 20.0
    """Requests of one client, in bursts of five times that."""

    http_requests_per_second: Rate = 50.0
    """HTTP requests of one address, in bursts of ten times that; in the admin one counts as 5."""

    client_buffer: Bytes = 262_144
    """Bytes unsent to one client before its updates are withheld."""

    send_buffer: Bytes = 131_072
    """The kernel's buffer (SO_SNDBUF) per client; left alone it grows to 4 MiB and hides stalls."""

    slow_timeout: Seconds = 30.0
    """A socket with bytes waiting that accepts none for so long is closed."""

    idle_timeout: Seconds = 60.0
    """A connection without a subscription is closed after so long."""

    compression: Switch = True
    """Offer permessage-deflate to clients that ask for it."""

    allowed_origins: Annotated[
        tuple[str, ...],
        Meta(
            description="* or origins such as https://example.com, https://*.example.com, "
            "capacitor://localhost or null, separated by commas"
        ),
        Rule(_origins),
    ] = ()
    """Origins of foreign pages that may connect, or `*`; the page's own host always may.

    `https://*.example.com` stands for all subdomains, `null` (or `file://`) for pages that browsers
    give no origin: files, and also every sandboxed frame."""

    metrics_address: Annotated[
        str,
        Meta(description="a port of 127.0.0.1, or host:port, such as 0.0.0.0:9101"),
        Rule(_metrics_address),
    ] = ""
    """Where `run_upstream` shows its metrics; empty: nowhere. Web processes have `/metrics`."""

    log_format: Annotated[Literal["text", "json"], Meta(description="text or json")] = "text"
    """`text` for people, `json` (one object per line) for collectors."""


VARIABLES: dict[str, str] = variables(RelaySettings)
"""The environment's name of every field."""


def current() -> RelaySettings:
    """Return the settings in force now; `settings.RELAY` is to be replaced, never amended.

    Raises:
        ImproperlyConfigured: a value cannot be used.
    """
    global _latest  # noqa: PLW0603 - the one value parsed last, so that reading costs nothing
    source = given()
    if _latest is None or _latest[0] is not source:
        value, found = read(source)
        if found:
            raise ImproperlyConfigured(sentence(found))
        _latest = (source, value)
    return _latest[1]


_latest: tuple[Mapping[str, Any], RelaySettings] | None = None
_NOTHING: Mapping[str, Any] = {}


def given() -> Mapping[str, Any]:
    """Return `settings.RELAY`: what was set, by field; nothing in a project that has no such."""
    found: Mapping[str, Any] = getattr(settings, "RELAY", _NOTHING)
    return found


def owns_process() -> bool:
    """Return `settings.RELAY_OWNS_PROCESS`: whether a web process is there for the relay alone.

    Then the relay suits the process to its thousands of connections: the garbage collector, the
    limit of open files, and what Daphne and its event loop do. Off unless a project sets it.
    """
    return bool(getattr(settings, "RELAY_OWNS_PROCESS", False))


def faults() -> list[Fault]:
    """List what is wrong in the environment; needs the settings, not a started Django."""
    return [*getattr(settings, "ENVIRONMENT_FAULTS", ()), *read(given())[1]]


def sentence(found: Iterable[Fault]) -> str:
    """Say in one line what is wrong."""
    return f"marketfeed cannot start: {'; '.join(map(str, found))}."


def refuse_to_serve() -> None:
    """End the process with one sentence and status 2 when something is wrong.

    For the ASGI entry point, where an exception would be a traceback.
    """
    if found := faults():
        print(sentence(found), file=sys.stderr)
        raise SystemExit(2)


def read(source: Mapping[str, Any]) -> tuple[RelaySettings, list[Fault]]:
    """Parse `settings.RELAY`, or what is to take its place (see `parse`)."""
    known = {name: given for name, given in source.items() if name in VARIABLES}
    value, found = parse(RelaySettings, known, "relay.E006")
    expected = f"one of {', '.join(VARIABLES)}"
    found += [
        Fault(f"RELAY[{name!r}]", expected, "an unknown field", "relay.E006")
        for name in source
        if name not in VARIABLES
    ]
    return value, found


def nearest(name: str) -> str:
    """Return the variable that `name` most likely stands for, or nothing."""
    # Without the prefix, which would make every name resemble every other.
    bare = {variable.removeprefix("RELAY_"): variable for variable in VARIABLES.values()}
    close = difflib.get_close_matches(name.removeprefix("RELAY_"), bare, n=1)
    return bare[close[0]] if close else ""
