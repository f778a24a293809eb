"""The demo page in a real browser, on a relay fed by the simulator."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, Request, Route, WebSocket, WebSocketRoute, expect

from tests.browser.chromium import LOOKS, Complaints, Look, faults_of, overflow, screenshot
from tests.browser.conftest import Relay
from tests.browser.line import Line
from tests.browser.screen import read, until, until_exact
from tests.e2e.client import client
from tests.e2e.control import Control, control
from tests.e2e.scrapes import scrape, value
from tests.processes import PATIENCE, Programs

BOOK = "orderbook.200.BTCUSDT"
HOSTILE = "<img src=x onerror=alert(1)>"
LOST = r"WebSocket connection to .* failed"  # the browser's own report of each vain attempt
NARROW = Look(width=360, height=740)
FILLING = 60  # seconds of trades that make the charts of a screenshot worth looking at


@pytest_asyncio.fixture(loop_scope="session")
async def exchange(relay: Relay) -> AsyncIterator[Control]:
    """The simulator's controls; the market goes on at the end."""
    async with control(relay.simulator_port) as controls:
        yield controls
        await controls.do("resume")


async def opened(page: Page, relay: Relay, query: str = "") -> Page:
    """Open the page and wait until it is live."""
    await page.goto(relay.url + query)
    await expect(page.locator("#state")).to_have_text("Live")
    await expect(page.locator("#bids .row").first).to_contain_text(".")
    return page


# What it looks like.


@pytest.mark.parametrize("look", LOOKS, indirect=True, ids=str)
async def test_axe_finds_no_serious_fault(relay: Relay, page: Page, look: Look) -> None:
    await opened(page, relay)
    if os.environ.get("SCREENSHOTS"):
        await asyncio.sleep(FILLING)
        await screenshot(page, f"demo-{look.scheme}-{'wide' if look.width > 600 else 'narrow'}")
    assert await faults_of(page) == []
    await page.locator("#light summary").click()
    await page.locator("#console-toggle").click()
    await expect(page.locator(".line").first).to_be_visible()
    await page.locator("#log-pause").click()
    assert await faults_of(page) == []
    await page.locator("#tab-examples").click()
    assert await faults_of(page) == []


@pytest.mark.parametrize("look", [NARROW], indirect=True, ids=str)
@pytest.mark.parametrize("category", ["linear", "spot", "option"])
async def test_nothing_is_wider_than_a_phone(relay: Relay, page: Page, category: str) -> None:
    await page.goto(f"{relay.url}?category={category}")
    await expect(page.locator("#state")).to_have_text("Live")
    await page.locator("#console-toggle").click()
    assert await overflow(page) <= 0
    await page.locator("#tab-examples").click()
    assert await overflow(page) <= 0


@pytest.mark.parametrize("look", [NARROW, Look()], indirect=True, ids=str)
@pytest.mark.parametrize("category", ["linear", "spot", "inverse", "option"])
async def test_nothing_moves_while_the_page_fills(
    relay: Relay, page: Page, category: str, look: Look
) -> None:
    await page.add_init_script(
        """globalThis.shifts = [];
        new PerformanceObserver((list) => shifts.push(...list.getEntries()))
          .observe({ type: "layout-shift", buffered: true });
        globalThis.painted = new Promise((painted) => {
          new PerformanceObserver(painted).observe({ type: "paint", buffered: true });
        });"""
    )

    async def after_the_first_paint(route: Route) -> None:
        await page.evaluate("painted.then(() => true)")
        await route.continue_()

    await page.route("**/demo/page.js", after_the_first_paint)
    await page.goto(f"{relay.url}?category={category}", wait_until="commit")
    await expect(page.locator("#state")).to_have_text("Live")
    for part in ("#bids .row", "#tape .row"):
        await expect(page.locator(part).first).to_contain_text(".")
    await expect(page.locator("#strip .facts")).to_contain_text("24h volume")
    await expect(page.locator("#strip dd").first).not_to_have_text("–")
    moved = await page.evaluate(
        """() => shifts.filter(({ hadRecentInput }) => !hadRecentInput)
          .reduce((sum, { value }) => sum + value, 0)"""
    )
    assert moved < 0.1  # what web.dev calls good


TARGETS = """() => [...document.querySelectorAll("a, button, input, select, summary, [tabindex]")]
  .filter((one) => one.checkVisibility() && !one.matches(".unseen"))
  .map((one) => {
    const { width, height } = (one.type === "radio" ? one.closest("label") : one)
      .getBoundingClientRect();
    return { name: one.id || one.value || one.textContent, width, height,
      isLine: one.closest(".line") !== null };
  })"""


@pytest.mark.parametrize("look", [NARROW, Look()], indirect=True, ids=str)
async def test_what_can_be_touched_is_large_enough(relay: Relay, page: Page, look: Look) -> None:
    await opened(page, relay)
    await page.evaluate("document.querySelector('#banner').hidden = false")
    least = 44 if look is NARROW else 24  # WCAG 2.2: 2.5.5 for fingers, 2.5.8 for pointers
    await page.locator("#console-toggle").click()
    await expect(page.locator(".line").first).to_be_visible()
    await page.locator("#log-pause").click()
    targets = await page.evaluate(TARGETS)
    await page.locator("#tab-examples").click()
    targets += await page.evaluate(TARGETS)
    assert {"symbol", "spot", "candle", "log-clear", "example-copy"} <= {
        target["name"] for target in targets
    }
    assert [
        target
        for target in targets
        if min(target["width"], target["height"]) < (24 if target["isLine"] else least)
    ] == []
    assert await overflow(page) <= 0


