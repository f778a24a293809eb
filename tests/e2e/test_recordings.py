"""Real recorded sessions, replayed into the relay while clients join at random moments."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from random import Random

import pytest

from tests.e2e.client import Client, client
from tests.e2e.reference import Book, Follower, Ticker, Trades, follow
from tests.e2e.stand_in import StandIn
from tests.processes import ROOT, Programs, WebServer

RECORDINGS = ROOT.parent / "shared" / "recordings"
SESSIONS = {
    "linear-mainnet-session-20260904.jsonl": "linear",
    "spot-mainnet-session-20260904.jsonl": "spot",
    "linear-orderbook500-XRPUSDT-20241201.jsonl": "linear",
}
CLIENTS = 12


def read(name: str) -> list[tuple[str, str]]:
    """Return (topic, frame) of each market message, as it was recorded."""
    path = RECORDINGS / name
    if not path.exists():
        pytest.skip(f"needs the recording {path}")
    lines = path.read_text().splitlines()
    return [(body["topic"], line) for line in lines if "topic" in (body := json.loads(line))]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", SESSIONS)
async def test_every_client_of_a_recorded_session_holds_what_was_recorded(
    name: str, seed: int, exchange: StandIn, programs: Programs
) -> None:
    frames, category, random = read(name), SESSIONS[name], Random(seed)
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
            await asyncio.sleep(random.random() / 50)  # the market's own pace
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
        (SESSIONS[name], topic.split(".")[0], json.loads(frame)["type"])
        for name in SESSIONS
        for topic, frame in read(name)
    }
    assert kinds >= {
        ("linear", "orderbook", "delta"),
        ("linear", "tickers", "delta"),
        ("linear", "publicTrade", "snapshot"),
        ("spot", "orderbook", "snapshot"),
        ("spot", "publicTrade", "snapshot"),
    }


def test_the_recording_of_a_deep_book_obeys_the_reference() -> None:
    frames = read("linear-orderbook500-XRPUSDT-20241201.jsonl")
    book = follow(frames[0][0], [frame for _, frame in frames]).state
    assert isinstance(book, Book)
    assert {tuple(map(len, sides)) for sides in book.history.values()} == {(500, 500)}
    assert len(book.history) == len(frames) == 50
