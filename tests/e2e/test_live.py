"""What operators see and do, over an upstream worker and two web processes on a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.e2e.client import Client, client
from tests.e2e.house import House
from tests.e2e.operators import (
    LIVE,
    Operator,
    codes_in,
    give_database,
    make_database,
    operator,
    shell,
)
from tests.e2e.stand_in import BookFeed, StandIn, TradesFeed
from tests.e2e.steps import QUICK, following, listed, moves
from tests.processes import MANAGE, PATIENCE, Program, Programs, WebServer, until
from tests.redis_server import RedisServer

BOOK = "orderbook.50.BTCUSDT"


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_database(tmp_path_factory.mktemp("operators") / "db.sqlite3")


@pytest.fixture
async def alone(exchange: StandIn, programs: Programs, database: Path) -> WebServer:
    """A web process with its worker inside."""
    give_database(programs, database)
    return await programs.daphne(exchange.url, **QUICK)


@pytest.fixture
async def house(exchange: StandIn, programs: Programs, redis_url: str, database: Path) -> House:
    give_database(programs, database)
    worker = programs.upstream(exchange.url, redis_url, **QUICK)
    webs = await asyncio.gather(
        *(programs.daphne(exchange.url, REDIS_URL=redis_url, **QUICK) for _ in range(2))
    )
    return House(worker, list(webs))


def topics_of(picture: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{topic['category']}:{topic['topic']}": topic for topic in picture["topics"]}


def sums(picture: dict[str, Any]) -> tuple[int, int, int]:
    totals = picture["totals"]
    return totals["clients"], totals["subscriptions"], totals["topics"]


# ---- the picture ----


async def test_whichever_process_answers_the_sums_are_the_same_and_a_killed_one_leaves_them(
    house: House, exchange: StandIn
) -> None:
    book, other = BookFeed("BTCUSDT"), BookFeed("ETHUSDT")
    listed(exchange, "linear", book, other)
    one, two = house.webs
    async with (
        operator(one) as first,
        operator(two) as second,
        following(one, book.topic),
        following(two, book.topic, other.topic),
        following(two, book.topic) as third,
    ):
        for asked in (first, second):
            picture = await asked.until(
                lambda p: sums(p) == (3, 4, 2) and topics_of(p)[f"linear:{BOOK}"]["u"] == book.u,
                "3 clients with 4 subscriptions of 2 topics",
            )
            topic = topics_of(picture)[f"linear:{BOOK}"]
            assert (topic["subscribers"], topic["state"]) == (3, "live")
            assert [p["clients"] for p in picture["processes"]] in ([1, 2], [2, 1])
            assert len(picture["connections"]) == 3
            linear = picture["upstream"]["linear"]
            assert (linear["state"], linear["topics"], linear["confirmed"]) == ("live", 2, 2)
            assert [line["state"] for line in linear["connections"]] == ["live"]
            assert picture["totals"]["redis_delay_ms"] is not None
        two.program.kill()
        picture = await first.until(lambda p: sums(p) == (1, 1, 1), "the dead one's are gone")
        assert len(picture["processes"]) == 1
        await first.until(
            lambda p: any("no report" in event["words"] for event in p["events"]), "it is told"
        )
        await third.until(lambda: third.code is not None)


async def test_the_picture_names_who_leads_and_who_stands_by(
    house: House, exchange: StandIn, programs: Programs, redis_url: str
) -> None:
    listed(exchange, "linear", BookFeed("BTCUSDT"))
    other = programs.upstream(exchange.url, redis_url, **QUICK)

    def ends_with(names: list[str], *programs: Program) -> bool:
        return [name.rpartition(":")[2] for name in names] == [str(p.process.pid) for p in programs]

    def is_led(picture: dict[str, Any], leader: Program, *standbys: Program) -> bool:
        linear = picture["upstream"]["linear"]
        live = linear["topics"] == 1 and linear["connections"][0]["state"] == "live"
        return (
            live
            and ends_with([linear["worker"]], leader)
            and ends_with(linear["standbys"], *standbys)
        )

    async with operator(house.webs[0]) as asked, following(house.webs[1], BOOK):
        await asked.until(lambda p: is_led(p, house.worker, other), "the first leads")
        house.worker.kill()
        picture = await asked.until(lambda p: is_led(p, other), "the other leads alone")
        leads = [worker["leads"] for worker in picture["workers"]]
        assert sorted(map(len, leads)) in ([4], [0, 4])  # the dead one is not forgotten yet
        assert any(
            event["kind"] == "leader" and str(other.process.pid) in event["words"]
            for event in picture["events"]
        )


async def test_a_killed_standby_is_missing_until_another_takes_its_place(
    house: House, exchange: StandIn, programs: Programs, redis_url: str
) -> None:
    listed(exchange, "linear", BookFeed("BTCUSDT"))
    one, two = house.webs

    def standbys(picture: dict[str, Any]) -> int:
        return len(picture["upstream"]["linear"]["standbys"])

    def missing(picture: dict[str, Any]) -> list[tuple[str, str]]:
        return [(gone["kind"], gone["name"].rpartition(":")[2]) for gone in picture["missing"]]

    async with operator(one) as first, operator(two) as second, following(one, BOOK):
        for asked in (first, second):  # else the leader may look like the standby's successor
            await asked.until(lambda p: len(p["workers"]) == 1, "the leader reports")
        standby = programs.upstream(exchange.url, redis_url, **QUICK)
        for asked in (first, second):
            await asked.until(lambda p: standbys(p) == 1, "it stands by")
        standby.kill()
        gone = [("worker", str(standby.process.pid))]
        for asked in (first, second):
            picture = await asked.until(lambda p: missing(p) == gone, "it is missing")
            assert standbys(picture) == 0
        programs.upstream(exchange.url, redis_url, **QUICK)
        for asked in (first, second):
            await asked.until(lambda p: standbys(p) == 1 and not p["missing"], "another stands by")


async def test_a_web_process_without_a_worker_says_what_to_start(
    exchange: StandIn, programs: Programs, redis_url: str
) -> None:
    web = await programs.daphne(exchange.url, REDIS_URL=redis_url, **QUICK)
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    async with following(web, BOOK) as reader:
        await until(lambda: "manage.py run_upstream" in web.program.output, PATIENCE, "what to do")
        assert "no upstream worker reports, so readers get no data" in web.program.output
        programs.upstream(exchange.url, redis_url, **QUICK)
        await until(lambda: "reports" in web.program.output.splitlines()[-1], PATIENCE, "it came")
        await reader.until_at(BOOK, book.u)
    assert web.program.output.count("manage.py run_upstream") == 1


async def test_a_killed_leader_is_named_no_more(
    house: House, exchange: StandIn, redis_url: str
) -> None:
    listed(exchange, "linear", BookFeed("BTCUSDT"))
    async with operator(house.webs[0]) as asked, following(house.webs[0], BOOK):
        await asked.until(lambda p: p["upstream"]["linear"]["worker"], "it leads")
        house.worker.kill()
        picture = await asked.until(lambda p: not p["upstream"]["linear"]["worker"], "it does not")
        assert picture["upstream"]["linear"]["state"] == "down"


async def test_rates_are_those_of_the_exchange_however_many_processes_listen(
    house: House, exchange: StandIn
) -> None:
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    one, two = house.webs
    async with operator(one) as asked, following(one, BOOK), following(two, BOOK):
        stop = asyncio.Event()

        async def speak() -> None:
            while not stop.is_set():
                await moves(exchange, "linear", book, 1)
                await asyncio.sleep(0.02)

        speaking = asyncio.create_task(speak())

        def is_right(picture: dict[str, Any]) -> bool:
            topic = topics_of(picture).get(f"linear:{BOOK}")
            rate = topic["messages_per_second"] if topic else 0.0
            # Two reports are never of the same second: what counts is that nothing counts twice.
            return 5 < rate <= 50.5 and 1.6 < topic["deliveries_per_second"] / rate < 2.4

        await asked.until(is_right, "one rate in, twice as much out")
        stop.set()
        await speaking


async def test_a_process_that_stops_leaves_the_sums_and_a_new_one_knows_what_happened(
    house: House, exchange: StandIn, programs: Programs, redis_url: str
) -> None:
    listed(exchange, "linear", BookFeed("BTCUSDT"))
    one, two = house.webs
    async with operator(one) as asked, following(one, BOOK):
        await asked.until(lambda p: len(p["processes"]) == 2, "two processes")
        two.program.signal(signal.SIGTERM)
        await two.program.end()
        picture = await asked.until(lambda p: len(p["processes"]) == 1, "one process")
        # It has said goodbye: nobody had to wait until it was missed.
        assert not any("no report" in event["words"] for event in picture["events"])
        again = await programs.daphne(exchange.url, REDIS_URL=redis_url, **QUICK)
        async with operator(again) as newcomer:
            opened = {"kind": "connection", "words": "connection 1 opened"}
            await newcomer.until(
                lambda p: any(opened.items() <= event.items() for event in p["events"]),
                "what the worker noted before",
            )


async def test_the_sums_survive_a_restart_of_redis(
    exchange: StandIn, programs: Programs, redis_server: RedisServer, database: Path
) -> None:
    give_database(programs, database)
    listed(exchange, "linear", BookFeed("BTCUSDT"))
    programs.upstream(exchange.url, redis_server.url, **QUICK)
    one, two = await asyncio.gather(
        *(programs.daphne(exchange.url, REDIS_URL=redis_server.url, **QUICK) for _ in range(2))
    )
    async with (
        operator(one) as first,
        operator(two) as second,
        following(one, BOOK),
        following(two, BOOK),
    ):
        await first.until(lambda p: sums(p) == (2, 2, 1), "two clients")
        redis_server.kill()
        cut_off = await first.until(lambda p: sums(p) == (1, 1, 1), "cut off from the other")
        assert cut_off["layer_down_since"] is not None
        redis_server.start()
        for asked in (first, second):
            await asked.until(lambda p: sums(p) == (2, 2, 1), "two clients again")
            await asked.until(lambda p: len(p["workers"]) == 1, "the worker again")
            picture = await asked.until(lambda p: p["layer_down_since"] is None, "Redis again")
            # It was Redis that failed: nobody else is said to have.
            assert [e["words"] for e in picture["events"] if e["kind"] == "silent"] == []


async def test_who_reads_too_slowly_is_first_among_the_connections_of_all_processes(
    exchange: StandIn, programs: Programs, redis_url: str, database: Path
) -> None:
    give_database(programs, database)
    small = {
        "RELAY_CLIENT_BUFFER": "65536",
        "RELAY_SEND_BUFFER": "16384",
        "RELAY_SLOW_TIMEOUT": "600",
    }
    programs.upstream(exchange.url, redis_url, **QUICK)
    one, two = await asyncio.gather(
        *(programs.daphne(exchange.url, REDIS_URL=redis_url, **QUICK, **small) for _ in range(2))
    )
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    with socket.socket() as idler:
        idler.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        idler.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            idler.connect(("127.0.0.1", two.port))
        async with (
            operator(one) as asked,
            following(one, BOOK) as quick,
            connect(two.url(), sock=idler, max_queue=1, compression=None, close_timeout=1) as slow,
        ):
            await slow.send(json.dumps({"op": "subscribe", "args": [BOOK]}))
            await asked.until(lambda p: sums(p) == (2, 2, 1), "two clients")

            def is_told(picture: dict[str, Any]) -> bool:
                return [one["lagging"] for one in picture["connections"]] == [True, False]

            for _ in range(20):  # what nobody reads must not fit into the kernel's buffers
                for _ in range(
                    10
                ):  # in batches below the budget: a snapshot stands for a larger one
                    await moves(exchange, "linear", book, 50)
                    await quick.until_at(BOOK, book.u)
                # A report of the midst of the flood may call the quick one slow as well.
                with contextlib.suppress(AssertionError):
                    picture = await asked.until(is_told, "the one that lags is first", 3)
                    break
            else:
                raise AssertionError("the one that reads nothing is not told of")
            first, second = picture["connections"]
            assert first["unsent"] > second["unsent"]
            assert picture["totals"]["unsent"] == first["unsent"] + second["unsent"]
            assert first["user_agent"].startswith("Python/")


async def test_a_page_of_topics_is_searched_and_sorted_for_scripts(
    alone: WebServer, exchange: StandIn
) -> None:
    feeds = [BookFeed(f"{name}USDT") for name in ("BTC", "ETH", "SOL")]
    listed(exchange, "linear", *feeds)
    async with (
        operator(alone) as asked,
        following(alone, *(feed.topic for feed in feeds)),
        following(alone, feeds[1].topic),
    ):
        await asked.until(lambda p: sums(p) == (2, 4, 3), "three topics")
        page = await asked.picture(sort="topic", descending="false", limit="2")
        assert [topic["topic"] for topic in page["topics"]] == [f.topic for f in feeds[:2]]
        assert page["topics_matched"] == 3
        assert (await asked.picture(limit="1"))["topics"][0]["topic"] == feeds[1].topic
        found = await asked.picture(search="sol linear")
        assert [topic["topic"] for topic in found["topics"]] == [feeds[2].topic]
        assert (await asked.picture(category="spot"))["topics_matched"] == 0
        status, text = await asked.get("live.json", sort="password")
        assert (status, "bad_request" in text) == (400, True)


# ---- the live socket ----


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
async def test_a_live_page_is_pushed_the_picture_each_second_and_at_once_when_it_looks_elsewhere(
    exchange: StandIn, programs: Programs, database: Path, server: str
) -> None:
    give_database(programs, database)
    start = programs.daphne if server == "daphne" else programs.uvicorn
    alone = await start(exchange.url, **QUICK)
    feeds = [BookFeed(f"{name}USDT") for name in ("BTC", "ETH", "SOL")]
    listed(exchange, "linear", *feeds)
    async with following(alone, *(feed.topic for feed in feeds)), operator(alone, "viewer") as who:
        await who.until(lambda p: sums(p) == (1, 3, 3), "three topics")
        async with who.watching() as live:
            picture = await live.next()
            assert picture["topics_matched"] == len(picture["topics"]) == 3
            assert set(picture["totals"]) <= set(picture["history"])
            await live.look(search="eth")
            while picture["topics_matched"] != 1:
                picture = await live.next()
                assert "history" not in picture
            assert [topic["topic"] for topic in picture["topics"]] == [feeds[1].topic]
            before = picture["generated_at"]
            assert (await live.next())["generated_at"] > before


@pytest.mark.parametrize(
    ("name", "origin", "code"),
    [
        ("", "", 4001),
        ("clerk", "", 4001),
        ("root", "http://evil.example", 4003),
        ("root", None, 4003),
    ],
    ids=["anonymous", "no permission", "foreign origin", "no origin"],
)
async def test_the_live_socket_is_for_permitted_staff_on_its_own_page(
    alone: WebServer, name: str, origin: str | None, code: int
) -> None:
    async with operator(alone, name) as who, who.watching(origin) as live:
        assert await live.code() == code


async def test_a_live_page_that_talks_nonsense_is_closed(alone: WebServer) -> None:
    async with operator(alone) as who, who.watching() as live:
        await live.next()
        await live.socket.send_str('{"topics": {"limit": 1000000}}')
        assert await live.code() == 4000


@pytest.mark.parametrize(
    "code",
    [
        "from django.contrib.sessions.models import Session; Session.objects.all().delete()",
        "from django.contrib.auth.models import User;"
        "User.objects.get(username='viewer').user_permissions.clear()",
    ],
    ids=["logged out", "not permitted any more"],
)
async def test_a_live_page_is_closed_when_its_user_may_not_look_any_more(
    alone: WebServer, programs: Programs, code: str
) -> None:
    async with operator(alone, "viewer") as who, who.watching() as live:
        await live.next()
        await asyncio.to_thread(shell, programs, code)
        assert await live.code() == 4001


async def test_a_live_page_is_told_when_the_relay_stops(alone: WebServer) -> None:
    async with operator(alone) as who, who.watching() as live:
        await live.next()
        alone.program.signal(signal.SIGTERM)
        assert await live.code() == 4200
        assert await alone.program.end() == 0


async def test_a_live_page_that_never_reads_costs_nothing_and_is_closed(
    exchange: StandIn, programs: Programs, database: Path
) -> None:
    give_database(programs, database)
    slow = {
        "RELAY_REQUESTS_PER_SECOND": "1000",
        "RELAY_SLOW_TIMEOUT": "3",
        "RELAY_SEND_BUFFER": "4096",
    }
    web = await programs.daphne(exchange.url, **QUICK, **slow)
    feeds = [BookFeed(f"A{number}USDT") for number in range(150)]
    listed(exchange, "linear", *feeds)
    async with following(web, *(feed.topic for feed in feeds)), operator(web) as who:
        await who.until(lambda p: p["totals"]["topics"] == 150, "150 topics")
        cookie = next(c for c in who.session.cookie_jar if c.key == "sessionid")
        with socket.socket() as idler:
            idler.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            idler.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            idler.connect(("127.0.0.1", web.port))
            idler.sendall(
                f"GET {LIVE}ws HTTP/1.1\r\nHost: {web.host}\r\nOrigin: http://{web.host}\r\n"
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                f"Cookie: sessionid={cookie.value}\r\n\r\n".encode()
            )

            def was_ended() -> bool:
                return f"WSDISCONNECT {LIVE}ws" in web.program.output

            await who.until(lambda p: was_ended(), "the idle page is closed")


# ---- actions ----


async def test_a_resync_is_seen_at_the_exchange_and_readers_get_a_fresh_snapshot(
    house: House, exchange: StandIn
) -> None:
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    async with operator(house.webs[0]) as who, following(house.webs[1], BOOK) as reader:
        await who.until(lambda p: sums(p)[2] == 1, "the topic")
        fields = {"category": "linear", "topic": BOOK}
        assert (await who.act("resync", **fields))[0] == 200
        assert (await who.act("resync", **fields))[0] == 200  # the same wish again
        await exchange.until(lambda: exchange.asked("subscribe", BOOK) == 2, "asked anew")
        assert exchange.asked("unsubscribe", BOOK) == 1
        picture = await who.until(
            lambda p: topics_of(p)[f"linear:{BOOK}"]["resyncs"] == 1, "counted once"
        )
        assert [e["topic"] for e in picture["events"] if e["kind"] == "resync"] == [BOOK]
        await moves(exchange, "linear", book, 1)
        await reader.until_at(BOOK, book.u)
        assert (await who.act("resync", category="linear", topic="tickers.NOSUCH"))[0] == 404


async def test_a_pinned_topic_is_kept_without_a_reader_and_over_a_restart(
    house: House, exchange: StandIn, programs: Programs, redis_url: str
) -> None:
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    one, two = house.webs
    fields = {"category": "linear", "topic": BOOK}
    async with operator(one) as who:
        assert (await who.act("pin", **fields))[0] == 200
        await exchange.until_followed("linear", BOOK)
        picture = await who.until(
            lambda p: topics_of(p).get(f"linear:{BOOK}", {}).get("u") == book.u, "its snapshot"
        )
        topic = topics_of(picture)[f"linear:{BOOK}"]
        assert (topic["subscribers"], topic["pinned"], topic["state"]) == (0, True, "live")
    async with following(two, BOOK):
        pass
    for web in (one, two):
        web.program.signal(signal.SIGTERM)
    for web in (one, two):
        await web.program.end()
    await exchange.until(lambda: not exchange.topics("linear"), "nobody is left to want it")
    again = await programs.daphne(exchange.url, REDIS_URL=redis_url, **QUICK)
    async with operator(again) as who:  # nobody but the operator has come
        await exchange.until_followed("linear", BOOK)
        assert (await who.act("unpin", **fields))[0] == 200
        await exchange.until(lambda: not exchange.topics("linear"), "it is let go")
        await who.until(lambda p: not p["topics"], "no topic is left")
        assert (await who.act("unpin", **fields))[0] == 404


async def test_a_client_on_the_other_process_is_disconnected_and_told_why(
    house: House, exchange: StandIn
) -> None:
    listed(exchange, "linear", BookFeed("BTCUSDT"))
    one, two = house.webs
    async with operator(one) as who, following(two, BOOK) as victim, following(two, BOOK) as other:
        picture = await who.until(lambda p: len(p["connections"]) == 2, "two clients")
        row = min(picture["connections"], key=lambda row: int(row["client"]))
        assert (row["address"], row["door"], row["topics"]) == ("127.0.0.1", "/ws", 1)
        fields = {"process": row["process"], "client": row["client"]}
        status, answer = await who.act("disconnect", **fields)
        assert (status, answer["done"]) == (200, True)
        assert await victim.until_closed() == 4110
        assert victim.notices[-1]["code"] == "disconnected"
        await who.until(lambda p: len(p["connections"]) == 1, "one client")
        assert (await who.act("disconnect", **fields))[0] == 404
        assert other.code is None


async def test_actions_are_refused_to_those_who_may_only_look(
    alone: WebServer, exchange: StandIn
) -> None:
    alone.program.may_complain = True  # Django writes a traceback for each page it forbids
    listed(exchange, "linear", BookFeed("BTCUSDT"))
    fields = {"category": "linear", "topic": BOOK}
    async with operator(alone) as who:
        forged = f"http://{alone.host}{LIVE}pin/"
        answer = await who.session.post(forged, data=fields)  # without the token of the form
        assert answer.status == 403
    async with following(alone, BOOK) as reader, operator(alone, "viewer") as who:
        picture = await who.until(lambda p: len(p["connections"]) == 1, "one client")
        assert topics_of(picture)[f"linear:{BOOK}"]["pinned"] is False
        row = picture["connections"][0]
        victim = {"process": row["process"], "client": row["client"]}
        for name, given in (
            ("resync", fields),
            ("pin", fields),
            ("unpin", fields),
            ("disconnect", victim),
        ):
            status, answer = await who.act(name, **given)
            assert (status, answer["error"]["code"]) == (403, "forbidden"), name
            assert (await who.get(f"{name}/", **given))[0] == 403
        assert reader.code is None
        assert exchange.asked("subscribe", BOOK) == 1


async def test_without_script_an_action_is_asked_for_and_confirmed_on_pages(
    alone: WebServer, exchange: StandIn
) -> None:
    listed(exchange, "linear", BookFeed("BTCUSDT"))
    async with operator(alone) as who:
        status, page = await who.get("pin/", category="linear", topic=BOOK)
        assert (status, f'value="{BOOK}"' in page, "csrfmiddlewaretoken" in page) == (
            200,
            True,
            True,
        )
        url = f"http://{alone.host}{LIVE}pin/"
        form = {"category": "linear", "topic": BOOK, "csrfmiddlewaretoken": who.token}
        accept = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Referer": url}
        answer = await who.session.post(url, data=form, headers=accept)
        assert str(answer.url).endswith(LIVE)
        assert codes_in(await answer.text()) == [f"Pinned linear:{BOOK}."]
        await exchange.until_followed("linear", BOOK)
        status, page = await who.get("pin/", category="linear", topic="<img src=x>")
        assert codes_in(page) == ["Nothing was done: unknown topic: &lt;img src=x&gt;."]


async def test_every_action_is_entered_in_the_log_of_the_admin(
    alone: WebServer, exchange: StandIn, programs: Programs
) -> None:
    trades = TradesFeed("BTCUSDT")
    async with client(alone.url()) as reader, operator(alone) as who:
        await reader.subscribe(trades.topic)
        picture = await who.until(lambda p: sums(p)[1] == 1, "the client")
        row = picture["connections"][0]
        fields = {"category": "linear", "topic": trades.topic}
        for name in ("pin", "resync", "unpin"):
            assert (await who.act(name, **fields))[0] == 200
        await who.act("disconnect", process=row["process"], client=row["client"])
        await reader.until_closed()
    code = (
        "from django.contrib.admin.models import LogEntry as E;"
        "said = [e.change_message.split()[0] for e in E.objects.order_by('pk')];"
        "assert said == ['Pinned', 'Asked', 'Unpinned', 'Disconnected'], said;"
        "assert {e.user.username for e in E.objects.all()} == {'root'}"
    )
    await asyncio.to_thread(shell, programs, code)


async def test_a_pin_made_in_the_admin_itself_is_kept_at_once(
    alone: WebServer, exchange: StandIn
) -> None:
    listed(exchange, "linear", BookFeed("BTCUSDT"))
    async with operator(alone) as who:
        await pin_by_form(who, alone, "nonsense")
        await pin_by_form(who, alone, BOOK)
        await exchange.until_followed("linear", BOOK)
        assert exchange.topics("linear") == [BOOK]


async def pin_by_form(who: Operator, web: WebServer, topic: str) -> None:
    url = f"http://{web.host}/admin/relay/pinnedtopic/add/"
    await (await who.session.get(url)).text()
    form = {"category": "linear", "topic": topic, "csrfmiddlewaretoken": who.token}
    answer = await who.session.post(url, data=form, headers={"Referer": url})
    assert answer.status == 200


# ---- the bound on topics ----


async def is_refused(one: Client, topic: str, code: str) -> bool:
    """Whether a subscribe is refused, with that code; else it has succeeded."""
    before = len(one.replies)
    await one.request("subscribe", topic)
    await one.until(lambda: len(one.replies) > before, f"an answer to {topic}")
    error = one.replies[before].get("error")
    assert error is None or error["code"] == code
    return error is not None


async def test_two_workers_together_carry_no_more_topics_than_allowed(
    exchange: StandIn, programs: Programs, redis_url: str
) -> None:
    books = [BookFeed(f"A{number}USDT") for number in range(5)]
    for category in ("linear", "spot"):
        listed(exchange, category, *books)
        programs.start(
            f"upstream-{category}",
            *(*MANAGE, "run_upstream", "--category", category),
            UPSTREAM_URL=exchange.url,
            REDIS_URL=redis_url,
            RELAY_MAX_TOPICS="6",
            **QUICK,
        )
    web = await programs.daphne(exchange.url, REDIS_URL=redis_url, **QUICK)
    async with following(web, *(book.topic for book in books[:4])):
        await exchange.until_followed("linear", *(book.topic for book in books[:4]))
        async with client(web.url("/ws?category=spot")) as one:
            await one.subscribe(books[0].topic)
            await one.subscribe(books[1].topic)
            await exchange.until_followed("spot", books[0].topic, books[1].topic)
            # The other worker may hear a moment late how many topics the first one carries.
            async with asyncio.timeout(PATIENCE):
                while not await is_refused(one, books[2].topic, "too_many_topics"):
                    await one.unsubscribe(books[2].topic)
                    await exchange.until(
                        lambda: books[2].topic not in exchange.topics("spot"), "it is let go"
                    )
        await exchange.until(lambda: not exchange.topics("spot"), "room again")
        async with client(web.url("/ws?category=spot")) as one:
            await one.subscribe(books[2].topic)