@pytest.mark.parametrize("look", [Look(), Look(motion="reduce")], indirect=True, ids=["", "still"])
async def test_changes_flash_unless_the_visitor_wants_no_motion(
    relay: Relay, page: Page, look: Look
) -> None:
    await opened(page, relay)
    await page.wait_for_selector("#bids .row[data-flash]", state="attached")
    image = await page.evaluate(
        """() => {
          const row = document.querySelector("#bids .row");
          row.dataset.flash = "up";
          return getComputedStyle(row.children[1]).backgroundImage;
        }"""
    )
    assert (image == "none") is (look.motion == "reduce")


async def test_rows_and_columns_stay_where_they_are_while_numbers_change(
    relay: Relay, page: Page
) -> None:
    await opened(page, relay)
    places = """() => [...document.querySelectorAll(".row, .middle, #strip dd, .last")]
      .map((one) => one.getBoundingClientRect())
      .map(({ x, y, height }) => [x, y, height].join())"""
    before = await page.evaluate(places)
    text = await page.locator("#bids").inner_text()
    await expect(page.locator("#bids")).not_to_have_text(text)
    await asyncio.sleep(1)
    assert await page.evaluate(places) == before


@pytest.mark.parametrize("look", [Look(), Look(width=320, height=568)], indirect=True, ids=str)
@pytest.mark.parametrize(
    ("price", "size"), [("0.00001234", "3762938088990"), ("1234567890.12", "7041234.46678")]
)
async def test_no_digit_is_cut_off(
    relay: Relay, page: Page, look: Look, price: str, size: str
) -> None:
    def answer(route: WebSocketRoute, text: str | bytes) -> None:
        request = json.loads(text)
        if request["method"] != "subscribe":
            return
        route.send(json.dumps({"method": "subscribe", "id": request["id"], "success": True}))
        symbol, asked = request["symbol"], request["topic"]
        digits = len(price.partition(".")[2])
        above = f"{Decimal(price) + Decimal(1).scaleb(-digits):f}"
        trade = {"i": "1", "T": 1, "p": price, "v": size, "S": "Buy", "s": symbol}
        book = {"s": symbol, "b": [[price, size]], "a": [[above, size]], "u": 1, "seq": 1}
        prices = dict.fromkeys(("lastPrice", "markPrice", "indexPrice", "highPrice24h"), price)
        data = {"orderbook": book, "publicTrade": [trade]}.get(asked, prices)
        topic = f"{asked}.{request['levels']}" if "levels" in request else asked
        message = {"topic": f"{topic}.{symbol}", "type": "snapshot", "ts": 1, "data": data}
        route.send(json.dumps(message))

    await page.route_web_socket(
        "**/ws?*", lambda route: route.on_message(lambda text: answer(route, text))
    )
    await page.goto(f"{relay.url}?symbol=1000000BABYDOGEUSDT")
    await expect(page.locator("#bids .row").first).to_contain_text(".")
    await expect(page.locator("#tape .row").first).to_contain_text(":")
    cut = await page.evaluate(
        """() => [...document.querySelectorAll(".row > *, .asks .head > *, .middle, .panel-head")]
          .filter((cell) => cell.scrollWidth > cell.clientWidth)
          .map((cell) => cell.textContent)"""
    )
    assert cut == []
    crowded = await page.evaluate(
        """() => {
          const ends = [...document.querySelectorAll("#strip dd")].map((element) => {
            const range = document.createRange();
            range.selectNodeContents(element);
            return { text: range.getBoundingClientRect(), cell: element.getBoundingClientRect() };
          });
          return ends.filter(({ text, cell }) => text.right > cell.right + 0.5).length;
        }"""
    )
    assert crowded == 0
    overlapping = await page.evaluate(
        """() => [...document.querySelectorAll(".row")].filter((row) => {
          const [price, size] = [...row.children].map((cell) => cell.getBoundingClientRect());
          return price.right > size.left && row.textContent !== "" && measured(row) > size.left;
          function measured(one) {
            const range = document.createRange();
            range.selectNodeContents(one.firstChild);
            return range.getBoundingClientRect().right;
          }
        }).map((row) => row.textContent)"""
    )
    assert overlapping == []


# That it is right.


async def test_the_ladder_is_the_exchanges_book_to_the_last_digit(
    relay: Relay, page: Page, exchange: Control
) -> None:
    await opened(page, relay)
    ladder = await until_exact(page, exchange, "linear", BOOK)
    assert len(ladder.bids) == len(ladder.asks) >= 10
    book = await exchange.do("book", category="linear", topic=BOOK)
    best = await page.locator("#bids .row").first.locator("span").first.text_content()
    assert best is not None
    assert best.replace(",", "") == book["b"][0][0]  # as the exchange writes it


Levels = list[list[str]]


