"""marketfeed/front.py: what strangers are answered by HTTP, and what of it reaches Django."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from marketfeed.front import COST_OF_DJANGO, STRANGERS_BURST, Front
from marketfeed.kept_pages import PAGES_KEPT
from relay import conf
from relay.web import query, readiness
from tests.http import Site, get
from tests.processes import PATIENCE

PROBES = ["/healthz", "/readyz", "/metrics"]
PAGES = ["/", "/symbols.json", "/favicon.ico"]
LOGIN = "/admin/login/"


# What does not reach Django.


@pytest.mark.parametrize(
    "path", ["/nothing", "/ws", "/v5/public/linear", "/nothing/", "/static/no"]
)
async def test_a_path_that_does_not_exist_never_reaches_django(path: str) -> None:
    site = Site()
    status, headers, _ = await site.get(path)
    assert (status, headers["x-content-type-options"]) == (404, "nosniff")
    assert site.rendered == []


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_for_everybody_is_rendered_once_whatever_the_query(path: str) -> None:
    site = Site()
    first = await site.get(path)
    assert first[0] in (200, 302)
    assert "public" in first[1]["cache-control"]
    for number in range(20):
        assert await site.get(f"{path}?x={number}", cookie=f"sessionid={number}") == first
    assert site.rendered == [path]


async def test_strangers_who_come_at_once_share_one_rendering() -> None:
    site = Site()
    answers = await asyncio.gather(*(site.get("/") for _ in range(20)))
    assert len(site.rendered) == 1
    assert answers == [answers[0]] * 20


async def test_neither_names_of_the_host_nor_origins_make_renderings(settings: Any) -> None:
    settings.ALLOWED_HOSTS = [".example.com"]
    settings.RELAY = {"allowed_origins": "*"}
    site = Site()
    for number in range(50):
        host, origin = f"{number}.example.com", f"https://{number}.example.com"
        assert (await site.get("/symbols.json", host=host))[0] == 200
        _, headers, _ = await site.get("/symbols.json", host=host, origin=origin)
        assert headers["access-control-allow-origin"] == origin
        assert "Origin" in headers["vary"]
    assert site.rendered == ["/symbols.json"] * 2


async def test_a_foreign_page_is_not_told_that_it_may_read() -> None:
    _, headers, _ = await get("/symbols.json", origin="https://evil.example")
    assert "access-control-allow-origin" not in headers


async def test_few_renderings_are_kept_whatever_is_written_into_a_request() -> None:
    site = Site()
    for number in range(2 * PAGES_KEPT):
        await site.get("/", root=f"/{number}", address=None)  # Daphne-Root-Path, with no proxy
    assert len(site._front._pages) == PAGES_KEPT


async def test_an_error_of_a_page_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError

    site = Site()
    with monkeypatch.context() as broken:
        broken.setattr(query, "live_readers", fail)
        assert (await site.get("/symbols.json"))[0] == 500
    assert (await site.get("/symbols.json"))[0] == 200


async def test_a_host_of_others_is_refused_and_logged_a_few_times(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = Site()
    for number in range(200):
        for path in ("/", LOGIN):
            host = f"10.1.{number}.3:8000"
            assert (await site.get(path, host=host, address=None))[0] == 400
    assert site.rendered == []
    lines = [record.message for record in caplog.records]
    assert 1 <= len(lines) <= 20
    assert "'10.1.0.3:8000', which is not in ALLOWED_HOSTS" in lines[0]


async def test_https_is_asked_for_without_django(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    site = Site()
    status, headers, _ = await site.get("/admin/login/?next=/admin/%20x")
    assert (status, headers["location"]) == (301, "https://localhost/admin/login/?next=/admin/%20x")
    assert (await site.get(LOGIN, scheme="https"))[0] == 200
    assert site.rendered == [LOGIN]


async def test_a_path_without_its_slash_is_led_to_the_one_with_it() -> None:
    status, headers, _ = await get("/admin")
    assert (status, headers["location"]) == (301, "/admin/")


# Methods.


@pytest.mark.parametrize("path", [*PAGES, *PROBES, "/static/relay/marketfeed.js"])
async def test_what_is_for_everybody_answers_get_head_and_options_alone(path: str) -> None:
    site = Site()
    status, headers, _ = await site.get(path)
    assert status in (200, 302)
    head = await site.get(path, "HEAD")
    assert (head[0], head[2]) == (status, b"")
    if path != "/metrics":  # which has grown meanwhile
        assert head[1]["content-length"] == headers["content-length"]
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        status, headers, _ = await site.get(path, method)
        assert (status, headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    status, headers, body = await site.get(path, "OPTIONS")
    assert (status, headers["allow"], body) == (204, "GET, HEAD, OPTIONS", b"")


# Limits.


async def test_an_address_is_answered_429_above_its_burst_and_told_when_to_return(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.RELAY = {"http_requests_per_second": 0.1}
    site = Site()
    assert (await site.get("/nothing"))[0] == 404
    for _ in range(3):
        status, headers, _ = await site.get("/nothing")
        assert (status, headers["retry-after"]) == (429, "10")
    assert (await site.get("/nothing", address="203.0.113.8"))[0] == 404
    assert (await site.get("/nothing", address=None))[0] == 404  # a Unix socket
    [record] = caplog.records
    assert record.message.startswith("203.0.113.7 sends more HTTP requests")


@pytest.mark.parametrize("path", [*PROBES, "/healthz/"])
async def test_probes_are_never_limited(settings: Any, path: str) -> None:
    settings.RELAY = {"http_requests_per_second": 0.1}
    site = Site()
    assert [(await site.get(path))[0] for _ in range(5)] == [200] * 5


async def test_a_request_to_the_admin_is_dear(settings: Any) -> None:
    settings.RELAY = {"http_requests_per_second": 2 * COST_OF_DJANGO / 10}
    site = Site()
    assert [(await site.get(LOGIN))[0] for _ in range(3)] == [200, 200, 429]


async def test_all_addresses_of_an_ipv6_network_share_one_limit(settings: Any) -> None:
    settings.RELAY = {"http_requests_per_second": "1"}
    site = Site()
    answers = [
        (await site.get("/nothing", address=f"2001:db8::{number:x}"))[0] for number in range(1, 12)
    ]
    assert answers == [404] * 10 + [429]
    assert (await site.get("/nothing", address="2001:db8:0:1::1"))[0] == 404


async def test_all_strangers_together_can_ask_the_admin_for_little() -> None:
    site = Site()
    addresses = [f"203.0.113.{n}" for n in range(100)]
    found = [(await site.get(LOGIN, address=address))[0] for address in addresses]
    assert found[: int(STRANGERS_BURST)] == [200] * int(STRANGERS_BURST)
    assert 503 in found
    assert len(site.rendered) < 100
    with_session = await site.get(LOGIN, cookie="sessionid=x", address="203.0.113.200")
    assert with_session[0] == 200


@pytest.mark.parametrize("length", [str(conf.MAX_BODY + 1), "9" * 100, "-1", "x"])
async def test_a_body_that_is_said_to_be_too_long_never_reaches_django(length: str) -> None:
    site = Site()
    status, _, _ = await site.get(LOGIN, "POST", content_length=length)
    assert (status, site.rendered) == (413, [])


async def test_django_is_given_no_more_of_a_body_than_is_allowed() -> None:
    given: list[Any] = []

    async def django(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "http.request":
            given.append(message["body"])

    async def receive() -> Any:  # a client that sends for ever, and says no length
        return {"type": "http.request", "body": b"x" * 10_000, "more_body": True}

    async def send(message: Any) -> None: ...

    scope = {
        "type": "http",
        "method": "POST",
        "path": LOGIN,
        "root_path": "",
        "scheme": "http",
        "headers": [(b"host", b"localhost")],
        "client": ["203.0.113.7", 1],
    }
    async with asyncio.timeout(PATIENCE):
        await Front(django)(scope, receive, send)
    assert sum(map(len, given)) == conf.MAX_BODY // 10_000 * 10_000


async def test_a_flood_of_addresses_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marketfeed.front.ADDRESSES", 50)
    site = Site()
    for number in range(500):
        await site.get("/nothing", address=f"10.0.{number // 250}.{number % 250}")
    assert len(site._front._requests) == 50


# Probes.


@pytest.mark.parametrize(
    "path", [*PROBES, "/healthz/", "/readyz?x=1", "http://feed.example.com/healthz"]
)
@pytest.mark.parametrize("host", ["10.1.2.3:8000", "[fd00::1]", "feed.internal", "not a host", ""])
async def test_probes_may_call_the_host_by_any_name(settings: Any, path: str, host: str) -> None:
    settings.SECURE_SSL_REDIRECT = True
    site = Site()
    status, headers, _ = await site.get(path, host=host)
    assert status == 200
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert site.rendered == []


async def test_healthz_answers_ok_while_the_process_lives() -> None:
    status, headers, body = await get("/healthz")
    assert (status, body) == (200, b"ok\n")
    assert headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ({"ready": True, "faults": []}, 200),
        ({"ready": False, "faults": [{"what": "redis", "for_seconds": 7.5}]}, 503),
    ],
)
async def test_readyz_answers_by_what_is_known_and_says_it(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], status: int
) -> None:
    monkeypatch.setattr(readiness, "readiness", lambda: found)
    answer = await get("/readyz")
    assert (answer[0], json.loads(answer[2])) == (status, found)


async def test_prometheus_is_answered_as_text_that_nobody_stores() -> None:
    status, headers, body = await get("/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert b"marketfeed_deliveries_total" in body


# Below a path.


@pytest.mark.parametrize("cut", [True, False], ids=["cut-by-the-proxy", "kept-by-the-proxy"])
async def test_a_root_path_may_be_cut_or_kept_by_the_proxy(cut: bool) -> None:
    site = Site()
    for path in (*PAGES, *PROBES, LOGIN, "/static/relay/marketfeed.js"):
        status, _, _ = await site.get(path if cut else f"/feed{path}", root="/feed")
        assert status in (200, 302), path
    assert (await site.get("/feeder/healthz", root="/feed"))[0] == 404


async def test_links_of_a_page_lead_below_the_root_path() -> None:
    _, _, page = await get("/feed/", root="/feed")
    assert b'src="/feed/static/relay/demo/page.js"' in page
    assert b'data-symbols="/feed/symbols.json"' in page
