"""A real browser for tests: Debian's Chromium, driven by Playwright.

Playwright's own downloads are not needed. Where there is no Chromium tests skip, in CI they fail.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

HERE = Path(__file__).parent
SCREENSHOTS = HERE.parents[1] / "docs" / "screenshots"
AXE = HERE / "vendor" / "axe.min.js"
PATIENCE = 60_000  # ms until something that must be seen is missing, on a busy machine
expect.set_options(timeout=PATIENCE)
OPTIONS = (
    "--disable-background-networking",  # nothing leaves the machine
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)


@dataclass(frozen=True, slots=True)
class Look:
    """How a page is looked at: `@pytest.mark.parametrize("look", [...], indirect=True)`."""

    scheme: Literal["light", "dark"] = "light"
    width: int = 1440
    height: int = 900
    motion: Literal["no-preference", "reduce"] = "no-preference"

    def __str__(self) -> str:
        return f"{self.scheme}-{self.width}"


LOOKS = [
    Look(scheme, width, height)
    for scheme in ("light", "dark")
    for width, height in ((1440, 900), (390, 844))
]
"""Both schemes on a desk and on a phone: what the screenshots show."""


def executable() -> str:
    """Return the path of Chromium; a skip where there is none, a failure in CI."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    reason = "Chromium is not installed, so the pages are not tested in a browser"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run one browser without a window."""
    arguments = [*OPTIONS, "--no-sandbox"] if os.geteuid() == 0 else list(OPTIONS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable(), args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


class Complaints:
    """What a page wrote to its console as an error, and what it threw; both fail the test."""

    def __init__(self, page: Page) -> None:
        self._said: list[str] = []
        self._allowed: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self._said.append(f"thrown: {error}"))

    def allow(self, pattern: str) -> None:
        """Expect complaints that match: the browser itself reports each refused connection."""
        self._allowed.append(pattern)

    def check(self) -> None:
        """Fail if the page complained of anything that was not allowed."""
        left = [one for one in self._said if not any(re.search(p, one) for p in self._allowed)]
        assert not left, left

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._said.append(f"{message.text} ({message.location.get('url')})")


@asynccontextmanager
async def new_page(browser: Browser, look: Look) -> AsyncIterator[tuple[Page, Complaints]]:
    """Open a page with cookies and a look of its own; its complaints are checked at the end."""
    context = await browser.new_context(
        viewport={"width": look.width, "height": look.height},
        color_scheme=look.scheme,
        reduced_motion=look.motion,
        locale="en-GB",
        timezone_id="UTC",
        has_touch=look.width < 600,
    )
    context.set_default_timeout(PATIENCE)
    try:
        page = await context.new_page()
        complaints = Complaints(page)
        yield page, complaints
        complaints.check()
    finally:
        await context.close()


async def faults_of(page: Page, *, impacts: tuple[str, ...] = ("serious", "critical")) -> list[str]:
    """Return what axe-core finds wrong with the page as it is, each with where and why."""
    await page.evaluate(AXE.read_text() + "; undefined")
    found: dict[str, Any] = await page.evaluate("axe.run({ resultTypes: ['violations'] })")
    return [
        f"{violation['impact']} {violation['id']}: {node['target']} {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in impacts
        for node in violation["nodes"]
    ]


async def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    width: int = await page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return width


async def screenshot(page: Page, name: str) -> None:
    """Keep a picture in `docs/screenshots`, only when SCREENSHOTS is set in the environment."""
    if os.environ.get("SCREENSHOTS"):
        SCREENSHOTS.mkdir(exist_ok=True)
        await page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")
