"""Operators of the relay: a database that knows them, and what they do over HTTP."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.processes import MANAGE, PATIENCE, Programs, WebServer, run

LIVE = "/admin/relay/livetopic/"
PASSWORD = "a-password-for-tests"
# root may do everything, viewer may look, clerk is staff that may not even look.
PEOPLE = f"""
from django.contrib.auth.models import Permission, User
User.objects.create_superuser("root", password="{PASSWORD}")
viewer = User.objects.create_user("viewer", password="{PASSWORD}", is_staff=True)
viewer.user_permissions.add(Permission.objects.get(codename="view_livetopic"))
User.objects.create_user("clerk", password="{PASSWORD}", is_staff=True)
"""


def make_database(path: Path) -> Path:
    """Make a database with the operators in it; return its path."""
    address = f"sqlite:///{path}"
    for command in (("migrate",), ("shell", "-c", PEOPLE)):
        done = run(*MANAGE, *command, DATABASE_URL=address, SECRET_KEY="x" * 60)
        assert done.returncode == 0, done.stderr
    return path


def give_database(programs: Programs, made: Path) -> None:
    """Have the programs of a test use a copy of that database."""
    shutil.copy(made, programs.common["DATABASE_URL"].removeprefix("sqlite:///"))


def shell(programs: Programs, code: str) -> None:
    """Change something in the database of a test, behind the relay's back."""
    done = run(*MANAGE, "shell", "-c", code, **programs.common)
    assert done.returncode == 0, done.stderr


class Operator:
    """Somebody who is logged in at one web process."""

    def __init__(self, session: aiohttp.ClientSession, web: WebServer) -> None:
        self.session = session
        self._base = f"http://{web.host}"
        self.web = web

    async def log_in(self, name: str) -> None:
        """Log in as a person does."""
        page = self._base + "/admin/login/"
        await (await self.session.get(page)).text()
        form = {"username": name, "password": PASSWORD, "next": "/admin/"}
        answer = await self.session.post(
            page,
            data=form | {"csrfmiddlewaretoken": self.token},
            headers={"Referer": page},
            allow_redirects=False,
        )
        assert answer.status == 302, await answer.text()

    @property
    def token(self) -> str:
        return next(c.value for c in self.session.cookie_jar if c.key == "csrftoken")

    async def picture(self, **query: str) -> dict[str, Any]:
        """Return `live.json` of this web process."""
        answer = await self.session.get(self._base + LIVE + "live.json", params=query)
        body: dict[str, Any] = await answer.json()
        assert answer.status == 200, body
        return body

    async def get(self, path: str, **query: str) -> tuple[int, str]:
        """Return status and text of a page."""
        answer = await self.session.get(self._base + LIVE + path, params=query)
        return answer.status, await answer.text()

    async def act(self, name: str, **fields: str) -> tuple[int, dict[str, Any]]:
        """Do something as the live page's script does; return status and answer."""
        answer = await self.session.post(
            f"{self._base}{LIVE}{name}/", data=fields, headers={"X-CSRFToken": self.token}
        )
        text = await answer.text()
        return answer.status, json.loads(text) if text.startswith("{") else {"text": text}

    async def until(
        self, condition: Callable[[dict[str, Any]], object], what: str, seconds: float = PATIENCE
    ) -> dict[str, Any]:
        """Return the first picture for which the condition holds."""
        deadline = time.monotonic() + seconds
        while True:
            picture = await self.picture()
            if condition(picture):
                return picture
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}; {picture}"

    @asynccontextmanager
    async def watching(self, origin: str | None = "") -> AsyncIterator[Live]:
        """The live page's own socket, by default from the page itself."""
        given = {} if origin is None else {"Origin": origin or self._base}
        url = f"ws://{self.web.host}{LIVE}ws"
        async with self.session.ws_connect(url, headers=given, max_msg_size=0) as socket:
            yield Live(socket)


class Live:
    """A live page that is open."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def next(self) -> dict[str, Any]:
        """Return the next picture that is pushed."""
        body: dict[str, Any] = json.loads(await self.socket.receive_str(timeout=PATIENCE))
        return body

    async def look(self, **topics: Any) -> None:
        await self.socket.send_json({"topics": topics})

    async def code(self, seconds: float = PATIENCE) -> int:
        """Return the code that the relay closes with."""
        deadline = time.monotonic() + seconds
        while True:
            message = await self.socket.receive(timeout=max(0.1, deadline - time.monotonic()))
            if message.type is not aiohttp.WSMsgType.TEXT:
                assert message.type is aiohttp.WSMsgType.CLOSE, message
                return int(message.data)


@asynccontextmanager
async def operator(web: WebServer, name: str = "root") -> AsyncIterator[Operator]:
    """Somebody who is logged in; nobody where the name is empty."""
    jar = aiohttp.CookieJar(unsafe=True)  # also for addresses that are numbers
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        made = Operator(session, web)
        if name:
            await made.log_in(name)
        yield made


def codes_in(text: str) -> list[str]:
    """Return what a page of the admin says in its messages."""
    return re.findall(r'<li class="(?:success|error)">(.*?)</li>', text, re.S)
