"""Every fault does what it says, and what the exchange believes can be seen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from relay.simulator.control import FAULTS, GARBAGE
from relay.simulator.server import Simulator
from relay.simulator.topics import Category
from tests.processes import PATIENCE
from tests.simulator.reference import (
    Client,
    Control,
    Message,
    ReferenceBook,
    client,
    control,
    eventually,
)

BOOK = "orderbook.50.BTCUSDT"
LINEAR = {"category": "linear"}
TARGET = LINEAR | {"topic": BOOK}


@asynccontextmanager
async def at_rest(*topics: str) -> AsyncIterator[tuple[Client, Control, list[Message]]]:
    """Yield a linear client that follows topics of a standing market, and its greeting."""
    async with (
        Simulator() as simulator,
        client(simulator, "linear") as one,
        control(simulator) as orders,
    ):
        await orders.do("pause")
        *greeting, ack = await one.subscribe(*topics) if topics else [{"success": True}]
        assert ack["success"]
        yield one, orders, greeting


async def step(orders: Control, count: int = 1) -> None:
    await orders.do("step", category="linear", symbol="BTCUSDT", count=count)


async def drain(one: Client) -> list[Message]:
    """Return everything sent so far: what comes before the pong."""
    await one.send(op="ping")
    *seen, _ = await one.until(lambda message: message.get("ret_msg") == "pong")
    return seen


def ids(messages: list[Message]) -> list[int]:
    return [message["data"]["u"] for message in messages]


async def test_gap_swallows_one_delta() -> None:
    async with at_rest(BOOK) as (one, orders, greeting):
        u = greeting[-1]["data"]["u"]
        await orders.do("gap", **TARGET)
        await step(orders, 3)
        assert ids(await drain(one)) == [u + 2, u + 3]


async def test_repeat_sends_the_last_delta_again() -> None:
    async with at_rest(BOOK) as (one, orders, _):
        await step(orders, 2)
        await orders.do("repeat", **TARGET)
        await step(orders)
        first, last, again, after = await drain(one)
        assert last == again != first
        assert after["data"]["u"] == last["data"]["u"] + 1


async def test_repeat_before_anything_was_sent_doubles_the_next() -> None:
    async with at_rest(BOOK) as (one, orders, greeting):
        u = greeting[-1]["data"]["u"]
        await orders.do("repeat", **TARGET)
        await step(orders, 2)
        assert ids(await drain(one)) == [u + 1, u + 1, u + 2]


async def test_reorder_swaps_the_next_two() -> None:
    async with at_rest(BOOK) as (one, orders, greeting):
        u = greeting[-1]["data"]["u"]
        await orders.do("reorder", **TARGET)
        await step(orders, 4)
        assert ids(await drain(one)) == [u + 2, u + 1, u + 3, u + 4]


@pytest.mark.parametrize("kind", ["snapshot", "delta"])
async def test_restart_sends_the_whole_book_with_the_update_id_one(kind: str) -> None:
    async with at_rest(BOOK) as (one, orders, _):
        assert await orders.do("restart", **TARGET, **{"as": kind}) == {"restarted": 1}
        await step(orders, 2)
        restart, *deltas = await drain(one)
        assert restart["type"] == kind
        assert ids([restart, *deltas]) == [1, 2, 3]
        book = ReferenceBook(50)
        book.apply(restart | {"type": "snapshot"})
        for delta in deltas:
            book.apply(delta)


async def test_restart_of_a_category_restarts_all_that_has_a_state() -> None:
    topics = ("orderbook.1.BTCUSDT", BOOK, "tickers.BTCUSDT", "publicTrade.BTCUSDT")
    async with at_rest(*topics) as (one, orders, _):
        assert await orders.do("restart", **LINEAR) == {"restarted": 3}
        assert {(m["topic"], m["type"]) for m in await drain(one)} == {
            (topic, "snapshot") for topic in topics[:3]
        }


async def test_cross_crosses_the_readers_book_until_it_subscribes_again() -> None:
    async with at_rest(BOOK) as (one, orders, greeting):
        u = greeting[-1]["data"]["u"]
        truth = await orders.do("book", **TARGET)
        await orders.do("cross", **TARGET)
        (crossed,) = await drain(one)
        assert crossed["data"]["u"] == u + 1
        assert float(crossed["data"]["b"][0][0]) > float(truth["a"][0][0])
        await one.send(op="unsubscribe", args=[BOOK])
        await one.receive()
        book = ReferenceBook(50)
        for message in (await one.subscribe(BOOK))[:-1]:
            book.apply(message)
        assert book.u == u + 1, "the crossing delta has been counted"
        await step(orders)
        (delta,) = await drain(one)
        book.apply(delta)


async def test_a_faulty_topic_spoils_no_other() -> None:
    async with at_rest(BOOK, "orderbook.200.BTCUSDT") as (one, orders, greeting):
        book = ReferenceBook(200)
        for message in greeting:
            if message["topic"] != BOOK:
                book.apply(message)
        for fault in ("gap", "reorder", "cross", "restart"):
            await orders.do(fault, **TARGET)
        await step(orders, 5)
        for message in await drain(one):
            if message["topic"] != BOOK:
                book.apply(message)


async def test_drop_cuts_every_socket_of_the_category_without_a_close_frame() -> None:
    async with (
        Simulator() as simulator,
        client(simulator, "linear") as one,
        client(simulator, "spot") as other,
        control(simulator) as orders,
    ):
        assert await orders.do("drop", category="linear") == {"dropped": 1}
        with pytest.raises(ConnectionClosedError) as closed:
            await one.receive()
        assert closed.value.rcvd is None
        assert (await other.ask(op="ping"))["success"]
        await eventually(lambda: len(simulator.sockets) == 1)


async def test_refuse_connections_answers_503_for_a_while() -> None:
    async with Simulator() as simulator, control(simulator) as orders:
        await orders.do("refuse_connections", seconds=60)
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{simulator.url}/linear")
        assert refused.value.response.status_code == 503
        await orders.do("refuse_connections", seconds=0)
        async with client(simulator, "linear") as one:
            assert (await one.ask(op="ping"))["success"]


async def test_a_silent_category_says_nothing_and_stays_open() -> None:
    async with (
        Simulator(rate=100) as simulator,
        client(simulator, "linear") as one,
        client(simulator, "spot") as other,
        control(simulator) as orders,
    ):
        *_, last, _ = await one.subscribe(BOOK)
        await orders.do("silence", category="linear", seconds=60)
        pong = await one.connection.ping()
        await one.send(op="ping")
        await one.send(op="subscribe", args=["tickers.BTCUSDT"])
        steps = simulator.exchange.steps
        await eventually(lambda: simulator.exchange.steps > steps + 20)
        requests = (await orders.do("requests", category="linear"))["requests"]
        assert [json.loads(one["text"])["op"] for one in requests[1:]] == ["ping", "subscribe"]
        assert (await other.ask(op="ping"))["success"]
        assert not pong.done()
        await orders.do("silence", category="linear", seconds=0)
        await asyncio.wait_for(await one.connection.ping(), PATIENCE)
        seen = [await one.receive() for _ in range(10)]
        assert {message["topic"] for message in seen} == {BOOK}
        assert max(ids(seen)) > last["data"]["u"] + 20
        assert any(b != a + 1 for a, b in pairwise(ids([last, *seen])))


@pytest.mark.parametrize("kind", GARBAGE)
async def test_garbage_goes_to_every_socket_of_the_category(kind: str) -> None:
    async with (
        Simulator() as simulator,
        client(simulator, "linear") as one,
        client(simulator, "linear") as other,
        control(simulator) as orders,
    ):
        assert await orders.do("garbage", category="linear", kind=kind) == {"sent": 2}
        for reader in (one, other):
            message = await reader.connection.recv(decode=False)
            match kind:
                case "utf8":
                    with pytest.raises(UnicodeDecodeError):
                        message.decode()
                case "binary":
                    assert message == b"\x00\x01\x02\x03"
                case "json":
                    with pytest.raises(json.JSONDecodeError):
                        json.loads(message)
                case "huge":
                    assert len(message) == 10_000_000
                    json.loads(message)
                case "array":
                    assert isinstance(json.loads(message), list)
                case "unknown_topic":
                    assert json.loads(message)["topic"].startswith("candles")
                case "missing_field":
                    assert "u" not in json.loads(message)["data"]
            if kind != "binary":
                assert (await reader.ask(op="ping"))["ret_msg"] == "pong"


async def test_garbage_comes_as_the_kind_of_frame_it_claims_to_be() -> None:
    async with (
        Simulator() as simulator,
        client(simulator, "linear") as one,
        control(simulator) as orders,
    ):
        await orders.do("garbage", category="linear", kind="binary")
        assert isinstance(await one.connection.recv(), bytes)
        await orders.do("garbage", category="linear", kind="utf8")
        with pytest.raises(ConnectionClosedError):  # the client's own verdict on a text frame
            await one.connection.recv()


@pytest.mark.parametrize("category", ["linear", "option"])
async def test_subscribes_are_refused_so_many_times_whatever_they_are_of(category: str) -> None:
    async with (
        Simulator() as simulator,
        client(simulator, category) as one,
        control(simulator) as orders,
    ):
        await orders.do("refuse_subscribes", category=category, count=2)
        topics = ["tickers.BTC-25JUN27-100000-C" if category == "option" else BOOK]
        for _ in range(2):
            reply = await one.ask(op="subscribe", args=topics)
            assert (reply["success"], reply["ret_msg"]) == (False, "error:Internal Server error")
        assert (await one.subscribe(*topics))[-1 if category == "linear" else 0]["success"]


async def test_a_refused_symbol_is_refused_from_then_on() -> None:
    async with at_rest(BOOK) as (one, orders, _):
        await orders.do("refuse", category="linear", symbol="BTCUSDT")
        reply = await one.ask(op="subscribe", args=["tickers.BTCUSDT"])
        assert reply["ret_msg"] == "error:handler not found,topic:tickers.BTCUSDT"
        await step_unknown(orders)
        assert (await one.ask(op="subscribe", args=["tickers.ETHUSDT"]))["topic"]


async def step_unknown(orders: Control) -> None:
    answer = await orders.ask(do="book", category="linear", topic=BOOK)
    assert answer == {"ok": False, "error": f"unknown topic: {BOOK}"}


async def test_acks_can_be_lost() -> None:
    async with at_rest() as (one, orders, _):
        await orders.do("lose_acks", category="linear", count=2)
        await one.send(op="subscribe", args=[BOOK], req_id="lost")
        await one.send(op="unsubscribe", args=[BOOK], req_id="lost too")
        reply = (await one.subscribe(BOOK))[-1]
        assert reply == {**reply, "req_id": "", "success": True}


async def test_acks_can_be_late() -> None:
    async with at_rest() as (one, orders, _):
        await orders.do("delay_acks", category="linear", seconds=1.5, count=1)
        began = asyncio.get_running_loop().time()
        await one.send(op="subscribe", args=[BOOK])
        assert [message.get("topic") for message in await drain(one)] == [BOOK, BOOK]
        assert (await one.receive())["op"] == "subscribe"
        assert asyncio.get_running_loop().time() - began >= 1.5
        await one.send(op="unsubscribe", args=[BOOK])
        assert [message["op"] for message in await drain(one)] == ["unsubscribe"]


async def test_the_state_counts_sockets_and_topics() -> None:
    async with (
        Simulator() as simulator,
        client(simulator, "linear") as one,
        client(simulator, "linear") as other,
        control(simulator) as orders,
    ):
        await orders.do("pause")
        await one.subscribe(BOOK, "tickers.BTCUSDT")
        await other.subscribe(BOOK)
        async with client(simulator, "spot"):
            pass
        await eventually(lambda: len(simulator.sockets) == 2)
        await step(orders)
        state = await orders.do("state")
        assert state["connections"] == {"spot": 0, "linear": 2, "inverse": 0, "option": 0}
        assert state["opened"] == {"spot": 1, "linear": 2, "inverse": 0, "option": 0}
        assert state["topics"]["linear"] == {BOOK: 2, "tickers.BTCUSDT": 1}
        assert state["sent"] in (2, 3)  # the ticker may have nothing new
        assert (state["steps"], state["paused"]) == (1, True)


async def test_requests_are_kept_as_they_came() -> None:
    async with at_rest() as (one, orders, _):
        await one.connection.send('{ "op":"ping" }')
        await one.receive()
        requests = (await orders.do("requests", category="linear"))["requests"]
        assert requests[-1]["text"] == '{ "op":"ping" }'
        assert requests[-1]["time"] > 0


async def test_a_ticker_can_be_seen_merged() -> None:
    async with at_rest("tickers.BTCUSDT") as (one, orders, greeting):
        await step(orders, 20)
        merged = dict(greeting[0]["data"])
        for message in [*greeting[1:], *await drain(one)]:
            merged |= message["data"]
        seen = await orders.do("ticker", category="linear", symbol="BTCUSDT")
        assert seen["data"] | {"symbol": "BTCUSDT"} == merged


async def test_a_paused_market_stands_until_it_is_resumed() -> None:
    async with at_rest(BOOK) as (one, orders, _):
        before = await orders.do("book", **TARGET)
        await orders.do("resume")
        await one.receive()
        await orders.do("pause")
        after = await orders.do("book", **TARGET)
        assert after["u"] > before["u"]
        assert await orders.do("book", **TARGET) == after


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ({}, "unknown command"),
        ({"do": "fly"}, "unknown command"),
        ({"do": ["drop"]}, "unknown command"),
        ({"do": "drop"}, "category must be"),
        ({"do": "drop", "category": "futures"}, "bad category"),
        ({"do": "silence", "category": "spot"}, "seconds must be"),
        ({"do": "silence", "category": "spot", "seconds": True}, "seconds must be"),
        ({"do": "silence", "category": "spot", "seconds": -1}, "seconds must be"),
        ({"do": "garbage", "category": "spot", "kind": "rude"}, "kind must be"),
        ({"do": "gap", "category": "linear", "topic": BOOK}, "no reader follows"),
        ({"do": "gap", "category": "linear", "topic": "order"}, "unknown topic"),
        ({"do": "step", "category": "linear", "symbol": "NOPE"}, "unknown symbol"),
        ({"do": "step", "category": "linear", "symbol": "BTCUSDT", "count": 1.5}, "count must"),
        ({"do": "book", "category": "linear", "topic": "tickers.BTCUSDT"}, "is not a book"),
        ({"do": "ticker", "category": "linear", "topic": BOOK}, "is not a ticker"),
        ({"do": "restart", "category": "linear", "as": "update"}, "as must be"),
    ],
)
async def test_a_wrong_command_is_answered_in_words(command: dict[str, Any], words: str) -> None:
    async with Simulator() as simulator, control(simulator) as orders:
        answer = await orders.ask(**command)
        assert answer["ok"] is False
        assert words in answer["error"]
        assert (await orders.do("state"))["paused"] is False


@pytest.mark.parametrize("text", ["", "drop", "[]", "\x00", '{"do":'])
async def test_what_is_not_an_object_is_answered_in_words(text: str) -> None:
    async with Simulator() as simulator, connect(simulator.control_url) as connection:
        await connection.send(text)
        assert json.loads(await connection.recv()) == {
            "ok": False,
            "error": "expected a JSON object",
        }


async def test_trades_have_nothing_to_restart_or_cross() -> None:
    async with at_rest("publicTrade.BTCUSDT") as (_, orders, _):
        target = LINEAR | {"topic": "publicTrade.BTCUSDT"}
        assert not (await orders.ask(do="restart", **target))["ok"]
        assert not (await orders.ask(do="cross", **target))["ok"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_fault_can_be_ordered_by_interval(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Simulator(rate=100, faults={fault: 0.05}) as simulator:
        done: list[dict[str, Any]] = []
        carry_out = simulator.controls.do

        def record(command: dict[str, Any]) -> dict[str, Any]:
            answer = carry_out(command)
            done.append(command | answer)
            return answer

        monkeypatch.setattr(simulator.controls, "do", record)
        async with client(simulator, "linear") as one:
            await one.send(op="subscribe", args=[BOOK])
            await eventually(lambda: done)
        assert done[0]["do"] == fault
        assert done[0]["ok"] is True
        assert done[0]["category"] is Category.LINEAR


async def test_symbols_can_be_refused_from_the_start() -> None:
    async with (
        Simulator(refuse=[(Category.SPOT, "BTCUSDT")]) as simulator,
        client(simulator, "spot") as one,
    ):
        reply = await one.ask(op="subscribe", args=[BOOK])
        assert reply["ret_msg"] == f"Invalid symbol :[{BOOK}]"
