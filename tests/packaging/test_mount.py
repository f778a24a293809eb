"""The app in a project of somebody else's: own users, admin, addresses and channel layer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis
from websockets.sync.client import connect

from tests.docs.documents import blocks
from tests.packaging import foreign
from tests.packaging.books import moving_book
from tests.packaging.installed import Installation, environment
from tests.processes import PATIENCE
from tests.redis_server import free_port

EMAIL, PASSWORD = "keeper@example.com", "a password of the shop"
ADMIN = "/back/office/"
LIVE_PAGE = f"{ADMIN}relay/livetopic/"
TOPIC = "orderbook.50.BTCUSDT"
SERVERS = {
    "daphne": ("-m", "daphne", "-p"),
    "uvicorn": ("-m", "uvicorn", "--port"),
}


def manage(installation: Installation, folder: Path, *command: str, **variables: str) -> str:
    """Run a command of the project to its successful end; return what it says."""
    done = subprocess.run(
        (installation.python, "manage.py", *command),
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def project(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, with a database and somebody who may log in."""
    folder = tmp_path_factory.mktemp("project")
    foreign.write(folder)
    manage(installation, folder, "makemigrations", "people")
    manage(installation, folder, "migrate")
    keeper = ("createsuperuser", "--noinput", f"--email={EMAIL}")
    manage(installation, folder, *keeper, DJANGO_SUPERUSER_PASSWORD=PASSWORD)
    return folder


@pytest.fixture
def documented_project(installation: Installation, tmp_path: Path) -> Path:
    """The project as docs/mounting.md has it, with a database."""
    folder = tmp_path / "documented"
    folder.mkdir()
    foreign.write(folder)
    printed = blocks("python")
    settings, asgi = (printed[f"docs/mounting.md: {name}"] for name in ("Mounting", "Mounting 2"))
    with (folder / "shop" / "settings.py").open("a") as file:
        file.write(f"{settings.text}\nINSTALLED_APPS += ['people']\n")
    (folder / "shop" / "asgi.py").write_text(asgi.text)
    manage(installation, folder, "makemigrations", "people")
    manage(installation, folder, "migrate")
    return folder


@dataclass(frozen=True, slots=True)
class Shop:
    """The project while it is served."""

    host: str
    variables: dict[str, str]

    def url(self, path: str) -> str:
        return f"http://{self.host}{path}"

    def socket(self, path: str) -> str:
        return f"ws://{self.host}{path}"


@pytest.fixture(params=list(SERVERS))
async def shop(
    request: pytest.FixtureRequest, installation: Installation, project: Path
) -> AsyncIterator[Shop]:
    async with served(installation, project, request.param) as shop:
        yield shop


@contextlib.asynccontextmanager
async def served(
    installation: Installation, project: Path, server_name: str, **variables: str
) -> AsyncIterator[Shop]:
    exchange, port = free_port(), free_port()
    simulator = (installation.marketfeed, "simulator", "--port", str(exchange))
    server = (installation.python, *SERVERS[server_name], str(port), "shop.asgi:application")
    with installation.running(*simulator, cwd=project) as simulated:
        await simulated.says("simulator listening on ")
        variables["SHOP_EXCHANGE"] = f"ws://127.0.0.1:{exchange}/v5/public"
        with installation.running(*server, cwd=project, **variables) as serving:
            await until_it_answers(port)
            await serving.says(str(port))
            yield Shop(f"127.0.0.1:{port}", variables)


async def until_it_answers(port: int) -> None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"http://127.0.0.1:{port}/") as answer:
                    assert await answer.text() == "the shop"
                    return
            await asyncio.sleep(0.05)


async def logged_in(stack: AsyncExitStack, shop: Shop) -> aiohttp.ClientSession:
    """Return the session of somebody who has logged in to the admin."""
    jar = aiohttp.CookieJar(unsafe=True)
    session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=jar))
    login = shop.url(f"{ADMIN}login/")
    async with session.get(login) as page:
        [token] = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', await page.text())
    form = {"username": EMAIL, "password": PASSWORD, "csrfmiddlewaretoken": token, "next": ADMIN}
    async with session.post(login, data=form, headers={"Referer": login}) as answer:
        assert answer.url.path == ADMIN
    return session


def cookies(session: aiohttp.ClientSession) -> str:
    return "; ".join(f"{cookie.key}={cookie.value}" for cookie in session.cookie_jar)


async def picture(session: aiohttp.ClientSession, shop: Shop) -> Any:
    async with session.get(shop.url(f"{LIVE_PAGE}live.json")) as answer:
        assert answer.status == 200
        return await answer.json()


