"""The pages under their Content-Security-Policy, as collected: the browser refuses nothing.

What the browser refuses it writes to the console, which fails a test by itself (`page`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser.chromium import Complaints
from tests.browser.conftest import Relay
from tests.e2e.operators import LIVE
from tests.processes import Programs

PASSWORD = "correct horse battery staple"
ADMIN = (
    "/admin/",
    "/admin/auth/user/",
    "/admin/auth/user/add/",
    "/admin/auth/user/1/change/",
    "/admin/auth/user/1/history/",
    "/admin/auth/group/add/",
    "/admin/password_change/",
    LIVE,
    "/admin/relay/livetopic/pin/?category=linear&topic=tickers.BTCUSDT",
    "/admin/relay/pinnedtopic/",
    "/admin/relay/pinnedtopic/add/",
)


@pytest_asyncio.fixture(loop_scope="session")
async def collected(tmp_path: Path) -> AsyncIterator[Relay]:
    """A relay whose static files were collected, with one superuser."""
    programs = Programs(tmp_path)
    try:
        programs.copy_project()
        programs.manage("migrate", "--verbosity", "0")
        programs.manage("collectstatic", "--noinput", "--verbosity", "0")
        programs.manage(
            *("createsuperuser", "--noinput", "--username", "root", "--email", "r@example.com"),
            DJANGO_SUPERUSER_PASSWORD=PASSWORD,
        )
        port = await programs.simulator()
        server = await programs.daphne(f"ws://127.0.0.1:{port}/v5/public")
        yield Relay(programs, server, port)
    finally:
        programs.close()


async def test_the_browser_refuses_nothing_of_our_own_pages(page: Page, collected: Relay) -> None:
    root = f"http://{collected.server.host}"
    await page.goto(root)
    await expect(page.locator("[data-state=live]").first).to_be_visible()
    await page.goto(root + "/admin/")
    await page.fill("#id_username", "root")
    await page.fill("#id_password", PASSWORD)
    await page.click("[type=submit]")
    await expect(page.locator("#user-tools")).to_be_visible()
    for path in ADMIN:
        answer = await page.goto(root + path, wait_until="load")
        assert answer is not None
        assert answer.status == 200, path
        if path == LIVE:  # a socket that is left while it connects is a complaint of its own
            await expect(page.locator("#live")).to_have_attribute("data-age", "fresh")


@pytest.mark.parametrize("path", ["/", "/admin/login/"])
async def test_the_browser_refuses_what_is_smuggled_in(
    page: Page, complaints: Complaints, relay: Relay, path: str
) -> None:
    complaints.allow("Content Security Policy")
    await page.goto(f"http://{relay.server.host}{path}")
    await page.evaluate(
        """() => {
            window.smuggled = [];
            const script = document.createElement("script");
            script.textContent = "window.smuggled.push('inline')";
            document.body.append(script);
            const holder = document.createElement("div");
            holder.innerHTML = '<img src="data:," onerror="window.smuggled.push(\\'handler\\')">';
            document.body.append(holder);
            const foreign = document.createElement("script");
            foreign.src = "http://127.0.0.2:9/x.js";
            return new Promise((settled) => {
                foreign.onerror = () => setTimeout(settled, 200);
                document.body.append(foreign);
            });
        }"""
    )
    assert await page.evaluate("window.smuggled") == []