async def told(page: Page, topics: dict[str, list[dict[str, Any]]]) -> Callable[[], None]:
    """Answer the page instead of the relay: the first message of each topic comes with its ack.

    Args:
        topics: The messages of each topic, by the word that the page asks for it with.

    Returns:
        What sends the next message of every topic.
    """
    sockets: list[tuple[WebSocketRoute, str]] = []
    left = {name: list(messages) for name, messages in topics.items()}

    def step(route: WebSocketRoute, name: str) -> None:
        if left.get(name):
            route.send(json.dumps(left[name].pop(0)))

    def answer(route: WebSocketRoute, text: str | bytes) -> None:
        request = json.loads(text)
        if request["method"] == "subscribe":
            route.send(json.dumps({"method": "subscribe", "id": request["id"], "success": True}))
            sockets.append((route, request["topic"]))
            step(route, request["topic"])

    def step_all() -> None:
        for route, name in sockets:
            step(route, name)

    await page.route_web_socket(
        "**/ws?*", lambda route: route.on_message(lambda text: answer(route, text))
    )
    return step_all


def book(
    topic: str, number: int, bids: Levels, asks: Levels, kind: str = "snapshot"
) -> dict[str, Any]:
    """Return a message of a book."""
    data = {"s": topic.rpartition(".")[2], "b": bids, "a": asks, "u": number, "seq": number}
    return {"topic": topic, "type": kind, "ts": number, "data": data}


async def test_the_best_price_is_the_books_own_string(relay: Relay, page: Page) -> None:
    topic = "orderbook.1.BTCUSDT"
    pairs = [
        ("80671.80", "80672.00"),  # 0.2 apart at first, though prices are 0.1 apart
        ("80671.80", "80671.90"),
        ("80671.70", "80671.90"),
        ("80671.5", "80671.90"),
        ("80671", "80671.10"),
    ]
    messages = [
        book(topic, number, [[bid, "1"]], [[ask, "2"]])
        for number, (bid, ask) in enumerate(pairs, start=2)
    ]
    step = await told(page, {"orderbook": messages})
    await page.goto(f"{relay.url}?depth=1")
    for bid, ask in pairs:
        shown = [f"{Decimal(price):,.2f}" for price in (bid, ask)]
        await expect(page.locator("#bids .row").first.locator("span").first).to_have_text(shown[0])
        await expect(page.locator("#asks .row").last.locator("span").first).to_have_text(shown[1])
        step()
    await expect(page.locator("#depth-notice")).to_contain_text("choose more levels")
    await expect(page.locator("#step")).to_be_disabled()


async def test_a_price_with_more_digits_than_the_best_keeps_them(relay: Relay, page: Page) -> None:
    topic = "orderbook.50.BTCUSDT"
    bids, asks = [["80671", "1"], ["80670.5", "1"]], [["80672", "1"], ["80672.25", "0.5"]]
    await told(page, {"orderbook": [book(topic, 2, bids, asks)]})
    await page.goto(f"{relay.url}?depth=50")
    await expect(page.locator("#bids .row").nth(1).locator("span").first).to_have_text("80,670.50")
    seen = await read(page)
    assert seen is not None
    assert [row[0] for row in (*seen.bids, *seen.asks)] == [
        Decimal(price) for price, _ in (*bids, *asks)
    ]


async def test_a_finer_price_does_not_make_the_tick_seen_before_a_step(
    relay: Relay, page: Page
) -> None:
    topic = "orderbook.50.BTCUSDT"
    first = book(topic, 2, [["100.0", "1"], ["99.8", "1"]], [["100.2", "1"], ["100.4", "1"]])
    finer = book(topic, 3, [["100.1", "3"]], [], "delta")
    step = await told(page, {"orderbook": [first, finer]})
    await page.goto(f"{relay.url}?depth=50")
    await expect(page.locator("#step")).to_have_value("0.2")
    step()
    await expect(page.locator("#bids .row").first.locator("span").first).to_have_text("100.1")
    await expect(page.locator("#step")).to_have_value("0.1")
    seen = await read(page)
    assert seen is not None
    assert [row[0] for row in seen.bids] == [Decimal("100.1"), Decimal("100.0"), Decimal("99.8")]


@pytest.mark.parametrize("step", ["0.5", "1", "10"])
async def test_levels_are_joined_into_steps_exactly(
    relay: Relay, page: Page, exchange: Control, step: str
) -> None:
    await opened(page, relay)
    await page.locator("#step").select_option(step)
    await until_exact(page, exchange, "linear", BOOK, step)
    partial = await page.locator('#bids .row[data-kind="partial"]').count()
    assert partial == (1 if step == "10" else 0)  # 200 levels fill a few steps of 10 alone


async def test_the_strip_is_the_exchanges_ticker(
    relay: Relay, page: Page, exchange: Control
) -> None:
    await opened(page, relay)
    await exchange.do("pause")
    ticker = (await exchange.do("ticker", category="linear", symbol="BTCUSDT"))["data"]
    facts = {
        "Mark": ticker["markPrice"],
        "Index": ticker["indexPrice"],
        "24h high": ticker["highPrice24h"],
        "24h low": ticker["lowPrice24h"],
    }
    for label, price in facts.items():
        fact = page.locator("#strip .facts > div", has_text=label).locator("dd")
        await expect(fact).to_have_text(f"{float(price):,.2f}")
    await expect(page.locator(".last")).to_have_text(f"{float(ticker['lastPrice']):,.2f}")
    countdown = page.locator("#strip .facts > div", has_text="Funding in").locator("dd")
    before = await countdown.inner_text()
    await expect(countdown).not_to_have_text(before)  # though nothing comes


