"""What most tests of the whole way do: list a feed, follow it, move it, compare."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.e2e.client import Client, client
from tests.e2e.control import Control
from tests.e2e.reference import Book, Follower, Ticker, follow, levels
from tests.e2e.stand_in import BookFeed, StandIn, TickerFeed
from tests.processes import WebServer

QUICK = {"RELAY_LINGER": "0.5"}


@asynccontextmanager
async def following(relay: WebServer, *topics: str, path: str = "/ws") -> AsyncIterator[Client]:
    """A client that has been acknowledged its topics."""
    async with client(relay.url(path)) as one:
        await one.subscribe(*topics)
        yield one


def listed(exchange: StandIn, category: str, *feeds: BookFeed | TickerFeed) -> None:
    for feed in feeds:
        exchange.feeds[category, feed.topic] = feed.greeting


async def moves(exchange: StandIn, category: str, feed: BookFeed | TickerFeed, count: int) -> None:
    for _ in range(count):
        await exchange.say(category, feed.topic, feed.delta())


async def assert_right(one: Client, feed: BookFeed) -> None:
    """The client holds the book of the exchange at its last update."""
    follower = await one.until_at(feed.topic, feed.u)
    truth = follow(feed.topic, [feed.snapshot()]).state
    assert follower.position == feed.u
    assert isinstance(follower.state, Book)
    assert isinstance(truth, Book)
    assert follower.state.sides == truth.sides


def statuses(one: Client) -> list[str]:
    return [notice["upstream"] for notice in one.notices if notice["type"] == "status"]


async def assert_same_as_exchange(
    one: Client, exchange: Control, category: str, topic: str
) -> None:
    follower = one.followers[topic]
    if isinstance(follower.state, Book):
        truth = await exchange.do("book", category=category, topic=topic)
        await one.until_at(topic, truth["u"])
        assert follower.position == truth["u"]
        assert follower.state.sides == (levels(truth["b"]), levels(truth["a"]))
    elif isinstance(follower.state, Ticker):
        truth = await exchange.do("ticker", category=category, topic=topic)
        state = follower.state
        await one.until(
            lambda: truth["data"].items() <= (state.fields or {}).items(), f"{topic} as {truth}"
        )
        assert category == "option" or state.cs <= truth["cs"]


def assert_continues(first: Follower, late: Follower) -> None:
    """What the late one got after its greeting is what the first one got last."""
    forwarded = late.texts[1:]
    assert forwarded == first.texts[len(first.texts) - len(forwarded) :], late.topic


def assert_forwarded(follower: Follower, said: list[str]) -> None:
    """One snapshot, then the exchange's messages from there on, as they were."""
    forwarded = follower.texts[1:]
    assert follower.types[0] == "snapshot"
    assert forwarded == said[len(said) - len(forwarded) :]
    truth = follow(follower.topic, said).state
    if isinstance(truth, Book | Ticker):
        assert isinstance(follower.state, Book | Ticker)
        for position, state in follower.state.history.items():
            assert state == truth.history[position]
    if isinstance(truth, Book) and truth.depth > 1:
        assert follower.types[1:] == ["delta"] * len(forwarded)
