"""What real processes tell Prometheus, and whether dashboard and alerts ask for just that."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Iterator

import pytest
import yaml
from websockets.asyncio.client import ClientConnection

from tests.e2e.client import client
from tests.e2e.scrapes import Samples, scrape, value
from tests.e2e.stand_in import BookFeed, StandIn
from tests.e2e.steps import QUICK, assert_right, following, listed, moves
from tests.processes import MANAGE, PATIENCE, ROOT, Programs, run
from tests.redis_server import free_port

BOOK = BookFeed("BTCUSDT").topic
OF_PROMETHEUS = {"up"}
FROM_SCRAPES = {"job", "instance"}  # labels that Prometheus adds


async def test_the_numbers_are_what_the_exchange_sent_and_the_clients_received(
    exchange: StandIn, programs: Programs
) -> None:
    relay = await programs.daphne(exchange.url, **QUICK)
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    async with (
        following(relay, BOOK) as native,
        following(relay, BOOK, path="/v5/public/linear") as bybit,
    ):
        for one in (native, bybit):
            await assert_right(one, book)
        await moves(exchange, "linear", book, 20)
        for one in (native, bybit):
            await assert_right(one, book)
        assert (await native.ask({"method": "dance"}))["success"] is False
        found = await scrape(relay.host)
        received = [len(one.followers[BOOK].texts) for one in (native, bybit)]
        assert value(found, "upstream_messages_total", category="linear") == 21
        assert value(found, "messages_total") == 21
        assert value(found, "deliveries_total") == sum(received)
        assert value(found, "snapshots_total") == 2
        assert value(found, "clients", door="ws", outbound="fast") == 1
        assert value(found, "clients", door="v5", outbound="fast") == 1
        assert value(found, "subscriptions") == 2
        assert value(found, "topics", category="linear", state="live") == 1
        assert value(found, "upstream_state", category="linear", state="live") == 1
        assert value(found, "worker_topics_confirmed", category="linear") == 1
        assert value(found, "worker_connections_open", category="linear") == 1
        assert value(found, "refusals_total", code="unknown_method") == 1
        assert value(found, "published_to_written_seconds_count") > 0
        assert value(found, "exchange_to_received_seconds_count", category="linear") > 0
        assert value(found, "received_to_published_seconds_count", category="linear") > 0
        assert found["process_resident_memory_bytes", frozenset()] > 10_000_000
    async with asyncio.timeout(PATIENCE):
        while value(found := await scrape(relay.host), "closes_total", code="1000") < 2:
            pass
    assert value(found, "clients", door="ws", outbound="fast") == 0
    assert value(found, "connections_total", door="v5") == 1


def received_by(socket: ClientConnection) -> list[int]:
    """Return a list to which the size of whatever the socket reads from now on is added."""
    sizes: list[int] = []
    take = socket.data_received

    def data_received(data: bytes) -> None:
        sizes.append(len(data))
        take(data)

    socket.data_received = data_received  # type: ignore[method-assign]
    return sizes


@pytest.mark.parametrize("offers", ["deflate", None])
async def test_the_bytes_are_those_on_the_wire(
    exchange: StandIn, programs: Programs, offers: str | None
) -> None:
    relay = await programs.daphne(exchange.url, **QUICK)
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    async with client(relay.url(), compression=offers) as one:
        before = value(await scrape(relay.host), "sent_bytes_total")
        received = received_by(one.socket)
        await one.subscribe(BOOK)
        await moves(exchange, "linear", book, 50)
        await assert_right(one, book)
        sent = value(await scrape(relay.host), "sent_bytes_total") - before
        assert sent == sum(received)


async def test_a_worker_of_its_own_shows_its_part_and_web_processes_theirs(
    exchange: StandIn, programs: Programs, redis_url: str
) -> None:
    address = f"127.0.0.1:{free_port()}"
    web = await programs.daphne(exchange.url, REDIS_URL=redis_url, **QUICK)
    alone = {name for name, _ in await scrape(web.host)}
    assert "marketfeed_upstream_state" in alone
    assert "marketfeed_upstream_epoch" not in alone, "a first leader would look like another one"
    worker = programs.upstream(exchange.url, redis_url, RELAY_METRICS_ADDRESS=address, **QUICK)
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    async with following(web, BOOK) as one:
        await assert_right(one, book)
        await moves(exchange, "linear", book, 5)
        await assert_right(one, book)
        async with asyncio.timeout(PATIENCE):
            while ("marketfeed_layer_delay_seconds", frozenset()) not in await scrape(web.host):
                pass  # until Redis has answered its first ping
        ours, theirs = await scrape(web.host), await scrape(address)
        assert value(theirs, "upstream_messages_total", category="linear") == 6
        assert value(theirs, "worker_leading", category="spot") == 1
        epoch = value(theirs, "worker_epoch", category="linear")
        assert value(ours, "upstream_epoch", category="linear") == epoch > 1_700_000_000_000
        assert value(ours, "layer_up") == 1
        only_theirs = {name for name, _ in theirs} - {name for name, _ in ours}
        assert {"marketfeed_upstream_messages_total", "marketfeed_worker_leading"} <= only_theirs
        asks_for_what_is_there(ours | theirs)
    assert "Traceback" not in worker.output


def test_an_address_that_is_taken_is_said_in_one_sentence(redis_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        ended = run(
            *(*MANAGE, "run_upstream"),
            SECRET_KEY="for-tests-only",
            REDIS_URL=redis_url,
            RELAY_METRICS_ADDRESS=address,
        )
    assert ended.returncode == 2
    assert ended.stderr == f"RELAY_METRICS_ADDRESS {address}: Address already in use.\n"


# ---- dashboard and alerts ----


def expressions() -> Iterator[str]:
    """Yield everything in PromQL that is in `deploy/`."""
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["summary"]
            assert rule["labels"]["severity"] in ("critical", "warning", "info")
            yield rule["expr"]
    dashboard = json.loads((ROOT / "deploy/grafana/marketfeed.json").read_text())
    yield from (
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])
    )
    yield from (annotation["expr"] for annotation in dashboard["annotations"]["list"])
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


def selectors(expression: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the metrics an expression names, with the values it wants of their labels."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(by|on|without)\s*\([^)]*\)", " ", bare)
    for name in re.findall(r"\b(?:[a-z]+_[a-z_]+|up)\b(?!\s*\()", bare):
        yield name, {}
    for name, matchers in re.findall(r"\b([a-z_]+)\s*\{([^}]*)\}", expression):
        yield name, dict(re.findall(r'([a-z_]+)="([^"]*)"', matchers))


def asks_for_what_is_there(samples: Samples) -> None:
    """Compare `deploy/` with everything that the processes of the relay show."""
    names = {name for name, _ in samples}
    asked = {
        (name, frozenset(labels.items()))
        for expression in expressions()
        for name, labels in selectors(expression)
    }
    assert len(asked) > 30
    for name, labels in sorted(asked, key=str):
        if name in OF_PROMETHEUS:
            continue
        assert name in names, f"{name} does not exist"
        wanted = {label for label in labels if label[0] not in FROM_SCRAPES}
        assert any(wanted <= have for known, have in samples if known == name), (name, labels)
    shown = {_family(name) for name in names if name.startswith("marketfeed_")}
    assert shown - {_family(name) for name, _ in asked} == set(), "on no panel and in no alert"


def _family(name: str) -> str:
    return re.sub("_(bucket|count|sum)$", "", name)


def test_selectors_are_read_from_promql() -> None:
    expression = 'quantile_of(0.9, sum by (le) (rate(a_b_bucket{job=~"x",c="d"}[5m]))) > up'
    assert list(selectors(expression)) == [
        ("a_b_bucket", {}),
        ("up", {}),
        ("a_b_bucket", {"c": "d"}),
    ]