async def test_the_tape_and_the_candles_grow_with_the_trades(relay: Relay, page: Page) -> None:
    await opened(page, relay)
    newest = page.locator("#tape .row").first
    await expect(newest).to_contain_text(":")
    before = await newest.inner_text()
    await expect(newest).not_to_have_text(before)
    await expect(page.locator("#price-chart canvas")).to_be_visible()
    await expect(page.locator("#price-note")).to_contain_text("O ")
    await expect(page.locator("#depth-chart canvas")).to_be_visible()


async def test_longer_candles_are_the_exchanges_and_there_at_once(relay: Relay, page: Page) -> None:
    heard: list[str] = []

    def hear(text: str | bytes) -> None:
        heard.append(str(text))

    page.on("websocket", lambda socket: socket.on("framereceived", hear))
    await page.add_init_script(
        """globalThis.labels = new Set();
        const fillText = CanvasRenderingContext2D.prototype.fillText;
        CanvasRenderingContext2D.prototype.fillText = function (text) {
          if (this.canvas.closest("#price-chart")) labels.add(text);
          return fillText.apply(this, arguments);
        };"""
    )
    await opened(page, relay)
    note = page.locator("#price-note")
    for length, topic, label in (
        ("1 day", "kline.D.BTCUSDT", r"^\d+ [A-Z][a-z]{2,3}$"),
        ("1 min", "kline.1.BTCUSDT", r"^\d\d:\d\d$"),
    ):
        await page.locator("#candle").select_option(length)

        async def shows_the_last(start: str = f'{{"topic":"{topic}"') -> bool:
            said = [text for text in heard if text.startswith(start)]
            if not said:
                return False
            candle = json.loads(said[-1])["data"][-1]
            prices = [f"{float(candle[name]):,.2f}" for name in ("open", "high", "low", "close")]
            pairs = zip("OHLC", prices, strict=True)
            words = "  ".join(f"{letter} {price}" for letter, price in pairs)
            return bool(await note.text_content() == words)

        await until(shows_the_last, f"the last {topic}")
        await page.wait_for_function(  # its axis of times is there with one candle, too
            "(label) => [...labels].some((text) => new RegExp(label).test(text))", arg=label
        )
    await page.locator("#candle").select_option("1 s")
    await expect(note).to_contain_text("O ")
    await page.get_by_role("radio", name="Option").check(force=True)
    await expect(page.locator("#candle option:not([disabled])")).to_have_count(4)


async def test_no_label_of_the_price_axis_lies_under_the_last_price(
    relay: Relay, page: Page
) -> None:
    await page.add_init_script(
        """globalThis.covered = [];
        globalThis.drawn = 0;
        let labels = [];
        const fillText = CanvasRenderingContext2D.prototype.fillText;
        CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
          if (this.canvas.closest("#price-chart")) {
            const at = { text, x, y: y + this.getTransform().f };
            if (!this.font.startsWith("600")) labels.push(at);
            else {
              drawn += 1;
              covered.push(...labels.filter((one) => x - 9 < one.x && Math.abs(at.y - one.y) < 14));
              labels = [];
            }
          }
          return fillText.apply(this, arguments);
        };"""
    )
    await opened(page, relay)

    async def is_drawn_often() -> bool:
        return bool(await page.evaluate("drawn > 30"))  # of 4 a second

    await until(is_drawn_often, "the price moves under the labels", 60)
    assert await page.evaluate("covered.filter(({ text }) => text !== '')") == []


async def test_another_symbol_category_and_depth_show_their_own_book(
    relay: Relay, page: Page, exchange: Control
) -> None:
    await opened(page, relay)
    await page.keyboard.press("/")
    await page.keyboard.type("ethusdt")
    await page.keyboard.press("Enter")
    await expect(page.locator("#strip .name")).to_have_text("ETHUSDT")
    await until_exact(page, exchange, "linear", "orderbook.200.ETHUSDT")
    await exchange.do("resume")
    await page.get_by_role("radio", name="Spot").check(force=True)
    await page.locator("#depth").select_option("50")
    await until_exact(page, exchange, "spot", "orderbook.50.ETHUSDT")
    await expect(page).to_have_url(f"{relay.url}?category=spot&symbol=ETHUSDT&depth=50")
    await expect(page).to_have_title(re.compile(r"^[\d,.]+ ETHUSDT · marketfeed$"))


async def test_an_option_is_found_among_those_that_trade(
    relay: Relay, page: Page, exchange: Control
) -> None:
    await page.goto(f"{relay.url}?category=option")
    name = page.locator("#strip .name")
    await expect(name).to_contain_text("BTC-")
    symbol = await name.inner_text()
    await until_exact(page, exchange, "option", f"orderbook.100.{symbol}")


async def test_every_symbol_is_offered_where_none_is_typed(relay: Relay, page: Page) -> None:
    await opened(page, relay)
    field = page.locator("#symbol")
    await expect(field).to_have_value("BTCUSDT")
    await field.click()
    await expect(field).to_have_value("")  # a browser suggests only what goes on from a value
    await expect(field).to_have_attribute("placeholder", "BTCUSDT")
    await field.press("Enter")
    await expect(page.locator("#strip .name")).to_have_text("BTCUSDT")
    await page.locator("#step").focus()
    await expect(field).to_have_value("BTCUSDT")


