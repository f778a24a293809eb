"""compose.yaml and the Dockerfile without an engine: their very commands, as plain processes."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from relay import conf
from tests.deploy.names import serving
from tests.deploy.nginx import Nginx
from tests.e2e.client import Client, client
from tests.e2e.stand_in import BookFeed, StandIn
from tests.e2e.steps import QUICK, assert_right, listed, moves
from tests.processes import (
    DAPHNE,
    MANAGE,
    PATIENCE,
    ROOT,
    Program,
    Programs,
    environment,
    run,
    until,
)
from tests.redis_server import find_server, free_port
from tests.settings import DJANGO_VARIABLES
from tests.stopwatch import Stopwatch

ADDRESSES = ("127.0.0.21", "127.0.0.22")  # of two containers
SECRET = "0123456789abcdefghijklmnopqrstuvwxyz-0123456789-ABCDEFGHI"


def load(name: str = "compose.yaml", **given: str) -> dict[str, Any]:
    """Return a compose file, its variables replaced as Compose does it."""

    def replace(found: re.Match[str]) -> str:
        name, way, words = found["name"], found["way"], found["words"]
        if given.get(name):
            return given[name]
        if way == ":?":
            raise LookupError(words)
        return words

    text = (ROOT / name).read_text()
    text = re.sub(r"(?m)#.*$", "", text)
    text = re.sub(r"\$\{(?P<name>\w+)(?P<way>:[-?])(?P<words>[^}]*)\}", replace, text)
    assert "$" not in text
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def homely(words: list[str], **replaced: str) -> list[str]:
    """Return a container's command as this machine runs it."""
    homes = {"daphne": DAPHNE, "python": sys.executable, "valkey-server": find_server()}
    return [
        homes.get(word, "".join(replaced.get(part, part) for part in re.split(r"([\d.]+)", word)))
        for word in words
    ]


class House:
    """What compose.yaml starts, on addresses and ports of a test's own."""

    def __init__(self, programs: Programs, nginx: Nginx, variables: dict[str, str]) -> None:
        self.file = load(**variables)["services"]
        self.programs = programs
        self.nginx = nginx
        self.port = free_port()  # of every web process, each at an address of its own
        self.valkey_port = free_port()
        self.webs: list[Program] = []
        self.workers: list[Program] = []

    def variables(self, service: str) -> dict[str, str]:
        """Return a service's environment, with the addresses of this test."""
        given = {key: str(value or "") for key, value in self.file[service]["environment"].items()}
        assert given["REDIS_URL"] == "redis://valkey:6379/0"
        assert given["DATABASE_URL"].startswith("sqlite:////data/db.sqlite3?")
        folder = self.programs.started[0].log.parent
        return given | {
            "REDIS_URL": f"redis://127.0.0.1:{self.valkey_port}/0",
            "DATABASE_URL": given["DATABASE_URL"].replace("/data", f"{folder}", 1),
        }

    def start(self, service: str, name: str = "", **replaced: str) -> Program:
        words = homely(self.file[service]["command"], **replaced)
        return self.programs.start(name or service, *words, **self.variables(service))

    async def start_all(self, resolver: str, *, with_tls: bool = False) -> None:
        """Start everything in the order that `depends_on` says."""
        words = homely(self.file["valkey"]["command"])
        valkey = self.programs.start(
            *("valkey", *words, "--port", str(self.valkey_port), "--bind", "127.0.0.1"),
        )
        await self.programs.listening(valkey, self.valkey_port)
        assert await self.start("migrate").end() == 0
        for number in range(self.file["worker"]["deploy"]["replicas"]):
            self.workers.append(self.start("worker", f"worker{number}"))
        for number in range(self.file["web"]["deploy"]["replicas"]):
            await self.start_web(number)
        await self.nginx.compose(resolver, self.port, with_tls=with_tls)

    async def start_web(self, number: int) -> None:
        address = ADDRESSES[number]
        web = self.start("web", f"web{number}", **{"8000": str(self.port), "0.0.0.0": address})

        def is_healthy() -> bool:
            assert web.process.poll() is None, web.output
            return self.is_healthy(address)

        await until(is_healthy, PATIENCE, f"web {number} is healthy")
        self.webs.append(web)

    def is_healthy(self, address: str) -> bool:
        """Run the health check of the service, in the place of the container."""
        kind, *words = self.file["web"]["healthcheck"]["test"]
        assert kind == "CMD"
        words = [word.replace("127.0.0.1:8000", f"{address}:{self.port}") for word in homely(words)]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    def url(self, path: str = "/ws") -> str:
        return f"ws://localhost:{self.nginx.plain}{path}"


@pytest.fixture
async def house(
    programs: Programs, nginx: Nginx, exchange: StandIn
) -> AsyncIterator[tuple[House, Any, str]]:
    variables = {"SECRET_KEY": SECRET, "UPSTREAM_URL": exchange.url, **QUICK}
    async with serving("web") as (names, resolver):
        names.addresses = list(ADDRESSES)
        yield House(programs, nginx, variables), names, resolver


