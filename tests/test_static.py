"""Pages and static files over ASGI, before and after `collectstatic`, with and without DEBUG."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.templatetags.static import static

from tests.http import get

BASE_CSS = "admin/css/base.css"


@pytest.fixture(params=[False, True], ids=["production", "debug"])
def uncollected(request: pytest.FixtureRequest, settings: Any, tmp_path: Path) -> None:
    settings.DEBUG = request.param
    settings.STATIC_ROOT = tmp_path / "nobody-collected"


@pytest.fixture
def collected(settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path / "collected"
    call_command("collectstatic", interactive=False, verbosity=0)


def source() -> bytes:
    path = finders.find(BASE_CSS)
    assert path
    return Path(path).read_bytes()


@pytest.mark.usefixtures("uncollected")
async def test_a_file_is_served_though_nobody_collected_it() -> None:
    assert static(BASE_CSS) == f"/static/{BASE_CSS}"
    status, headers, body = await get(static(BASE_CSS))
    assert (status, body) == (200, source())
    assert headers["content-type"].startswith("text/css")
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.usefixtures("uncollected")
async def test_a_file_that_is_not_there_is_not_found() -> None:
    status, _, _ = await get("/static/no/such.css")
    assert status == 404
    status, _, _ = await get("/static/../settings.py")
    assert status == 404


@pytest.mark.usefixtures("uncollected")
async def test_head_and_an_unchanged_file_have_no_body() -> None:
    status, headers, body = await get(static(BASE_CSS), "HEAD")
    assert (status, body) == (200, b"")
    status, _, body = await get(static(BASE_CSS), if_none_match=headers["etag"])
    assert (status, body) == (304, b"")


@pytest.mark.usefixtures("uncollected")
async def test_a_part_of_a_file_can_be_asked_for() -> None:
    status, _, body = await get(static(BASE_CSS), range="bytes=2-5")
    assert (status, body) == (206, source()[2:6])


@pytest.mark.usefixtures("collected")
async def test_collected_files_have_hashes_and_may_be_kept_for_ever() -> None:
    assert static(BASE_CSS).startswith("/static/admin/css/base.")
    assert static(BASE_CSS) != f"/static/{BASE_CSS}"
    status, headers, _ = await get(static(BASE_CSS))
    assert status == 200
    assert "immutable" in headers["cache-control"]


@pytest.mark.usefixtures("collected")
async def test_collected_files_travel_compressed() -> None:
    _, headers, body = await get(static(BASE_CSS), accept_encoding="gzip")
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(body) == (await get(static(BASE_CSS)))[2]


@pytest.mark.usefixtures("collected")
def test_a_file_newer_than_the_collection_keeps_its_plain_name() -> None:
    assert static("relay/added-later.js") == "/static/relay/added-later.js"


@pytest.mark.usefixtures("uncollected")
async def test_a_page_of_the_admin_carries_the_security_headers() -> None:
    status, headers, body = await get("/admin/login/")
    assert status == 200
    assert b"/static/admin/css/base.css" in body
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