async def test_half_a_symbol_and_a_click_elsewhere_keep_the_market(
    relay: Relay, page: Page
) -> None:
    await opened(page, relay)
    url = page.url
    field = page.locator("#symbol")
    for leave in ("#price-title", "#depth"):
        await field.click()
        await page.keyboard.type("et")
        await page.locator(leave).click()
        await expect(field).to_have_value("BTCUSDT")
        await expect(page.locator("#strip .name")).to_have_text("BTCUSDT")
        await expect(page.locator("#state")).to_have_text("Live")
    assert page.url == url
    await field.click()
    await page.keyboard.type("et")
    await page.get_by_role("radio", name="Spot").check(force=True)
    await expect(page.locator("#strip .kind")).to_have_text("Spot")
    await expect(page.locator("#strip .name")).to_have_text("BTCUSDT")


async def test_escape_restores_the_symbol(relay: Relay, page: Page) -> None:
    await opened(page, relay)
    field = page.locator("#symbol")
    await field.click()
    await page.keyboard.type("doge")
    await page.keyboard.press("Escape")
    await expect(field).to_have_value("BTCUSDT")
    await page.keyboard.press("Enter")
    await expect(page.locator("#strip .name")).to_have_text("BTCUSDT")


@pytest.mark.parametrize(
    ("category", "typed", "symbol"),
    [("linear", "eth", "ETHUSDT"), ("inverse", "xrp", "XRPUSD"), ("spot", "Doge", "DOGEUSDT")],
)
async def test_a_part_of_a_symbol_is_completed(
    relay: Relay, page: Page, category: str, typed: str, symbol: str
) -> None:
    await opened(page, relay, f"?category={category}")
    await page.keyboard.press("/")
    await page.keyboard.type(typed)
    await page.keyboard.press("Enter")
    await expect(page.locator("#strip .name")).to_have_text(symbol)
    await expect(page.locator("#symbol")).to_have_value(symbol)
    await expect(page.locator("#state")).to_have_text("Live")


async def test_back_and_forward_go_through_the_markets_that_were_looked_at(
    relay: Relay, page: Page, exchange: Control
) -> None:
    await opened(page, relay)
    name = page.locator("#strip .name")
    for typed in ("eth", "sol"):
        await page.keyboard.press("/")
        await page.keyboard.type(typed)
        await page.keyboard.press("Enter")
        await expect(name).to_have_text(f"{typed.upper()}USDT")
        await page.locator("#price-title").click()
    await page.go_back()
    await expect(name).to_have_text("ETHUSDT")
    await expect(page.locator("#symbol")).to_have_value("ETHUSDT")
    await page.go_back()
    await expect(name).to_have_text("BTCUSDT")
    await until_exact(page, exchange, "linear", BOOK)
    await exchange.do("resume")
    await page.go_forward()
    await expect(name).to_have_text("ETHUSDT")
    await until_exact(page, exchange, "linear", "orderbook.200.ETHUSDT")


async def test_an_unknown_symbol_is_said_once_with_the_exchanges_words(
    relay: Relay, page: Page
) -> None:
    await opened(page, relay)
    await page.keyboard.press("/")
    await page.keyboard.type("nosuchcoin")
    await page.keyboard.press("Enter")
    await expect(page.locator("#state")).to_have_text("Refused")
    banner = page.locator("#banner")
    await expect(banner).to_contain_text("The exchange does not have NOSUCHCOINUSDT in linear")
    text = await page.locator("body").inner_text()
    assert text.count("handler not found") == 1, text
    await expect(page.locator("#book-notice")).to_have_text("Refused")
    assert await faults_of(page) == []
    await page.go_back()
    await expect(page.locator("#state")).to_have_text("Live")
    await expect(banner).to_be_hidden()


async def test_symbols_that_others_read_are_suggested(relay: Relay, page: Page) -> None:
    async with client(relay.server.url("/ws?category=inverse")) as other:
        await other.subscribe("tickers.XRPUSD")
        await other.until_at("tickers.XRPUSD", 1)

        async def is_suggested() -> bool:
            answer = await page.request.get(f"{relay.url}symbols.json")
            return "XRPUSD" in (await answer.json())["inverse"]

        await until(is_suggested, "the symbol is carried")
        await opened(page, relay, "?category=inverse")
        await expect(page.locator('#symbols option[value="XRPUSD"]')).to_have_count(1)


# What goes wrong is survived, and shown.