async def test_what_compose_starts_serves_right_books_and_outlives_a_web_process(
    house: tuple[House, Any, str], exchange: StandIn
) -> None:
    made, names, resolver = house
    await made.start_all(resolver)
    book = BookFeed("BTCUSDT")
    listed(exchange, "linear", book)
    async with AsyncExitStack() as stack:

        async def come(source: str) -> Client:
            one: Client = await stack.enter_async_context(
                client(made.url(), host="127.0.0.1", port=made.nginx.plain, local_addr=(source, 0))
            )
            await one.subscribe(book.topic)
            return one

        clients = [await come("127.0.0.2") for _ in range(12)]
        await moves(exchange, "linear", book, 3)
        for one in clients:
            await assert_right(one, book)
        assert exchange.asked("subscribe", book.topic) == 1

        with Stopwatch(made.webs[0].process.pid) as watch:
            made.webs[0].signal(signal.SIGTERM)
            assert await made.webs[0].end() == 0
        grace = float(made.file["web"]["stop_grace_period"].removesuffix("s"))
        assert watch.seconds < grace
        names.addresses = [ADDRESSES[1]]
        kept = [one for one in clients if one.code is None]
        assert {one.code for one in clients} <= {None, 4200}
        assert kept
        kept += [await come("127.0.0.3") for _ in range(3)]
        await moves(exchange, "linear", book, 3)
        for one in kept:
            await assert_right(one, book)
            assert one.code is None
        assert made.is_healthy(ADDRESSES[1])
        assert not made.is_healthy(ADDRESSES[0])
    for program in [*made.workers, made.webs[1]]:
        program.signal(signal.SIGTERM)
        assert await program.end() == 0


async def test_one_database_serves_all_web_processes_and_check_has_nothing_to_say(
    house: tuple[House, Any, str],
) -> None:
    made, _, resolver = house
    await made.start_all(resolver)
    variables = made.variables("web")
    made_user = run(
        *(*MANAGE, "createsuperuser", "--noinput", "--username", "ann", "--email", "a@b.example"),
        **variables,
        DJANGO_SUPERUSER_PASSWORD="a-long-password",
    )
    assert made_user.returncode == 0, made_user.stderr

    def ask(
        address: str, path: str, cookies: dict[str, str], fields: dict[str, str] | None = None
    ) -> tuple[int, str]:
        connection = http.client.HTTPConnection(address, made.port, timeout=20)
        headers = {"Cookie": "; ".join(f"{key}={value}" for key, value in cookies.items())}
        headers["Host"] = "localhost"
        if fields is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        body = None if fields is None else urllib.parse.urlencode(fields)
        connection.request("GET" if fields is None else "POST", path, body, headers)
        answer = connection.getresponse()
        for header in answer.headers.get_all("set-cookie", []):
            cookies.update({key: morsel.value for key, morsel in SimpleCookie(header).items()})
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def log_in_at_one_and_look_at_the_other() -> dict[str, Any]:
        cookies: dict[str, str] = {}
        ask(ADDRESSES[0], "/admin/login/", cookies)
        fields = {"username": "ann", "password": "a-long-password"}
        fields["csrfmiddlewaretoken"] = cookies["csrftoken"]
        status, _ = ask(ADDRESSES[0], "/admin/login/?next=/admin/", cookies, fields)
        assert status == 302
        status, text = ask(ADDRESSES[1], "/admin/relay/livetopic/live.json", cookies)
        assert status == 200, text
        picture: dict[str, Any] = json.loads(text)
        return picture

    # The picture over both processes.
    for _ in range(600):
        picture = await asyncio.to_thread(log_in_at_one_and_look_at_the_other)
        if len(picture["processes"]) == 2:
            break
        await asyncio.sleep(0.2)
    assert len(picture["processes"]) == 2

    production = variables | {
        "ALLOWED_HOSTS": "feed.example.com",
        "HTTPS": "on",
        "RELAY_MAX_CONNECTIONS": "500",  # whatever this machine allows
    }
    checked = run(*MANAGE, "check", "--deploy", "--fail-level", "INFO", **production)
    assert (checked.returncode, checked.stderr) == (0, "")


