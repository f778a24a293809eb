"""Recorded sessions, replayed into the relay while clients join at random moments."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest

from tests.e2e.client import Client, client
from tests.e2e.reference import Book, Candles, Follower, Ticker, Trades, follow
from tests.e2e.stand_in import StandIn
from tests.processes import Programs, WebServer
from tests.recordings import MADE, SESSIONS, category_of, each, market_frames

CLIENTS = 12


@pytest.mark.parametrize("seed", [1, 2])
@each(*SESSIONS)
async def test_every_client_of_a_recorded_session_holds_what_was_recorded(
    path: Path, seed: int, exchange: StandIn, programs: Programs
) -> None:
    frames, category, random = market_frames(path), category_of(path), Random(seed)
    topics = list(dict.fromkeys(topic for topic, _ in frames))
    relay = await programs.daphne(exchange.url)
    # The first comes before the first frame, so that every frame has at least one reader.
    moments = [0] + [random.randrange(len(frames)) for _ in range(CLIENTS - 1)]
    async with AsyncExitStack() as stack:
        joining = [
            asyncio.create_task(join(stack, relay, category, topics, random))
            for moment in moments
            if moment == 0
        ]
        await exchange.until_followed(category, *topics)
        for number, (topic, frame) in enumerate(frames):
            await exchange.say(category, topic, frame)
            joining += [
                asyncio.create_task(join(stack, relay, category, topics, random))
                for moment in moments
                if moment and moment == number
            ]
            await asyncio.sleep(random.random() / 100)  # the market's own pace
        clients = await asyncio.gather(*joining)
        assert len(clients) == CLIENTS
        for topic in topics:
            said = exchange.said[category, topic]
            assert said == [frame for named, frame in frames if named == topic]
            truth = follow(topic, said)
            for one in clients:
                await assert_kept(one, truth)


async def join(
    stack: AsyncExitStack, relay: WebServer, category: str, topics: list[str], random: Random
) -> Client:
    door = random.choice([f"/ws?category={category}", f"/v5/public/{category}"])
    one = await stack.enter_async_context(client(relay.url(door)))
    await one.subscribe(*random.sample(topics, len(topics)))
    return one


async def assert_kept(one: Client, truth: Follower) -> None:
    """The client was sent the exchange's own frames, and what they add up to is the truth."""
    follower = one.followers[truth.topic]
    if isinstance(truth.state, Trades):
        ids = list(truth.state.ids)
        if one.is_bybit:  # greeted by nothing: it may have come after the last trade
            await one.until(
                lambda: not follower.texts or follower.texts[-1] == truth.texts[-1],
                f"the last trade of {truth.topic}",
            )
            forwarded = follower.texts
        else:
            await one.until(
                lambda: isinstance(follower.state, Trades) and ids[-1] in follower.state.ids,
                f"the last trade of {truth.topic}",
            )
            forwarded = follower.texts[1:]
            assert isinstance(follower.state, Trades)
            seen = [*follower.state.ids]
            assert seen == ids[len(ids) - len(seen) :]
            assert len(seen) >= min(50, len(ids))
    elif isinstance(truth.state, Candles):
        await one.until(
            lambda: bool(follower.texts) and follower.texts[-1] == truth.texts[-1],
            f"the last candle of {truth.topic}",
        )
        forwarded = follower.texts[1:]
    else:
        await one.until_at(truth.topic, truth.position)
        forwarded = follower.texts[1:]
        assert follower.types[0] == "snapshot"
        for position, state in follower.state.history.items():
            assert state == truth.state.history[position], (truth.topic, position)
        assert isinstance(truth.state, Book | Ticker)
    assert forwarded == truth.texts[len(truth.texts) - len(forwarded) :]


def test_the_recordings_have_what_these_tests_are_about() -> None:
    kinds = {
        (category_of(path), topic.split(".")[0], json.loads(frame)["type"])
        for path in SESSIONS
        if path.parent == MADE
        for topic, frame in market_frames(path)
    }
    assert kinds >= {
        ("linear", "orderbook", "delta"),
        ("linear", "tickers", "delta"),
        ("linear", "publicTrade", "snapshot"),
        ("linear", "kline", "snapshot"),
        ("spot", "orderbook", "snapshot"),
        ("spot", "orderbook", "delta"),
        ("spot", "tickers", "snapshot"),
        ("spot", "publicTrade", "snapshot"),
    }


@each(*SESSIONS)
def test_every_recorded_book_obeys_the_reference(path: Path) -> None:
    for topic in {topic for topic, _ in market_frames(path)}:
        frames = [frame for named, frame in market_frames(path) if named == topic]
        book = follow(topic, frames).state
        if isinstance(book, Book):
            sizes = {tuple(map(len, sides)) for sides in book.history.values()}
            assert sizes == {(book.depth, book.depth)}
            assert len(book.history) == len(frames) or book.depth == 1  # which may be said again