async def test_a_frozen_relay_is_shown_within_three_seconds_in_page_and_title(
    relay: Relay, page: Page, programs: Programs, exchange: Control
) -> None:
    server = await programs.daphne(f"ws://127.0.0.1:{relay.simulator_port}/v5/public")
    frames = 0

    def count(_: str | bytes) -> None:
        nonlocal frames
        frames += 1

    page.on("websocket", lambda socket: socket.on("framereceived", count))
    await page.clock.install()
    await page.goto(f"http://{server.host}/")
    await expect(page.locator("#state")).to_have_text("Live")
    await expect(page).to_have_title(re.compile(r"^[\d,.]+ BTCUSDT · marketfeed$"))
    server.program.signal(signal.SIGSTOP)
    try:
        before = -1

        async def is_quiet() -> bool:
            nonlocal before
            before, known = frames, before
            return frames == known

        await until(is_quiet, "what the relay had sent has come")
        now = await page.evaluate("Date.now()")
        await page.clock.pause_at((now + 1_000) / 1_000)
        await page.clock.run_for(2_000)
        assert await page.title() == "Stale · BTCUSDT · marketfeed"
        await expect(page.locator("#state")).to_have_text("Stale")
        await expect(page.locator("#banner")).to_contain_text("The relay does not answer.")
        await expect(page.locator("#book")).to_have_attribute("data-freshness", "stale")
    finally:
        server.program.signal(signal.SIGCONT)
    await page.clock.resume()
    await expect(page.locator("#state")).to_have_text("Live")
    await expect(page.locator("#banner")).to_be_hidden()
    await expect(page).to_have_title(re.compile(r"^[\d,.]+ BTCUSDT · marketfeed$"))
    await expect(page.locator("#connections")).to_have_text("1")  # it was only slow
    await until_exact(page, exchange, "linear", BOOK)


async def test_a_restart_of_the_server_is_shown_and_healed(
    relay: Relay, page: Page, complaints: Complaints, programs: Programs, exchange: Control
) -> None:
    complaints.allow(LOST)
    upstream = f"ws://127.0.0.1:{relay.simulator_port}/v5/public"
    server = await programs.daphne(upstream)
    await page.goto(f"http://{server.host}/")
    await expect(page.locator("#state")).to_have_text("Live")
    server.program.signal(signal.SIGTERM)
    assert await server.program.end() == 0
    await expect(page.locator("#state")).to_have_text("Reconnecting")
    await expect(page).to_have_title("Reconnecting · BTCUSDT · marketfeed")
    await expect(page.locator("#banner")).to_be_visible()
    await expect(page.locator("#book")).to_have_attribute("data-freshness", "stale")
    await expect(page.locator("#book-notice")).to_contain_text("Stale since")
    await programs.daphne(upstream, port=server.port)
    await page.locator("#retry").click()
    await expect(page.locator("#state")).to_have_text("Live")
    await expect(page.locator("#banner")).to_be_hidden()
    await until_exact(page, exchange, "linear", BOOK)


async def test_seconds_offline_are_shown_and_healed(
    relay: Relay, page: Page, complaints: Complaints, exchange: Control
) -> None:
    complaints.allow(LOST)
    await opened(page, relay)
    tries: list[WebSocket] = []

    def note_try(socket: WebSocket) -> None:
        tries.append(socket)

    page.on("websocket", note_try)
    await page.context.set_offline(True)

    async def has_tried_again() -> bool:
        return len(tries) >= 3

    await until(has_tried_again, "the page has tried to connect again and again")
    await expect(page.locator("#state")).to_have_text("Reconnecting")
    await expect(page.locator("#strip")).to_have_attribute("data-freshness", "stale")
    assert await read(page) is not None  # the last book known stays to be looked at
    assert await faults_of(page) == []
    await page.context.set_offline(False)
    await expect(page.locator("#state")).to_have_text("Live")
    await until_exact(page, exchange, "linear", BOOK)


async def test_a_gap_at_the_exchange_is_healed_and_counted(
    relay: Relay, page: Page, exchange: Control
) -> None:
    await opened(page, relay)
    await exchange.do("gap", category="linear", topic=BOOK)
    await expect(page.locator("#brief-resyncs")).not_to_have_text("0")
    await expect(page.locator("#state")).to_have_text("Live")
    await until_exact(page, exchange, "linear", BOOK)


async def test_a_message_lost_on_the_way_is_a_gap_and_asks_for_a_snapshot(
    relay: Relay, page: Page, exchange: Control
) -> None:
    lost: list[str] = []

    def lose_the_fifth_delta(route: WebSocketRoute) -> None:
        server = route.connect_to_server()
        deltas = 0

        def forward(text: str | bytes) -> None:
            nonlocal deltas
            is_delta = str(text).startswith(f'{{"topic":"{BOOK}","type":"delta"')
            deltas += is_delta
            if is_delta and deltas == 5:
                lost.append(str(text))
            else:
                route.send(text)

        server.on_message(forward)

    await page.route_web_socket("**/ws?*", lose_the_fifth_delta)
    await opened(page, relay)
    await expect(page.locator("#brief-gaps")).to_have_text("1")
    await expect(page.locator("#brief-resyncs")).to_have_text("1")
    assert len(lost) == 1
    await expect(page.locator("#state")).to_have_text("Live")
    await until_exact(page, exchange, "linear", BOOK)


async def test_a_tab_that_hangs_for_seconds_is_right_again(
    relay: Relay, page: Page, exchange: Control
) -> None:
    await opened(page, relay)
    await page.evaluate("() => { const end = Date.now() + 6000; while (Date.now() < end); }")
    await expect(page.locator("#state")).to_have_text("Live")
    await until_exact(page, exchange, "linear", BOOK)


