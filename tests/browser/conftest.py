"""What the tests in a real browser share: one browser, and a relay fed by the simulator.

All of them run in one event loop, because a browser belongs to the loop that started it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.browser.chromium import Complaints, Look, chromium, new_page
from tests.processes import Programs, WebServer

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run this folder's asynchronous tests in the browser's loop."""
    for item in items:
        if HERE in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The one browser of a test run."""
    async with chromium() as started:
        yield started


@dataclass(frozen=True, slots=True)
class Relay:
    """A relay and the exchange behind it."""

    programs: Programs
    server: WebServer
    simulator_port: int

    @property
    def url(self) -> str:
        """Of the demo page."""
        return f"http://{self.server.host}/"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def relay(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Relay]:
    """A relay fed by a simulator, shared by the tests of one module."""
    programs = Programs(tmp_path_factory.mktemp("relay"))
    try:
        port = await programs.simulator()
        server = await programs.daphne(f"ws://127.0.0.1:{port}/v5/public")
        yield Relay(programs, server, port)
    finally:
        programs.close()


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """Starts processes of this test's own; none of them outlives it."""
    started = Programs(tmp_path)
    try:
        yield started
    finally:
        started.close()


@pytest.fixture
def look(request: pytest.FixtureRequest) -> Look:
    """How the page is looked at; parametrize it indirectly for another look."""
    return getattr(request, "param", Look())


@pytest_asyncio.fixture(loop_scope="session")
async def _opened(browser: Browser, look: Look) -> AsyncIterator[tuple[Page, Complaints]]:
    async with new_page(browser, look) as opened:
        yield opened


@pytest.fixture
def page(_opened: tuple[Page, Complaints]) -> Page:
    """A fresh page; an error on its console or thrown in it fails the test."""
    return _opened[0]


@pytest.fixture
def complaints(_opened: tuple[Page, Complaints]) -> Complaints:
    """What the page complained of, to allow what a test provokes."""
    return _opened[1]
