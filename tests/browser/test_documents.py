"""The documents' program for web pages, as printed, in a page of the relay."""

from __future__ import annotations

import re

from playwright.async_api import ConsoleMessage, Page, Route

from tests.browser.conftest import Relay
from tests.docs.documents import blocks

LIVE = re.compile(r"live \d+\.\d+ \d+\.\d+")


async def test_the_program_of_the_documents_prints_a_book_that_moves(
    page: Page, relay: Relay
) -> None:
    [program] = blocks("js").values()

    async def answer(route: Route) -> None:
        await route.fulfill(body=program.text, content_type="text/javascript")

    await page.route("**/example.js", answer)
    await page.goto(f"{relay.url}healthz")  # a page of the relay that has no program of its own
    seen: set[str] = set()

    def has_moved(message: ConsoleMessage) -> bool:
        if LIVE.fullmatch(message.text):
            seen.add(message.text)
        return len(seen) > 1

    async with page.expect_console_message(has_moved):
        await page.add_script_tag(url="/example.js", type="module")