async def test_a_line_that_falls_behind_is_shown_and_right_again(
    page: Page, programs: Programs
) -> None:
    port = await programs.simulator("--rate", "400")
    small = {"RELAY_CLIENT_BUFFER": "16384", "RELAY_SEND_BUFFER": "8192"}
    server = await programs.daphne(f"ws://127.0.0.1:{port}/v5/public", **small)
    notices: list[str] = []

    def hear(text: str | bytes) -> None:
        if '"lagging"' in str(text):
            notices.append(str(text))

    page.on("websocket", lambda socket: socket.on("framereceived", hear))
    async with Line(server.port) as line, control(port) as exchange:
        await page.goto(f"http://127.0.0.1:{line.port}/?depth=50")
        await expect(page.locator("#state")).to_have_text("Live")
        line.may_read.clear()

        async def is_behind() -> bool:
            return value(await scrape(server.host), "clients_lagging") == 1

        await until(is_behind, "the relay waits for the page")
        await asyncio.sleep(1)  # less than the page's own patience with a silent relay
        line.may_read.set()
        await expect(page.locator("#brief-resyncs")).not_to_have_text("0")
        await expect(page.locator("#brief-gaps")).not_to_have_text("0")
        await expect(page.locator("#state")).to_have_text("Live")
        await until_exact(page, exchange, "linear", "orderbook.50.BTCUSDT")
    assert notices


