"""Every page and every file that a browser would ask a real Daphne for, and with what headers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin, urlsplit

import aiohttp
import pytest

from tests.e2e.stand_in import StandIn
from tests.processes import Programs, WebServer

PASSWORD = "correct horse battery staple"
LOGIN = "/admin/login/"
FORBIDDEN = re.compile(r"unsafe-inline|unsafe-eval|\*|https?:")


class Document(HTMLParser):
    """What a page leads to, and what of it a policy without `unsafe-inline` would refuse."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.refused: list[str] = []
        self.token = ""
        self._is_code = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.links += [given[name] for name in ("href", "src") if name in given]
        self._is_code = tag == "script" and given.get("type") not in (
            "application/json",
            "importmap",
        )
        self.refused += [f"{tag} {name}" for name in given if name == "style" or name[:2] == "on"]
        self.refused += [tag] * (tag == "style")
        if given.get("name") == "csrfmiddlewaretoken":
            self.token = given["value"]

    def handle_data(self, data: str) -> None:
        if self._is_code and data.strip():
            self.refused.append(f"script: {data.strip()[:60]}")

    def handle_endtag(self, tag: str) -> None:
        self._is_code = False


def follow(kind: str, text: str) -> Iterator[str]:
    """Yield the addresses that a style sheet or a module asks for."""
    if kind == "text/css":
        yield from re.findall(r'url\(["\']?([^"\')]+)', text)
        yield from re.findall(r'@import ["\']([^"\']+)', text)
    elif kind == "text/javascript":
        yield from re.findall(r'^(?:import|export)\b[^;]*?["\'](\.[^"\']+)["\']', text, re.M)


class Visitor:
    """A browser without a window: asks for a page and everything it leads to."""

    def __init__(self, session: aiohttp.ClientSession, server: WebServer, kind: str) -> None:
        self.kind = kind
        self.root = f"http://{server.host}"
        self.session = session
        self.files: dict[str, str] = {}  # path -> Cache-Control
        self.pages: set[str] = set()

    async def log_in(self) -> None:
        async with self.session.get(self.root + LOGIN) as page:
            token = Document(await page.text()).token
        form = {"username": "root", "password": PASSWORD, "csrfmiddlewaretoken": token}
        async with self.session.post(self.root + LOGIN, data=form, allow_redirects=False) as answer:
            assert answer.status == 302, await answer.text()

    async def crawl(self, *paths: str) -> None:
        """Visit pages and whatever they lead to on this host; fail at the first fault."""
        waiting = [self.root + path for path in paths]
        seen = {*paths}
        while waiting:
            address = waiting.pop(0)
            for found in await self._visit(address):
                target = urldefrag(urljoin(address, found)).url
                is_page = not urlsplit(target).path.startswith("/static/")
                is_ours = target.startswith(self.root + "/") and "/logout/" not in target
                known = (
                    urlsplit(target).path if is_page else target
                )  # lists are sorted in many ways
                if known in seen or not is_ours:
                    continue
                seen.add(known)
                waiting.append(target)

    async def _visit(self, address: str) -> list[str]:
        async with self.session.get(address) as answer:
            assert answer.status == 200, f"{address}: {answer.status}"
            headers, kind = answer.headers, answer.content_type
            assert headers["X-Content-Type-Options"] == "nosniff", address
            assert headers["Referrer-Policy"] == "same-origin", address
            assert "camera=()" in headers["Permissions-Policy"], address
            path = urlsplit(str(answer.url)).path
            if path.startswith("/static/"):
                self.files[path] = headers["Cache-Control"]
                is_text = kind.startswith("text/")
                return list(follow(kind, await answer.text())) if is_text else []
            self.pages.add(address)
            if kind != "text/html":
                assert kind in ("text/javascript", "application/json"), f"{address}: {kind}"
                return []
            policy = headers["Content-Security-Policy"]
            assert "default-src 'self'" in policy, address
            assert not FORBIDDEN.search(policy), f"{address}: {policy}"
            assert headers["X-Frame-Options"] == "DENY", address
            document = Document(await answer.text())
            assert document.refused == [], address
            return document.links


@pytest.fixture(params=["uncollected", "collected"])
async def visitor(
    request: pytest.FixtureRequest, programs: Programs, exchange: StandIn
) -> Iterator[Visitor]:
    programs.copy_project()
    programs.manage("migrate", "--verbosity", "0")
    if request.param == "collected":
        programs.manage("collectstatic", "--noinput", "--verbosity", "0")
    programs.manage(
        *("createsuperuser", "--noinput", "--username", "root", "--email", "r@example.com"),
        DJANGO_SUPERUSER_PASSWORD=PASSWORD,
    )
    server = await programs.daphne(exchange.url)
    jar = aiohttp.CookieJar(unsafe=True)  # an address for a host is unsafe by its rules
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        yield Visitor(session, server, request.param)


async def test_every_page_and_file_is_there_and_guarded(visitor: Visitor) -> None:
    await visitor.crawl("/", "/admin/")
    assert {urlsplit(page).path for page in visitor.pages} <= {"/", "/admin/", LOGIN}
    await visitor.log_in()
    await visitor.crawl("/", "/admin/", "/favicon.ico")
    paths = {urlsplit(page).path for page in visitor.pages}
    assert {"/", "/admin/", "/admin/auth/user/add/", "/admin/relay/livetopic/"} <= paths
    names = {re.sub(r"\.[0-9a-f]{12}(?=\.)", "", path) for path in visitor.files}
    assert {"/static/relay/marketfeed.js", "/static/admin/js/theme.js"} <= names
    if visitor.kind == "collected":
        assert all(re.search(r"\.[0-9a-f]{12}\.", path) for path in visitor.files), visitor.files
        assert all("immutable" in kept for kept in visitor.files.values()), visitor.files
    else:
        assert names == set(visitor.files)
        assert not any("immutable" in kept for kept in visitor.files.values())


async def test_cookies_are_kept_from_scripts_other_sites_and_plain_http(
    programs: Programs, exchange: StandIn
) -> None:
    programs.manage("migrate", "--verbosity", "0")
    programs.manage(
        *("createsuperuser", "--noinput", "--username", "root", "--email", "r@example.com"),
        DJANGO_SUPERUSER_PASSWORD=PASSWORD,
    )
    server = await programs.daphne(exchange.url, "--proxy-headers", HTTPS="on")
    through_proxy = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
    root = f"http://{server.host}"
    async with aiohttp.ClientSession(headers=through_proxy) as session:
        async with session.get(root + LOGIN) as page:
            assert page.status == 200
            assert page.headers["Strict-Transport-Security"] == "max-age=31536000"
            token = Document(await page.text()).token
            given = page.cookies
        form = {"username": "root", "password": PASSWORD, "csrfmiddlewaretoken": token}
        sent = {
            **{"Cookie": f"csrftoken={given['csrftoken'].value}"},
            **{"Origin": f"https://{server.host}", "Referer": f"https://{server.host}{LOGIN}"},
        }
        post = session.post(root + LOGIN, data=form, headers=sent, allow_redirects=False)
        async with post as answer:
            assert answer.status == 302, await answer.text()
            given.update(answer.cookies)
        assert set(given) == {"csrftoken", "sessionid"}
        for cookie in given.values():
            assert (cookie["secure"], cookie["httponly"]) == (True, True), cookie
            assert cookie["samesite"] == "Lax", cookie
    async with (
        aiohttp.ClientSession() as plain,
        plain.get(root + "/", allow_redirects=False) as answer,
    ):
        assert (answer.status, answer.headers["Location"]) == (301, f"https://{server.host}/")