async def test_nginx_tells_the_true_address_and_hides_the_metrics_with_tls_too(
    house: tuple[House, Any, str],
) -> None:
    made, _, resolver = house
    given = {"SECRET_KEY": SECRET, "HTTPS": "on", "RELAY_MAX_CONNECTIONS_PER_ADDRESS": "1"}
    made.file = load(**given)["services"]
    made.file["web"]["deploy"]["replicas"] = 1
    await made.start_all(resolver, with_tls=True)
    kind, *check = made.file["nginx"]["healthcheck"]["test"]
    assert (kind, check[-1]) == ("CMD", "http://127.0.0.1/readyz")

    def ask(path: str, *, tls: bool) -> int:
        if tls:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                "localhost", made.nginx.port, context=made.nginx.tls, timeout=20
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", made.nginx.plain, timeout=20)
        connection.request("GET", path, headers={"Host": "localhost"})
        status = connection.getresponse().status
        connection.close()
        return status

    for _ in range(600):  # a busy machine may take it a moment
        if await asyncio.to_thread(ask, "/readyz", tls=True) == 200:
            break
        await asyncio.sleep(0.1)
    for path, plain, tls in (
        ("/readyz", 200, 200),
        ("/healthz", 200, 200),
        ("/metrics", 404, 404),
        ("/", 301, 200),
    ):
        assert await asyncio.to_thread(ask, path, tls=False) == plain, path
        assert await asyncio.to_thread(ask, path, tls=True) == tls, path

    url = f"wss://localhost:{made.nginx.port}/ws"

    def come(source: str) -> Any:
        forged = {"X-Forwarded-For": "203.0.113.7"}
        return client(
            *(url,),
            ssl=made.nginx.tls,
            host="127.0.0.1",
            port=made.nginx.port,
            local_addr=(source, 0),
            additional_headers=forged,
        )

    async with come("127.0.0.2") as one:
        assert await one.ask({"method": "ping"}) == {"method": "pong"}
        async with come("127.0.0.2") as two:
            assert await two.until_closed() == 4100
        async with come("127.0.0.3") as three:
            assert await three.ask({"method": "ping"}) == {"method": "pong"}


def test_every_setting_can_be_given_and_no_secret_is_in_the_file() -> None:
    with pytest.raises(LookupError):
        load()
    services = load(SECRET_KEY=SECRET)["services"]
    for service in ("migrate", "web", "worker"):
        given = services[service]["environment"]
        assert set(given) == {*DJANGO_VARIABLES, *conf.VARIABLES.values()}
        assert given["SECRET_KEY"] == SECRET
        assert services[service]["init"] is True
    every = {name: f"<{name}>" for name in (*DJANGO_VARIABLES, *conf.VARIABLES.values())}
    assert load(**every)["services"]["web"]["environment"] == every


def test_the_mounted_files_are_there_and_variables_of_tls_are_asked_for() -> None:
    given = {"SECRET_KEY": SECRET, "CERTIFICATE": "/c.pem", "CERTIFICATE_KEY": "/k.pem"}
    for name in ("compose.yaml", "compose.tls.yaml"):
        for volume in load(name, **given)["services"]["nginx"]["volumes"]:
            path = volume.split(":")[0]
            assert path in ("/c.pem", "/k.pem") or (ROOT / path).is_file(), path
    with pytest.raises(LookupError):
        load("compose.tls.yaml")


def instructions() -> list[tuple[str, str]]:
    """Return what the Dockerfile does, in order."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_what_the_image_is_given_suffices_to_collect_static_files_and_to_start(
    tmp_path: Path,
) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    for word, rest in instructions():
        if word == "COPY":
            *sources, _ = shlex.split(rest)
            for source in sources:
                assert f"!{source}" in ignored
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, tmp_path / source)
                else:
                    shutil.copy(ROOT / source, tmp_path)
    [collect] = [rest for word, rest in instructions() if word == "RUN" and "manage.py" in rest]
    assert collect == "python manage.py collectstatic --noinput"
    start = f"from marketfeed.asgi import application; print({SECRET!r})"
    for command, variables in (
        (("manage.py", "collectstatic", "--noinput"), {}),
        (("-c", start), {"SECRET_KEY": SECRET}),
    ):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment(PYTHONPATH="", **variables),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "staticfiles" / "relay" / "marketfeed.js").is_file()


def test_the_image_runs_as_nobody_special_what_compose_runs() -> None:
    said = dict(instructions())
    assert said["USER"] == "marketfeed"
    web = load(SECRET_KEY=SECRET)["services"]["web"]
    # Whoever publishes the image's port has no proxy that overwrites X-Forwarded-For.
    assert json.loads(said["CMD"]) == [w for w in web["command"] if w != "--proxy-headers"]
    assert "ports" not in web
    assert said["VOLUME"] in web["volumes"][0]
    assert os.path.commonpath(["/data", said["VOLUME"]]) == "/data"


def test_the_lock_of_the_image_holds_every_requirement_within_its_bounds() -> None:
    lines = (ROOT / "deploy" / "requirements.lock").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    held = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    wanted = (ROOT / "requirements.txt").read_text().splitlines()
    for line in (line.partition("  #")[0] for line in wanted if not line.startswith("#")):
        requirement = Requirement(line)
        assert requirement.specifier.contains(held[canonicalize_name(requirement.name)]), line