async def test_a_tab_in_the_background_does_nothing_and_comes_back_right(
    relay: Relay, page: Page, exchange: Control
) -> None:
    ended: list[WebSocket] = []

    def note_end(socket: WebSocket) -> None:
        ended.append(socket)

    page.on("websocket", lambda socket: socket.on("close", note_end))
    await page.add_init_script(
        """Object.defineProperty(Document.prototype, "hidden", {
          get: () => globalThis.isAway ?? false,
        });"""
    )
    await opened(page, relay)
    turn = """(isAway) => {
      globalThis.isAway = isAway;
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    await page.evaluate(turn, True)
    await page.evaluate(
        """() => {
          globalThis.changes = 0;
          const observer = new MutationObserver((found) => (globalThis.changes += found.length));
          observer.observe(document.body, { subtree: true, childList: true, characterData: true });
        }"""
    )
    await asyncio.sleep(1)
    assert await page.evaluate("globalThis.changes") == 0  # though messages still come

    async def has_let_go() -> bool:
        return bool(ended)

    await until(has_let_go, "the feed is let go")
    assert await page.title() == "Paused · BTCUSDT · marketfeed"
    await page.evaluate(turn, False)
    await expect(page.locator("#state")).to_have_text("Live")
    await until_exact(page, exchange, "linear", BOOK)


async def test_the_loss_of_the_exchange_looks_stale(
    relay: Relay, page: Page, exchange: Control
) -> None:
    await opened(page, relay)
    await exchange.do("refuse_connections", category="linear", seconds=600)
    try:
        await exchange.do("drop", category="linear")
        await expect(page.locator("#state")).to_have_text("Stale")
        await expect(page.locator("#banner")).to_contain_text("The relay has lost the exchange")
    finally:
        await exchange.do("refuse_connections", category="linear", seconds=0)
    await expect(page.locator("#state")).to_have_text("Live")
    await until_exact(page, exchange, "linear", BOOK)


async def test_a_refused_book_is_not_called_live(relay: Relay, page: Page) -> None:
    def refuse_the_book(route: WebSocketRoute) -> None:
        server = route.connect_to_server()

        def ask(text: str | bytes) -> None:
            request = json.loads(text)
            if request.get("topic") != "orderbook":
                server.send(text)
                return
            error = {"code": "refused_by_exchange", "message": "error:handler not found"}
            answer = {"method": "subscribe", "success": False, "id": request["id"], "error": error}
            route.send(json.dumps(answer))

        route.on_message(ask)

    await page.route_web_socket("**/ws?*", refuse_the_book)
    await page.goto(relay.url)
    await expect(page.locator("#trades")).to_have_attribute("data-freshness", "live")
    await expect(page.locator("#strip")).to_have_attribute("data-freshness", "live")
    await expect(page.locator("#state")).to_have_text("Refused")
    await expect(page.locator("#book-notice")).to_contain_text("error:handler not found")
    await expect(page.locator("#depth-notice")).to_have_text("Refused")


async def test_a_latency_that_may_be_the_fault_of_a_clock_is_doubted(
    relay: Relay, page: Page
) -> None:
    await page.add_init_script("const now = Date.now; Date.now = () => now() + 5_000;")
    await opened(page, relay)
    await expect(page.locator("#brief-latency")).to_have_text(re.compile(r"^5\.\d s\?$"))
    await page.locator("#light summary").click()
    await expect(page.locator("#clocks")).to_contain_text("this clock is ahead")


async def test_a_machine_that_slept_asks_at_once_whether_the_relay_is_there(
    relay: Relay, page: Page
) -> None:
    pings: list[str] = []

    def note(text: str | bytes) -> None:
        if '"ping"' in str(text):
            pings.append(str(text))

    page.on("websocket", lambda socket: socket.on("framesent", note))
    await page.clock.install()
    await opened(page, relay)
    now = await page.evaluate("Date.now()")
    await page.clock.pause_at((now + 1_000) / 1_000)

    async def passes(milliseconds: int) -> int:
        """Let time pass on the page; return how many pings it has sent by then."""
        await page.clock.run_for(milliseconds)
        await page.evaluate("document.title")  # what it sent before is known after the answer
        return len(pings)

    before = await passes(0)
    for _ in range(60):
        if await passes(100) > before:
            break
    before = await passes(1_100)
    slept_until = await page.evaluate("Date.now()") + 60_000
    await page.clock.set_system_time(slept_until / 1_000)  # timers know nothing of it
    assert await passes(1_100) > before  # though the next ping was not yet due
    await page.clock.resume()
    await expect(page.locator("#state")).to_have_text("Live")


# What comes from the wire stays text.


async def test_markup_in_names_and_messages_stays_text(relay: Relay, page: Page) -> None:
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    def answer(route: WebSocketRoute, text: str | bytes) -> None:
        request = json.loads(text)
        if request["method"] == "subscribe":
            error = {"code": HOSTILE, "message": HOSTILE}
            is_refused = request["topic"] == "publicTrade"
            refusal = {"success": False, "error": error} if is_refused else {"success": True}
            route.send(json.dumps({"method": "subscribe", "id": request["id"], **refusal}))
            data = dict.fromkeys(("lastPrice", "markPrice", "price24hPcnt"), HOSTILE)
            topic = {"topic": f"tickers.{request['symbol']}", "type": "snapshot"}
            route.send(json.dumps({**topic, "ts": 1, "data": data}))
            route.send(json.dumps({"type": HOSTILE, "message": HOSTILE}))

    page.on("request", note)
    page.on("dialog", lambda dialog: asked.append(dialog.message))
    await page.route("**/symbols.json", lambda route: route.fulfill(json={"linear": [HOSTILE]}))
    await page.route_web_socket(
        "**/ws?*", lambda route: route.on_message(lambda text: answer(route, text))
    )
    await page.goto(f"{relay.url}?symbol={HOSTILE}&step={HOSTILE}")
    await page.locator("#console-toggle").click()
    await expect(page.locator("#strip .name")).to_have_text(HOSTILE.upper())
    await expect(page.locator(".last")).to_have_text(HOSTILE)
    await expect(page.locator("#trades-notice")).to_contain_text(HOSTILE)
    await expect(page.locator("#log")).to_contain_text(HOSTILE)
    await page.locator("#tab-examples").click()
    assert HOSTILE.upper() not in await page.locator("#examples").inner_text()
    assert await page.locator("img[onerror], img[src=x]").count() == 0
    assert not [url for url in asked if url.endswith("/x") or url == "1"]


# The console.


async def test_the_console_shows_what_is_said_and_heard(relay: Relay, page: Page) -> None:
    await opened(page, relay)
    await page.keyboard.press("`")
    log = page.locator("#log")
    await expect(log).to_contain_text('{"method":"subscribe","topic":"orderbook"')
    await expect(log).to_contain_text('"success":true,"topic":"orderbook.200.BTCUSDT"')
    await expect(log).to_contain_text(f'{{"topic":"{BOOK}","type":"delta"')
    await page.locator("#log-filter").select_option("talk")
    await expect(log).not_to_contain_text('"type":"delta"')
    await page.locator("#log-pause").click()
    await page.locator('.line[data-kind="request"]').first.click()
    await expect(page.locator(".line pre").first).to_contain_text('"method": "subscribe"')
    await page.keyboard.press("Escape")
    await expect(page.locator("#console-body")).to_be_hidden()
    await expect(page.locator("#console-toggle")).to_be_focused()


@pytest.mark.parametrize("name", ["Python", "pybit"])
async def test_an_example_can_be_copied_and_works(
    relay: Relay, page: Page, tmp_path: Path, name: str
) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await opened(page, relay, "?symbol=ETHUSDT&depth=50")
    await page.locator("#console-toggle").click()
    await page.locator("#tab-messages").press("ArrowRight")
    await page.locator("#example-names").select_option(name)
    await page.locator("#example-copy").click()
    await expect(page.locator("#example-copy")).to_have_text("Copied")
    script = tmp_path / "example.py"
    script.write_text(await page.evaluate("navigator.clipboard.readText()"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", str(script), stdout=subprocess.PIPE, limit=2**20
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            heard = b""
            while heard.count(b"orderbook.50.ETHUSDT") < 3:  # an ack or not, and two messages
                line = await process.stdout.readline()
                assert line, heard
                heard += line
    finally:
        process.kill()
        await process.wait()
    assert b"snapshot" in heard


async def test_what_was_asked_is_not_crowded_out_by_pings(relay: Relay, page: Page) -> None:
    def add_pongs(route: WebSocketRoute) -> None:
        server = route.connect_to_server()

        def forward(text: str | bytes) -> None:
            route.send(text)
            if '"success":true' in str(text):
                for _ in range(200):
                    route.send('{"method":"pong"}')

        server.on_message(forward)

    await page.route_web_socket("**/ws?*", add_pongs)
    await opened(page, relay)
    await page.locator("#console-toggle").click()
    await page.locator("#log-filter").select_option("talk")
    await expect(page.locator("#log")).to_contain_text('{"method":"subscribe"')


async def test_another_depth_keeps_the_candles(relay: Relay, page: Page) -> None:
    await opened(page, relay)
    await expect(page.locator("#price-note")).to_contain_text("O ")
    await page.locator("#depth").select_option("50")
    await expect(page.locator("#book")).to_have_attribute("data-freshness", "live")
    await expect(page.locator("#price-note")).to_contain_text("O ")
    await expect(page.locator("#step")).to_have_value("0.1")