async def text(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as answer:
        assert answer.status == 200, url
        return await answer.text()


def test_the_project_has_nothing_to_complain_of(installation: Installation, project: Path) -> None:
    assert "no issues" in manage(installation, project, "check", "--fail-level", "WARNING")
    assert "No changes" in manage(installation, project, "makemigrations", "--check", "relay")


async def test_the_project_of_the_document_relays_a_book(
    installation: Installation, documented_project: Path
) -> None:
    async with served(installation, documented_project, "daphne") as shop:
        first, later = moving_book(shop.socket("/ws?category=linear"))
        assert later > first


async def until_a_worker_leads(redis: Redis) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if await redis.exists("shop:leader:linear"):
                return
            await asyncio.sleep(0.05)


async def test_the_project_shares_a_redis_under_a_prefix(
    installation: Installation, project: Path, redis_url: str
) -> None:
    worker = (installation.python, "manage.py", "run_upstream")
    async with (
        served(installation, project, "daphne", SHOP_REDIS=redis_url) as shop,
        Redis.from_url(redis_url, decode_responses=True) as redis,
    ):
        with installation.running(*worker, cwd=project, **shop.variables):
            await until_a_worker_leads(redis)
            first, later = moving_book(shop.socket("/market/ws?category=linear"))
            assert later > first
            keys = await redis.keys()
    assert {key.partition(":")[0] for key in keys} == {"shop"}


async def test_a_book_moves_and_the_live_page_shows_it(shop: Shop) -> None:
    first, later = moving_book(shop.socket("/market/ws?category=linear"))
    assert later > first
    with connect(shop.socket("/market/v5/public/linear"), proxy=None) as reader:
        reader.send(json.dumps({"op": "subscribe", "args": [TOPIC]}))
        assert json.loads(reader.recv(timeout=PATIENCE))["success"] is True
        async with AsyncExitStack() as stack:
            session = await logged_in(stack, shop)
            page = await text(session, shop.url(LIVE_PAGE))
            assert f'data-source="{LIVE_PAGE}live.json"' in page
            assert f'data-socket="{LIVE_PAGE}ws"' in page
            [script] = re.findall(r'src="(/files/relay/live/page\.js)"', page)
            assert "import" in await text(session, shop.url(script))
            headers = {"Cookie": cookies(session)}
            origin: Any = shop.url("")
            live = shop.socket(f"{LIVE_PAGE}ws")
            with connect(live, proxy=None, origin=origin, additional_headers=headers) as pushed:
                topics: list[str] = []
                while TOPIC not in topics:
                    shown = json.loads(pushed.recv(timeout=PATIENCE))
                    topics = [row["topic"] for row in shown["topics"]]
            assert TOPIC in [row["topic"] for row in (await picture(session, shop))["topics"]]
            assert "BTCUSDT" in await text(session, shop.url("/market/symbols.json"))


async def test_what_operators_do_is_recorded_of_the_projects_own_users(shop: Shop) -> None:
    async with AsyncExitStack() as stack:
        session = await logged_in(stack, shop)
        moving_book(shop.socket("/market/ws?category=linear"))  # the relay has started
        pin = shop.url(f"{LIVE_PAGE}pin/")
        page = await text(session, f"{pin}?category=linear&topic=tickers.BTCUSDT")
        [token] = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[-1:]
        form = {"category": "linear", "topic": "tickers.BTCUSDT", "csrfmiddlewaretoken": token}
        browser = {"Referer": pin, "Accept": "text/html"}
        async with session.post(pin, data=form, headers=browser) as answer:
            assert answer.url.path == LIVE_PAGE, await answer.text()
        log = await text(session, shop.url(f"{ADMIN}relay/operatoraction/?q=keeper"))
        assert "Pinned linear:tickers.BTCUSDT." in log
        assert EMAIL in await text(session, shop.url(f"{ADMIN}relay/pinnedtopic/"))


def test_the_demo_is_not_the_projects(installation: Installation, project: Path) -> None:
    done = subprocess.run(
        (installation.python, "manage.py", "demo"),
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.strip().endswith("run marketfeed demo.")


def untouched_process(python: str) -> Any:
    """Return what a process has of its own that nothing has tuned."""
    program = (
        "import gc, resource, json; print(json.dumps([gc.get_threshold(), gc.get_freeze_count(), "
        "resource.getrlimit(resource.RLIMIT_NOFILE)]))"
    )
    done = subprocess.run((python, "-c", program), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


async def test_the_rest_of_the_project_is_left_alone(
    shop: Shop, installation: Installation
) -> None:
    moving_book(shop.socket("/market/ws?category=linear"))
    with connect(shop.socket("/any/other/path"), proxy=None) as echo:
        echo.send("hello")
        assert echo.recv(timeout=PATIENCE) == "hello"
    async with aiohttp.ClientSession() as session:
        process = json.loads(await text(session, shop.url("/process")))
        assert list(process.values()) == untouched_process(installation.python)
        async with session.post(shop.url("/length"), data=b"x" * 1_000_000) as answer:
            assert await answer.text() == "1000000"
        async with session.get(shop.url("/no/such/page")) as answer:
            assert answer.status == 404
