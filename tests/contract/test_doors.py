"""What both doors promise, over the real wire, on Daphne and on uvicorn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from random import Random
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.e2e.client import client
from tests.e2e.reference import Follower
from tests.e2e.stand_in import BookFeed, StandIn, TickerFeed, TradesFeed
from tests.e2e.steps import assert_forwarded, assert_right, listed, moves
from tests.processes import PATIENCE, Programs, WebServer

CATEGORIES = ("spot", "linear", "inverse", "option")
LIMITS = {"/ws": 8 * 1024, "/v5/public/linear": 64 * 1024}
SYMBOL = {"option": "BTC-25JUN27-80000-C-USDT", "inverse": "BTCUSD"}


@pytest.fixture(scope="module", params=["daphne", "uvicorn"])
def relay(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebServer]:
    """A relay of the simulator, which every test of this module shares."""
    programs = Programs(tmp_path_factory.mktemp("doors"))

    async def start() -> WebServer:
        port = await programs.simulator()
        return await getattr(programs, request.param)(f"ws://127.0.0.1:{port}/v5/public")

    try:
        yield asyncio.run(start())
    finally:
        programs.close()


async def code_of(url: str, **options: Any) -> int | None:
    """Return the code with which a connection is closed at once."""
    async with asyncio.timeout(PATIENCE), connect(url, **options) as socket:
        try:
            while True:
                await socket.recv()
        except ConnectionClosed:
            return socket.close_code


# ---- how much may be said ----


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("path", LIMITS)
async def test_a_message_over_the_doors_limit_closes_with_1009_and_one_within_is_answered(
    path: str, compression: str | None, relay: WebServer
) -> None:
    limit = LIMITS[path]
    async with client(relay.url(path), compression=compression) as one:
        text = json.dumps({"op": "ping"})
        reply = await one.ask(text + " " * (limit - len(text)))
        assert reply["ret_msg"] == "pong"
        await one.socket.send(text + " " * (limit + 1 - len(text)))
        assert await one.until_closed() == 1009


@pytest.mark.parametrize("path", LIMITS)
async def test_a_message_in_fragments_counts_as_a_whole(path: str, relay: WebServer) -> None:
    async with client(relay.url(path)) as one:
        assert (await one.ask('{"op":"ping"}'))["success"]
        with_spaces = ['{"op":"ping"}', *[" " * 1000] * (LIMITS[path] // 1000 + 1)]
        with suppress(ConnectionClosed):
            await one.socket.send(with_spaces)
        assert await one.until_closed() == 1009


async def test_a_multibyte_message_is_measured_in_bytes(relay: WebServer) -> None:
    async with client(relay.url("/ws")) as one:
        await one.socket.send('"' + "é" * 6000 + '"')
        assert await one.until_closed() == 1009


# ---- what may be said ----


NONSENSE: dict[str, str | bytes] = {
    "not JSON": "hello",
    "nothing": "",
    "half an object": '{"op":"subscribe","args":[',
    "two objects": '{"op":"ping"}{"op":"ping"}',
    "a NUL": "\x00",
    "NaN": '{"op":NaN}',
    "an array": "[1,2,3]",
    "a number": "17",
    "a string": '"subscribe"',
    "null": "null",
    "a long number": '{"op":"ping","id":' + "9" * 5000 + "} ",
    "deep nesting": '{"op":' + "[" * 4000 + "]" * 4000 + "}",
    "an empty object": "{}",
    "an unknown op": '{"op":"dance"}',
    "an op of another type": '{"op":7}',
    "no args": '{"op":"subscribe"}',
    "args of another type": '{"op":"subscribe","args":"orderbook.50.BTCUSDT"}',
    "args of other things": '{"op":"subscribe","args":[1,null]}',
    "a lone surrogate": '{"op":"subscribe","args":["\\ud800"]}',
    "an unknown method": '{"method":"dance"}',
    "a method of another type": '{"method":["subscribe"]}',
    "a topic of another type": '{"method":"subscribe","topic":{},"symbol":"BTCUSDT"}',
    "binary": b'{"op":"ping"}',
    "bad bytes": b"\xff\xfe",
}


@pytest.mark.parametrize("path", ["/ws", *(f"/v5/public/{c}" for c in CATEGORIES)])
async def test_whatever_is_said_gets_one_answer_and_leaves_the_connection_open(
    path: str, relay: WebServer
) -> None:
    async with client(relay.url(path)) as one:
        for number, (name, nonsense) in enumerate(NONSENSE.items()):
            reply = await one.ask(nonsense)
            is_ping = name == "a long number"
            assert reply.get("success") is is_ping or reply.get("op") == "pong", (name, reply)
            assert len(json.dumps(reply)) < 1000, name
            pong = await one.ask({"op": "ping", "req_id": f"p{number}"})
            assert pong.get("op") in ("ping", "pong"), (name, pong)
            assert pong.get("req_id", f"p{number}") == f"p{number}", (name, pong)
            assert len(one.replies) == 2 * number + 2, name


REFUSALS: dict[str, list[object]] = {
    "bad_json": ["hello", '{"method":', ""],
    "bad_request": [
        "[]",
        {},
        {"method": "subscribe"},
        {"method": "subscribe", "topic": "orderbook"},
        {"method": "subscribe", "topic": 7, "symbol": "BTCUSDT"},
        {"method": "subscribe", "topic": "orderbook", "symbol": None},
        {"method": "ping", "id": "x" * 65},
        {"method": "ping", "id": {}},
        b"binary",
    ],
    "unknown_method": [{"method": "dance"}, {"method": "SUBSCRIBE"}],
    "unknown_topic": [{"method": "subscribe", "topic": "candles", "symbol": "BTCUSDT"}],
    "bad_levels": [
        {"method": "subscribe", "topic": "orderbook", "symbol": "BTCUSDT", "levels": levels}
        for levels in (7, True, "50", 50.0, None, 1e3, -1, [50])
    ],
    "bad_symbol": [
        {"method": "subscribe", "topic": "orderbook", "symbol": symbol}
        for symbol in ("", "A" * 61, ".BTCUSDT", "BTC USDT", "BTC|USDT", "BTCUSDT\n")
    ],
    "bad_category": [
        {"method": "subscribe", "topic": "orderbook", "symbol": "BTCUSDT", "category": category}
        for category in ("spot", "nonsense")
    ],
    "not_subscribed": [{"method": "unsubscribe", "topic": "orderbook", "symbol": "BTCUSDT"}],
}


@pytest.mark.parametrize("code", REFUSALS)
async def test_a_refusal_names_the_fault_and_repeats_the_id(code: str, relay: WebServer) -> None:
    async with client(relay.url("/ws?category=linear")) as one:
        for request in REFUSALS[code]:
            with_id = request
            if isinstance(request, dict) and "id" not in request:
                with_id = {**request, "id": 7}
            reply = await one.ask(with_id)
            assert reply["success"] is False
            assert reply["error"]["code"] == code, (request, reply)
            assert set(reply["error"]) == {"code", "message"}
            if isinstance(with_id, dict) and with_id.get("id") == 7:
                assert reply["id"] == 7, (request, reply)


@pytest.mark.parametrize("name", [7, -1.5, 0, "seven", "x" * 64, 12345678901234567890, ""])
async def test_an_id_comes_back_as_it_was_given(name: object, relay: WebServer) -> None:
    async with client(relay.url("/ws")) as one:
        assert await one.ask({"method": "ping", "id": name}) == {"method": "pong", "id": name}


async def test_the_short_dialect_by_example(relay: WebServer) -> None:
    request = {"method": "subscribe", "topic": "orderbook", "symbol": "BTCUSDT", "levels": 50}
    agreed = {"success": True, "topic": "orderbook.50.BTCUSDT", "category": "linear"}
    async with connect(relay.url("/ws")) as socket:

        async def ask(body: object) -> dict[str, Any]:
            await socket.send(json.dumps(body))
            async with asyncio.timeout(PATIENCE):
                while "data" in (answer := json.loads(await socket.recv())):
                    pass
            return answer

        assert await ask({"method": "list"}) == {
            "method": "list",
            "success": True,
            "category": "linear",
            "topics": [],
        }
        assert await ask({**request, "id": 7}) == {"method": "subscribe", **agreed, "id": 7}
        again = await ask({**request, "unknown": {"a": []}})
        assert again == {"method": "subscribe", **agreed, "already": True}
        assert (await ask({"method": "list", "id": 1}))["topics"] == ["orderbook.50.BTCUSDT"]
        gone = await ask({**request, "method": "unsubscribe"})
        assert gone == {"method": "unsubscribe", **agreed}
        del request["levels"]
        assert (await ask(request))["topic"] == "orderbook.50.BTCUSDT"


async def test_a_connection_has_the_category_of_its_first_subscribe(relay: WebServer) -> None:
    request = {"method": "subscribe", "topic": "tickers", "symbol": "BTCUSDT"}
    async with asyncio.timeout(PATIENCE), connect(relay.url("/ws")) as socket:
        await socket.send(json.dumps({**request, "category": "spot"}))
        assert json.loads(await socket.recv())["category"] == "spot"
    async with client(relay.url("/ws?category=option")) as one:
        await one.subscribe(f"orderbook.100.{SYMBOL['option']}")
        reply = await one.ask({**request, "category": "linear"})
        assert reply["error"]["code"] == "bad_category"
    assert await code_of(relay.url("/ws?category=nonsense")) in range(4000, 4100)


# ---- Bybit's own words ----


def shape(category: str, words: str, req_id: str | None, op: str, success: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"success": success, "ret_msg": words}
    if req_id is not None or category != "spot":
        body["req_id"] = req_id or ""
    return body | {"op": op}


@pytest.mark.parametrize("category", ["spot", "linear", "inverse"])
async def test_v5_answers_as_bybit_does(category: str, relay: WebServer) -> None:
    topic = f"publicTrade.{SYMBOL.get(category, 'BTCUSDT')}"
    bad = "orderbook.50._BTCUSDT"
    unknown = f"error:handler not found,topic:{bad}"
    done, nothing = (
        ("subscribe", f"Invalid symbol :[{bad}]") if category == "spot" else ("", unknown)
    )
    async with connect(relay.url(f"/v5/public/{category}")) as socket:

        async def ask(body: object) -> tuple[str, dict[str, Any]]:
            await socket.send(json.dumps(body))
            async with asyncio.timeout(PATIENCE):
                while '"topic":' in (text := str(await socket.recv())):
                    pass
            answer = json.loads(text)
            return answer.pop("conn_id"), answer

        ids = set()
        for name, echoed in ((None, None), ("a", "a"), (1, "1"), ("x" * 20_000,) * 2):
            for op, args, words, success in (
                ("ping", None, "pong", True),
                ("ping", [], "pong", True),
                ("subscribe", [topic], done, True),
                ("subscribe", [topic], f"error:already subscribed,topic:{topic}", False),
                ("subscribe", [f"tickers.{topic}", bad], None, False),
                ("subscribe", ["tickers.BTCUSD", bad], nothing, False),
                ("unsubscribe", [topic], done, True),
                ("unsubscribe", [topic, "never.was"], done, True),
                ("pong", None, "error:invalid op", False),
            ):
                request: dict[str, Any] = {"op": op}
                if args is not None:
                    request["args"] = args
                if name is not None:
                    request["req_id"] = name
                conn_id, answer = await ask(request)
                ids.add(conn_id)
                expected = shape(category, words or "", echoed, op, success)
                if words is None or (op == "unsubscribe" and category == "spot"):
                    expected["ret_msg"] = answer["ret_msg"]
                assert answer == expected, request
        assert len(ids) == 1
        if category == "spot":
            _, answer = await ask({"op": "subscribe", "args": [f"tickers.A{n}" for n in range(11)]})
            assert answer == shape("spot", "args size >10", None, "subscribe", False)
        _, answer = await ask([1])
        assert answer["ret_msg"].startswith("Failed to decode incoming data:readObjectStart: ")


async def test_v5_answers_as_bybit_does_on_option(relay: WebServer) -> None:
    topic = f"tickers.{SYMBOL['option']}"
    async with client(relay.url("/v5/public/option")) as one:
        pong = await one.ask({"op": "ping", "req_id": "1"})
        assert pong["op"] == "pong"
        assert pong["args"][0].isdecimal()
        await one.subscribe(topic)
        reply = await one.ask({"op": "subscribe", "args": ["orderbook.50.BTC-1-1-C"]})
        assert reply.pop("conn_id")
        assert reply == {
            "success": False,
            "data": {"failTopics": ["orderbook.50.BTC-1-1-C"], "successTopics": []},
            "type": "COMMAND_RESP",
        }
        await one.unsubscribe(topic)


async def test_one_bad_topic_refuses_the_whole_request(relay: WebServer) -> None:
    async with client(relay.url("/ws")) as one:
        args = ["orderbook.50.BTCUSDT", "kline.2.BTCUSDT", "order"]
        reply = await one.ask({"op": "subscribe", "args": args, "req_id": "a"})
        assert reply["ret_msg"] == "error:handler not found,topic:kline.2.BTCUSDT"
        assert (await one.ask({"method": "list"}))["topics"] == []


# ---- who may come in ----


@pytest.mark.parametrize(
    "path",
    ["/", "/nothing", "/ws/", "/v5/public", "/v5/public/", "/v5/public/linear/", "/v5/private"],
)
async def test_an_unknown_path_is_closed_so_that_the_client_does_not_retry(
    path: str, relay: WebServer
) -> None:
    assert await code_of(relay.url(path)) in range(4000, 4100)


async def test_an_unknown_category_is_closed_so_that_the_client_does_not_retry(
    relay: WebServer,
) -> None:
    assert await code_of(relay.url("/v5/public/spread")) in range(4000, 4100)
    assert await code_of(relay.url("/v5/public/Linear")) in range(4000, 4100)


@pytest.mark.parametrize("path", ["/ws", "/v5/public/linear"])
async def test_a_foreign_page_is_turned_away_and_others_are_welcome(
    path: str, relay: WebServer
) -> None:
    for origin in ("https://evil.example", "null", "http://127.0.0.1.evil.example"):
        assert await code_of(relay.url(path), origin=origin) == 4003, origin
    for origin in (None, f"http://{relay.host}", f"https://{relay.host}"):
        async with client(relay.url(path), origin=origin) as one:
            assert (await one.ask({"op": "ping"}))["ret_msg"] == "pong"


async def test_a_refused_origin_is_in_the_log_once(programs: Programs) -> None:
    relay = await programs.daphne("ws://127.0.0.1:1/v5/public")
    for origin in ("https://a.example", "https://b.example\t", "https://a.example"):
        assert await code_of(relay.url("/ws"), origin=origin) == 4003
    assert relay.program.output.count("Refused a page of 'https://a.example'") == 1
    assert relay.program.output.count("Refused a page of 'https://b.example'") == 1


@pytest.mark.parametrize("path", ["/ws", "/v5/public/linear", "/nowhere"])
async def test_an_offered_subprotocol_is_answered_as_browsers_demand(
    path: str, relay: WebServer
) -> None:
    async with connect(relay.url(path), subprotocols=["json", "v5"]) as socket:
        assert socket.subprotocol == "json"
    async with connect(relay.url(path)) as socket:
        assert socket.subprotocol is None


@pytest.mark.parametrize("path", ["/ws", "/v5/public/linear", "/nowhere"])
@pytest.mark.parametrize(
    ("offer", "is_declined"),
    [
        ("permessage-deflate; unknown=1", True),
        ("permessage-deflate; client_max_window_bits=7", True),
        ("permessage-deflate; server_max_window_bits=16", True),
        ("permessage-deflate; unknown=1, permessage-deflate", False),
        ("permessage-deflate", False),
        ("x-unheard-of; a=1", True),
    ],
)
async def test_compression_that_cannot_be_agreed_on_is_declined(
    offer: str, is_declined: bool, path: str, relay: WebServer
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: {relay.host}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Sec-WebSocket-Extensions: {offer}\r\n\r\n".encode()
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    writer.close()
    assert head.startswith("http/1.1 101")
    if path != "/nowhere":  # closed at once, so nothing is offered there
        assert ("sec-websocket-extensions" not in head) is is_declined


async def test_a_malformed_origin_is_refused_without_a_traceback(relay: WebServer) -> None:
    for origin in ("http://[", "http://a]b"):
        with suppress(InvalidStatus):  # Daphne lets no such handshake through
            assert await code_of(relay.url("/ws"), origin=origin) == 4003
    assert "Traceback" not in relay.program.output


@pytest.mark.parametrize(
    ("server", "found", "lost"),
    [
        (
            "daphne",
            ["/ws", "/feed/ws", "/v5/public/linear", "/feed/v5/public/linear"],
            "/feeder/ws",
        ),
        ("uvicorn", ["/ws", "/v5/public/linear"], "/nowhere"),  # it puts the prefix on itself
    ],
)
async def test_doors_are_found_below_a_root_path(
    server: str, found: list[str], lost: str, programs: Programs
) -> None:
    relay = await getattr(programs, server)("ws://127.0.0.1:1/v5/public", "--root-path", "/feed")
    for path in found:
        async with client(relay.url(path)) as one:
            assert (await one.ask({"op": "ping"}))["ret_msg"] == "pong"
    assert await code_of(relay.url(lost)) == 4004


async def test_origins_can_be_allowed_and_all_of_them_too(programs: Programs) -> None:
    nowhere = "ws://127.0.0.1:1/v5/public"
    some = await programs.daphne(nowhere, RELAY_ALLOWED_ORIGINS="https://page.example")
    every = await programs.daphne(nowhere, RELAY_ALLOWED_ORIGINS="*")
    for server, origin in ((some, "https://page.example"), (every, "https://any.example")):
        async with client(server.url("/ws"), origin=origin) as one:
            assert (await one.ask({"op": "ping"}))["ret_msg"] == "pong"
    assert await code_of(some.url("/ws"), origin="https://other.example") == 4003


async def test_a_full_relay_says_so_and_has_room_again(programs: Programs) -> None:
    relay = await programs.daphne("ws://127.0.0.1:1/v5/public", RELAY_MAX_CONNECTIONS="2")
    async with client(relay.url("/ws")):
        async with client(relay.url("/ws")):
            assert await code_of(relay.url("/ws")) == 4100
            assert await code_of(relay.url("/v5/public/linear")) == 4100
        async with client(relay.url("/ws")) as one:
            assert (await one.ask({"op": "ping"}))["ret_msg"] == "pong"


async def test_an_idle_connection_is_closed_with_a_word_and_one_that_follows_is_not(
    programs: Programs, exchange: StandIn
) -> None:
    relay = await programs.daphne(exchange.url, RELAY_IDLE_TIMEOUT="3")
    async with (
        client(relay.url("/ws")) as follows,
        client(relay.url("/ws")) as idle,
        client(relay.url("/v5/public/linear")) as bybit,
    ):
        await follows.subscribe("publicTrade.BTCUSDT")
        for one in (idle, bybit):
            assert await one.until_closed() in range(4000, 4300)
        assert [notice["type"] for notice in idle.notices] == ["bye"]
        assert bybit.notices == []
        assert (await follows.ask({"op": "ping"}))["ret_msg"] == "pong"


async def test_too_many_topics_and_too_many_requests_are_refused(
    programs: Programs, exchange: StandIn
) -> None:
    relay = await programs.daphne(
        exchange.url, RELAY_MAX_TOPICS_PER_CONNECTION="2", RELAY_REQUESTS_PER_SECOND="2"
    )
    trades = [f"publicTrade.T{n}USDT" for n in range(3)]
    async with client(relay.url("/ws")) as one:
        await one.subscribe(*trades[:2])
        reply = await one.ask({"method": "subscribe", "topic": "publicTrade", "symbol": "T2USDT"})
        assert reply["error"]["code"] == "too_many_topics"
        for _ in range(12):
            await one.say({"method": "ping"})
        await one.until(lambda: len(one.replies) >= 15, "answers")
        assert [r["error"]["code"] for r in one.replies if "error" in r][-1] == "rate_limited"
    async with client(relay.url("/v5/public/linear")) as one:
        for n in range(12):
            await one.say({"op": "unsubscribe", "args": [f"tickers.A{n}"]})
        await one.until(lambda: len(one.replies) >= 12, "answers, in turn")
        assert [reply["success"] for reply in one.replies] == [True] * 12
    async with client(relay.url("/ws")) as one:
        for _ in range(60):
            await one.say({"method": "ping"})
        assert await one.until_closed() == 4129


@pytest.mark.parametrize(
    "spellings",
    [
        ["203.0.113.7:50001", "203.0.113.7", "::ffff:203.0.113.7"],
        ["[2001:db8:1:2::1]:50001", "2001:DB8:1:2::2", "2001:db8:1:2:3::"],
    ],
)
async def test_the_limit_of_an_address_holds_however_a_proxy_spells_it(
    spellings: list[str], programs: Programs, exchange: StandIn
) -> None:
    relay = await programs.daphne(
        exchange.url, "--proxy-headers", RELAY_MAX_CONNECTIONS_PER_ADDRESS="2"
    )
    async with AsyncExitStack() as stack:
        sockets = [
            await stack.enter_async_context(
                connect(relay.url("/ws"), additional_headers={"X-Forwarded-For": spelling})
            )
            for spelling in spellings
        ]
        for socket in sockets[:2]:
            await socket.send('{"method":"ping"}')
            assert json.loads(await socket.recv()) == {"method": "pong"}
        await sockets[2].wait_closed()
        assert sockets[2].close_code == 4100


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
async def test_v5_takes_requests_in_turn_and_refuses_none_for_their_rate(
    server: str, programs: Programs, exchange: StandIn
) -> None:
    relay = await getattr(programs, server)(exchange.url, RELAY_REQUESTS_PER_SECOND="40")
    topics = [f"publicTrade.A{number}" for number in range(450)]  # 200 at once, 400 are a flood
    async with client(relay.url("/v5/public/linear")) as one:
        for topic in topics:
            await one.say({"op": "subscribe", "args": [topic], "req_id": topic})
        await one.until(lambda: len(one.replies) == 450, "an answer for each")
        assert [(reply["req_id"], reply["success"]) for reply in one.replies] == [
            (topic, True) for topic in topics
        ]


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
async def test_v5_reads_no_more_while_many_bytes_of_requests_wait(
    server: str, programs: Programs, exchange: StandIn
) -> None:
    relay = await getattr(programs, server)(exchange.url, RELAY_REQUESTS_PER_SECOND="10")
    padding = "x" * 30_000
    async with client(relay.url("/v5/public/linear")) as one:
        for number in range(100):  # 1.5 MB wait, where 512 KiB may
            await one.say({"op": "unsubscribe", "args": [f"tickers.A{number}"], "x": padding})
        await one.until(lambda: len(one.replies) == 100, "an answer for each")
        assert all(reply["success"] for reply in one.replies)


# ---- other servers, other clients ----


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
async def test_a_client_that_offers_compression_is_served_as_well(
    server: str, programs: Programs, exchange: StandIn
) -> None:
    relay = await getattr(programs, server)(exchange.url)
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    async with AsyncExitStack() as stack:
        clients = []
        for compression in ("deflate", None, "deflate"):
            url = relay.url("/v5/public/linear")
            one = await stack.enter_async_context(client(url, compression=compression))
            await one.subscribe(book.topic)
            await moves(exchange, "linear", book, 50)
            clients.append(one)
        for one in clients:
            await assert_right(one, book)
            assert_forwarded(one.followers[book.topic], exchange.said["linear", book.topic])


@pytest.mark.parametrize("compress", [0, 15])
async def test_aiohttp_follows_a_book_through_the_relay(
    compress: int, programs: Programs, exchange: StandIn
) -> None:
    relay = await programs.daphne(exchange.url)
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    follower = Follower(book.topic)
    url = f"http://{relay.host}/v5/public/linear"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, compress=compress, heartbeat=20) as socket,
    ):
        await socket.send_str('{"op":"subscribe","args":["orderbook.50.BTCUSDT"]}')
        ack = await socket.receive_json(timeout=PATIENCE)
        assert ack["success"] is True
        await moves(exchange, "linear", book, 30)
        while follower.position != book.u:
            text = await socket.receive_str(timeout=PATIENCE)
            follower.take(text, json.loads(text))
    assert_forwarded(follower, exchange.said["linear", book.topic])


async def test_under_uvicorn_nothing_is_lost_or_out_of_order(
    programs: Programs, exchange: StandIn
) -> None:
    relay = await programs.uvicorn(exchange.url)
    book, ticker, trades = BookFeed("BTCUSDT"), TickerFeed("BTCUSDT"), TradesFeed("BTCUSDT")
    listed(exchange, "linear", book, ticker)
    topics, random = [book.topic, ticker.topic, trades.topic], Random(11)
    async with AsyncExitStack() as stack:
        clients = []
        for number in range(8):
            url = relay.url(("/ws", "/v5/public/linear")[number % 2])
            one = await stack.enter_async_context(client(url))
            clients.append(one)
            joining = asyncio.create_task(one.subscribe(*topics))
            if number == 0:
                await exchange.until_followed("linear", *topics)
            for _ in range(random.randrange(20, 60)):
                await moves(exchange, "linear", book, 1)
                await moves(exchange, "linear", ticker, 1)
                await exchange.say("linear", trades.topic, trades.trade())
            await joining
        last = trades.trade()
        await exchange.say("linear", trades.topic, last)
        for one in clients:
            await assert_right(one, book)
            await one.until_at(ticker.topic, ticker.cs)
            await one.until(lambda o=one: o.followers[trades.topic].texts[-1:] == [last], "trades")
            for topic in topics[:2]:
                assert_forwarded(one.followers[topic], exchange.said["linear", topic])
