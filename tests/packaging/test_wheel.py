"""The wheel holds the whole relay, and its command works in an empty folder."""

from __future__ import annotations

import stat
import zipfile
from email import message_from_bytes
from importlib.metadata import version
from pathlib import Path

import aiohttp
import pytest
from packaging.requirements import Requirement

from marketfeed import __version__
from tests.packaging.books import moving_book
from tests.packaging.installed import Installation
from tests.processes import PATIENCE, ROOT, until
from tests.redis_server import free_port


def requirements() -> list[Requirement]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    texts = [line.partition("#")[0].strip() for line in lines]
    return [Requirement(text) for text in texts if text]


def files_below(folder: Path, packed_as: str) -> set[str]:
    return {
        f"{packed_as}/{path.relative_to(folder)}"
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


async def get(url: str) -> str:
    async with aiohttp.ClientSession(raise_for_status=True) as session, session.get(url) as answer:
        return await answer.text()


def test_the_wheel_holds_the_two_packages_with_their_pages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == (
        files_below(ROOT / "marketfeed", "marketfeed")
        | files_below(ROOT / "relay", "relay")
        | files_below(ROOT / "templates", "marketfeed/templates")
    )
    assert {"marketfeed/py.typed", "relay/py.typed", "relay/static/relay/marketfeed.js"} < names


def test_the_wheel_asks_for_what_requirements_txt_names(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = message_from_bytes(archive.read(name))
    assert (metadata["Name"], metadata["Version"]) == ("marketfeed", __version__)
    asked = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    key = str.casefold
    assert {key(one.name): one.specifier for one in asked} == {
        key(one.name): one.specifier for one in requirements()
    }
    assert {key(one.name): one.extras for one in asked} == {
        key(one.name): one.extras for one in requirements()
    }
    for one in asked:
        bounds = {part.operator for part in one.specifier}
        assert bounds == {">=", "<"}, one
        assert one.specifier.contains(version(one.name)), one


async def test_a_book_moves_in_the_demo_of_an_empty_folder(
    installation: Installation, folder: Path
) -> None:
    port = free_port()
    command = (installation.marketfeed, "demo", "--port", str(port))
    with installation.running(*command, cwd=folder) as demo:
        await demo.says("simulated exchange: ")
        first, later = moving_book(f"ws://127.0.0.1:{port}/ws?category=linear")
        assert later > first
        page = await get(f"http://127.0.0.1:{port}/")
        assert 'src="/static/relay/demo/page.js"' in page
        assert "import" in await get(f"http://127.0.0.1:{port}/static/relay/demo/page.js")
        assert "csrf" in await get(f"http://127.0.0.1:{port}/admin/login/")
    assert mode(folder / ".env") == "0o600"
    assert (folder / ".env").read_text().startswith("SECRET_KEY=")
    assert names_in(folder) >= {".env", "db.sqlite3"}


async def test_each_command_works_in_an_empty_folder(
    installation: Installation, folder: Path
) -> None:
    exchange, port = free_port(), free_port()
    upstream = f"ws://127.0.0.1:{exchange}/v5/public"
    topic, recorded = "orderbook.50.BTCUSDT", folder / "frames"
    simulator = (installation.marketfeed, "simulator", "--port", str(exchange))
    run = (installation.marketfeed, "run", "--port", str(port), "--", "--proxy-headers")
    watch = (installation.marketfeed, "watch", topic, "--url", f"ws://127.0.0.1:{port}/ws")
    record = (installation.marketfeed, "record", topic, "--out", "frames")
    with installation.running(*simulator, cwd=folder) as exchange_process:
        await exchange_process.says("simulator listening on ")
        assert not names_in(folder)
        with installation.running(*run, cwd=folder, UPSTREAM_URL=upstream) as relay:
            await relay.says("Listening on")
            assert f"marketfeed: http://localhost:{port}/" in relay.log.read_text()
            with installation.running(*watch, cwd=folder) as watching:
                await watching.says("BTCUSDT")
            relay.process.terminate()
            assert relay.process.wait(PATIENCE) == 0
        with installation.running(*record, cwd=folder, UPSTREAM_URL=upstream) as recording:
            await until(lambda: size(recorded), PATIENCE, "frames are recorded")
            recording.process.terminate()
            recording.process.wait(PATIENCE)
    assert topic in recorded.read_text()


def test_the_check_writes_nothing(installation: Installation, folder: Path) -> None:
    done = installation.run("check", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert not names_in(folder)


def test_the_check_reports_what_is_wrong(installation: Installation, folder: Path) -> None:
    done = installation.run("check", cwd=folder, UPSTREAM_URL="nowhere")
    assert done.returncode == 1
    assert "relay.E004" in done.stderr


def test_a_worker_without_redis_is_refused(installation: Installation, folder: Path) -> None:
    done = installation.run("worker", cwd=folder)
    assert done.returncode == 2
    assert "needs REDIS_URL" in done.stderr


def test_a_superuser_can_be_made_before_anything_was_served(
    installation: Installation, folder: Path
) -> None:
    command = ("manage", "createsuperuser", "--noinput", "--username=a", "--email=a@example.com")
    done = installation.run(*command, cwd=folder, DJANGO_SUPERUSER_PASSWORD="a long enough one")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Superuser created" in done.stdout
    assert (folder / "db.sqlite3").is_file()


def test_state_lies_in_the_home(installation: Installation, folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for command in (["migrate"], ["collectstatic", "--noinput"]):
        done = installation.run("manage", *command, cwd=folder, MARKETFEED_HOME=str(home))
        assert done.returncode == 0, done.stderr
    assert names_in(home) == {".env", "db.sqlite3", "staticfiles"}
    assert (home / "staticfiles" / "relay" / "marketfeed.js").is_file()
    assert not names_in(folder)


@pytest.mark.parametrize("command", ["run", "demo", "worker"])
def test_a_home_that_is_missing_is_named(
    installation: Installation, folder: Path, command: str
) -> None:
    done = installation.run(command, cwd=folder, MARKETFEED_HOME="missing")
    assert done.returncode == 2
    assert "MARKETFEED_HOME: expected a folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert not names_in(folder)


@pytest.mark.parametrize("command", ["run", "demo", "worker", "watch", "record", "simulator"])
def test_help_writes_nothing(installation: Installation, folder: Path, command: str) -> None:
    done = installation.run(command, "--help", cwd=folder)
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: marketfeed {command} ")
    assert not names_in(folder)


def test_the_command_names_its_commands(installation: Installation, folder: Path) -> None:
    done = installation.run("--help", cwd=folder)
    assert done.returncode == 0
    for name in ("demo", "run", "worker", "watch", "record", "simulator", "check", "manage"):
        assert f"\n  {name} " in done.stdout
    assert installation.run("--version", cwd=folder).stdout == f"marketfeed {__version__}\n"
    unknown = installation.run("serve", cwd=folder)
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("marketfeed: there is no command 'serve'.\n")
