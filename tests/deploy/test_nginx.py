"""deploy/nginx/marketfeed.conf in Debian's nginx: TLS, addresses, close codes, what is private."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from daphne.cli import CommandLineInterface

from tests.deploy import units
from tests.deploy.nginx import FOLDER, Nginx
from tests.e2e.client import Client, client
from tests.e2e.stand_in import BookFeed, StandIn
from tests.e2e.steps import QUICK, assert_right, listed, moves
from tests.processes import DAPHNE, PATIENCE, ROOT, Program, Programs, until
from tests.redis_server import RedisServer, free_port

PROXIED = "https://localhost"


class Site:
    """nginx and the web processes behind it."""

    def __init__(self, programs: Programs, nginx: Nginx, webs: list[Program]) -> None:
        self.programs = programs
        self.nginx = nginx
        self.webs = webs

    def url(self, path: str = "/ws") -> str:
        return f"wss://localhost:{self.nginx.port}{path}"

    def client(self, path: str = "/ws", source: str = "127.0.0.1", **options: Any) -> Any:
        """Connect from a given address of this machine."""
        options = {"ssl": self.nginx.tls, "local_addr": (source, 0), "host": "127.0.0.1"} | options
        return client(self.url(path), port=self.nginx.port, **options)

    async def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
        return await asyncio.to_thread(self._get, path, headers)

    async def until_ready(self, is_ready: bool) -> str:
        """Return what `/readyz` says when it agrees; a busy machine may take it a moment."""
        for _ in range(600):
            status, _, body = await self.get("/readyz")
            if status == (200 if is_ready else 503):
                assert json.loads(body)["ready"] is is_ready
                return body
            await asyncio.sleep(0.1)
        raise AssertionError(f"/readyz still says {body}")

    def _get(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], str]:
        connection = http.client.HTTPSConnection(
            "localhost", self.nginx.port, timeout=20, context=self.nginx.tls
        )
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, told, answer.read().decode()
        finally:
            connection.close()


@pytest.fixture
def serve(
    programs: Programs, nginx: Nginx, exchange: StandIn, redis_url: str
) -> Callable[..., Any]:
    """Starts web processes with ports of their own, one worker, and nginx before them."""

    async def start(
        count: int = 1, options: tuple[str, ...] = ("--proxy-headers",), **given: str
    ) -> Site:
        more, static = given.pop("more", ""), given.pop("static", "")
        variables = {"UPSTREAM_URL": exchange.url, "REDIS_URL": redis_url, **QUICK, **given}
        units.worker(programs, "1", **variables)
        ports = [free_port() for _ in range(count)]
        webs = [
            programs.start(
                *("web", DAPHNE, "-e", f"tcp:port={port}:backlog=4096:interface=127.0.0.1"),
                *(*options, "marketfeed.asgi:application"),
                **variables,
            )
            for port in ports
        ]
        for web, port in zip(webs, ports, strict=True):
            await programs.listening(web, port)
        upstreams = [f"127.0.0.1:{port}" for port in ports]
        await nginx.site(*upstreams, more=more, static=Path(static) if static else None)
        return Site(programs, nginx, webs)

    return start


async def come_and_go(site: Site, source: str, **options: Any) -> int | None:
    """Return the code that a newcomer is closed with, None if it is let in."""
    async with site.client(source=source, **options) as one:
        reply = asyncio.ensure_future(one.ask({"method": "ping"}))
        closed = asyncio.ensure_future(one.until(lambda: one.code is not None))
        await asyncio.wait([reply, closed], return_when=asyncio.FIRST_COMPLETED)
        for task in (reply, closed):
            task.cancel()
        await asyncio.gather(reply, closed, return_exceptions=True)
        code: int | None = one.code
        return code


async def test_the_whole_house_of_units_serves_right_books_behind_nginx(
    exchange: StandIn, programs: Programs, nginx: Nginx, redis_url: str
) -> None:
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    variables = {"UPSTREAM_URL": exchange.url, "REDIS_URL": redis_url, **QUICK}
    for name in "12":
        units.worker(programs, name, **variables)
    with units.listener() as shared:
        webs = []
        for name in "12":
            port = free_port()
            web = units.web(programs, shared, name, port, **variables)
            webs.append(await programs.listening(web, port))
        await nginx.site(f"127.0.0.1:{shared.getsockname()[1]}")
        site = Site(programs, nginx, webs)
        async with AsyncExitStack() as stack:
            clients: list[Client] = []
            for path in ("/ws", "/v5/public/linear") * 4:
                clients.append(await stack.enter_async_context(site.client(path)))
                await clients[-1].subscribe(book.topic)
            await moves(exchange, "linear", book, 5)
            for one in clients:
                await assert_right(one, book)
            assert exchange.asked("subscribe", book.topic) == 1
            for web in webs:
                web.signal(signal.SIGTERM)
            for one in clients:
                assert await one.until_closed() == 4200


async def test_two_upstreams_share_the_clients_and_one_of_them_suffices(
    serve: Callable[..., Any], exchange: StandIn
) -> None:
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    site = await serve(2)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(site.client()) for _ in range(6)]
        for one in clients:
            await one.subscribe(book.topic)
        site.webs[0].signal(signal.SIGTERM)
        assert await site.webs[0].end() == 0
        await until(
            lambda: sum(c.code is not None for c in clients) == 3, PATIENCE, "half is closed"
        )
        assert [c.code for c in clients if c.code is not None] == [4200] * 3
        kept = [one for one in clients if one.code is None]
        for _ in range(3):
            kept.append(await stack.enter_async_context(site.client()))
            await kept[-1].subscribe(book.topic)
        await moves(exchange, "linear", book, 3)
        for one in kept:
            await assert_right(one, book)


async def test_the_limit_of_an_address_counts_the_true_client(serve: Callable[..., Any]) -> None:
    site = await serve(RELAY_MAX_CONNECTIONS_PER_ADDRESS="2")
    forged = {"additional_headers": {"X-Forwarded-For": "203.0.113.7"}}
    async with site.client(source="127.0.0.2") as one, site.client(source="127.0.0.2") as two:
        for each in (one, two):
            assert await each.ask({"method": "ping"}) == {"method": "pong"}
        assert await come_and_go(site, "127.0.0.2") == 4100
        assert await come_and_go(site, "127.0.0.2", **forged) == 4100
        assert await come_and_go(site, "127.0.0.3") is None
        # Nor can one client fill the place of another.
        taken = {"additional_headers": {"X-Forwarded-For": "127.0.0.4"}}
        async with (
            site.client(source="127.0.0.3", **taken) as third,
            site.client(source="127.0.0.3", **taken),
        ):
            assert await third.ask({"method": "ping"}) == {"method": "pong"}
            assert await come_and_go(site, "127.0.0.4") is None
            assert await come_and_go(site, "127.0.0.3") == 4100


async def test_a_daphne_without_proxy_headers_shuts_nobody_out(serve: Callable[..., Any]) -> None:
    site = await serve(options=(), RELAY_MAX_CONNECTIONS_PER_ADDRESS="2")
    async with AsyncExitStack() as stack:
        for _ in range(5):
            one = await stack.enter_async_context(site.client(source="127.0.0.2"))
            assert await one.ask({"method": "ping"}) == {"method": "pong"}
    assert site.webs[0].output.count("start daphne with --proxy-headers") == 1


@pytest.mark.parametrize("options", [("--proxy-headers",), ()])
async def test_over_a_unix_socket_the_limit_counts_the_true_client_or_nobody(
    options: tuple[str, ...],
    programs: Programs,
    nginx: Nginx,
    exchange: StandIn,
    tmp_path: Path,
) -> None:
    path = tmp_path / "web.sock"
    web = programs.start(
        *("web", DAPHNE, "-e", f"unix:{path}:backlog=4096", *options),
        "marketfeed.asgi:application",
        UPSTREAM_URL=exchange.url,
        RELAY_MAX_CONNECTIONS_PER_ADDRESS="1",
    )
    await until(path.exists, PATIENCE, "the socket is there")
    await nginx.site(f"unix:{path}")
    site = Site(programs, nginx, [web])
    async with site.client(source="127.0.0.2") as one:
        assert await one.ask({"method": "ping"}) == {"method": "pong"}
        assert await come_and_go(site, "127.0.0.2") == (4100 if options else None)
        assert await come_and_go(site, "127.0.0.3") is None


async def test_a_trusted_proxy_in_front_tells_the_address_and_nobody_else(
    serve: Callable[..., Any],
) -> None:
    more = "set_real_ip_from 127.0.0.9; real_ip_header X-Forwarded-For; real_ip_recursive on;"
    site = await serve(more=more, RELAY_MAX_CONNECTIONS_PER_ADDRESS="1")

    def told(*addresses: str) -> dict[str, Any]:
        return {"additional_headers": {"X-Forwarded-For": ", ".join(addresses)}}

    async with site.client(source="127.0.0.9", **told("198.51.100.1", "203.0.113.7")) as one:
        assert await one.ask({"method": "ping"}) == {"method": "pong"}
        same = told("192.0.2.200", "203.0.113.7")  # what the client itself forged comes first
        assert await come_and_go(site, "127.0.0.9", **same) == 4100
        assert await come_and_go(site, "127.0.0.9", **told("203.0.113.8")) is None
        assert await come_and_go(site, "127.0.0.2", **told("203.0.113.7")) is None


async def test_close_codes_arrive_unchanged(serve: Callable[..., Any]) -> None:
    site = await serve(RELAY_MAX_CONNECTIONS="1", RELAY_IDLE_TIMEOUT="5")
    async with site.client("/ws?category=stocks") as one:
        assert await one.until_closed() == 4000
    async with site.client("/v5/public/nowhere") as one:
        assert await one.until_closed() == 4000
    async with site.client(origin="https://elsewhere.example") as one:
        assert await one.until_closed() == 4003
    async with site.client() as one:
        assert await come_and_go(site, "127.0.0.1") == 4100
        assert await one.until_closed() == 4002
    async with site.client() as one:
        await one.socket.send("x" * 9_000)
        assert await one.until_closed() == 1009
    async with site.client() as one:
        site.webs[0].signal(signal.SIGTERM)
        assert await one.until_closed() == 4200


async def test_a_page_of_the_sites_own_may_connect(serve: Callable[..., Any]) -> None:
    site = await serve(HTTPS="on")
    async with site.client(origin=f"{PROXIED}:{site.nginx.port}") as one:
        assert await one.ask({"method": "ping"}) == {"method": "pong"}


async def test_pages_health_and_static_files_answer_and_metrics_are_private(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    collected = ROOT / "relay" / "static"  # what a collected folder would hold
    site = await serve(HTTPS="on", static=str(collected))
    await site.until_ready(True)
    for path in ("/", "/healthz"):
        status, headers, _ = await site.get(path)
        assert status == 200, path  # and no redirect to https: Django knows that it is
    status, headers, _ = await site.get("/static/relay/marketfeed.js")
    assert status == 200
    assert "javascript" in headers["content-type"]
    assert headers["access-control-allow-origin"] == "*"
    status, _, _ = await site.get("/metrics")
    assert status == 404
    status, headers, _ = await site.get("/admin/", **{"Daphne-Root-Path": "/elsewhere"})
    assert headers["location"].startswith("/admin/login/")


async def test_plain_http_is_sent_to_https(serve: Callable[..., Any]) -> None:
    site = await serve()

    def ask() -> tuple[int, str | None]:
        connection = http.client.HTTPConnection("127.0.0.1", site.nginx.plain, timeout=20)
        connection.request("GET", "/ws?x=1", headers={"Host": "localhost"})
        answer = connection.getresponse()
        connection.close()
        return answer.status, answer.getheader("location")

    assert await asyncio.to_thread(ask) == (308, "https://localhost/ws?x=1")


async def test_readiness_is_the_web_processes_own(
    serve: Callable[..., Any], redis_server: RedisServer
) -> None:
    site = await serve(REDIS_URL=redis_server.url)
    for program in site.programs.started:
        program.may_complain = True  # of a Redis that is away
    await site.until_ready(True)
    await asyncio.to_thread(redis_server.stop)
    assert "redis" in await site.until_ready(False)
    assert (await site.get("/healthz"))[0] == 200


def test_nginx_waits_for_several_pings_of_daphne() -> None:
    text = (FOLDER / "marketfeed-locations.conf").read_text()
    [timeout] = re.findall(r"proxy_read_timeout (\d+)s;", text)
    assert "--ping-interval" not in units.one("marketfeed-web@.service", "Service.ExecStart")
    ping = CommandLineInterface().parser.get_default("ping_interval")
    assert int(timeout) > 3 * ping
