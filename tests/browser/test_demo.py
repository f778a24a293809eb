"""The demo page in a real browser, on a relay fed by the simulator."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.browser.chromium import LOOKS, faults_of, overflow
from tests.browser.conftest import Relay


@pytest.mark.parametrize("look", LOOKS, indirect=True, ids=str)
async def test_the_page_is_live_and_axe_finds_no_serious_fault(relay: Relay, page: Page) -> None:
    await page.goto(relay.url)
    await expect(page.locator("#state")).to_have_text("Live")
    await expect(page.locator("#bids .row").first).to_contain_text(".")
    assert await faults_of(page) == []
    assert await overflow(page) <= 0
