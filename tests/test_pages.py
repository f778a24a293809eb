"""The pages as a visitor, a probe, a script and an operator meet them."""

import json
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.staticfiles import finders
from django.core.management import call_command

from relay.web import query

HOSTILE = "<img src=x onerror=alert(1)>"
LIVE_PAGE = "/admin/relay/livetopic/"
LIVE_JSON = "/admin/relay/livetopic/live.json"
PICTURE = {
    "generated_at": "2026-01-02T03:04:05.678+00:00",
    "upstream": {"linear": {"state": "live", "since": 1_700_000_000_000}},
    "processes": [{"name": "web-1", "clients": 2}],
    "topics": [
        {
            "category": "linear",
            "topic": f"tickers.{HOSTILE}",
            "state": "live",
            "subscribers": 2,
            "messages_per_second": 10.0,
            "deliveries_per_second": 20.0,
            "age_ms": 12,
        }
    ],
}


class Page(HTMLParser):
    """What of a page a Content-Security-Policy without `unsafe-inline` would refuse."""

    def __init__(self, html):
        super().__init__()
        self.inline = []
        self.scripts = []
        self.links = []
        self.attributes = {}
        self._script = None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.attributes.update(given)
        if tag == "script":
            self._script = given
            self.scripts.append(given.get("src"))
            if "src" not in given:
                self.inline.append(tag)
        if tag == "link":
            self.links.append(given["href"])
        if tag == "style":
            self.inline.append(tag)
        for name, value in given.items():
            is_code = name == "style" or name.startswith("on")
            if is_code or (value or "").strip().lower().startswith("javascript:"):
                self.inline.append(f"{tag} {name}")

    def handle_endtag(self, tag):
        if tag == "script":
            self._script = None

    def handle_data(self, data):
        if self._script is not None and data.strip():
            self.inline.append("script text")


@pytest.fixture
def picture(monkeypatch):
    monkeypatch.setattr(query, "overview", lambda page=None: dict(PICTURE))


def staff(*, may_view):
    user = User.objects.create_user("operator", password="secret", is_staff=True)
    if may_view:
        user.user_permissions.add(Permission.objects.get(codename="view_livetopic"))
    return user


# The demo page.


def test_the_demo_page_brings_its_own_scripts_and_styles_and_nothing_inline(client):
    response = client.get("/")
    page = Page(response.content.decode())
    assert response.status_code == 200
    assert response["Content-Type"] == "text/html; charset=utf-8"
    assert page.inline == []
    assert page.scripts
    assert all(address.startswith("/static/relay/") for address in page.scripts + page.links)


def test_the_policy_of_the_demo_page_forbids_inline_code_and_other_hosts(client):
    policy = client.get("/")["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_the_demo_page_knows_every_depth_of_every_category(client):
    page = Page(client.get("/").content.decode())
    markets = json.loads(page.attributes["data-markets"])
    assert {category: market["depths"] for category, market in markets.items()} == {
        "spot": [1, 50, 200, 500, 1000],
        "linear": [1, 50, 200, 500, 1000],
        "inverse": [1, 50, 200, 500, 1000],
        "option": [25, 100],
    }


@pytest.mark.parametrize(
    ("origin", "answered"),
    [
        ("https://app.example", "https://app.example"),
        ("http://testserver", "http://testserver"),  # the page's own host
        ("https://evil.example", None),
        ("http://[", None),
        ("null", None),
        (None, None),
    ],
)
def test_pages_that_may_connect_may_read_the_symbols(client, picture, settings, origin, answered):
    settings.RELAY = {**settings.RELAY, "allowed_origins": "https://app.example"}
    headers = {} if origin is None else {"origin": origin}
    response = client.get("/symbols.json", headers=headers)
    assert response.status_code == 200
    assert response.get("Access-Control-Allow-Origin") == answered
    assert "Origin" in response["Vary"]


def test_a_hostile_symbol_in_the_address_is_not_repeated_as_markup(client):
    html = client.get("/", {"symbol": HOSTILE, "category": HOSTILE}).content.decode()
    assert HOSTILE not in html


def test_no_script_writes_markup():
    folder = Path(finders.find("relay/marketfeed.js")).parent
    scripts = [path for path in folder.rglob("*.js") if "vendor" not in path.parts]
    assert {"marketfeed.js", "page.js"} <= {path.name for path in scripts}
    for path in scripts:
        text = path.read_text()
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in text, f"{word} in {path}"


def test_browsers_find_an_icon_on_pages_that_name_none(client):
    response = client.get("/favicon.ico")
    assert response.status_code == 302
    assert finders.find(response["Location"].removeprefix("/static/")) is not None


def test_anybody_may_ask_which_symbols_are_live_and_nothing_more(client, monkeypatch):
    readers = {
        ("linear", "tickers.ETHUSDT"): 1,
        ("linear", "orderbook.50.BTCUSDT"): 1,
        ("linear", "tickers.BTCUSDT"): 2,
        ("option", "publicTrade.BTC"): 5,  # a coin, not a contract
        ("option", "tickers.BTC-25JUN27-80000-C"): 2,
        ("option", "orderbook.25.XRP-25JUN27-0.4-P-USDT"): 1,
    }
    monkeypatch.setattr(query, "live_readers", lambda: readers)
    assert client.get("/symbols.json").json() == {
        "spot": [],
        "linear": ["BTCUSDT", "ETHUSDT"],
        "inverse": [],
        "option": ["BTC-25JUN27-80000-C", "XRP-25JUN27-0.4-P-USDT"],
    }


# The live page in the admin.


@pytest.mark.django_db
def test_staff_with_the_view_permission_see_the_live_page(client):
    client.force_login(staff(may_view=True))
    response = client.get(LIVE_PAGE)
    page = Page(response.content.decode())
    assert response.status_code == 200
    assert page.attributes["data-source"] == LIVE_JSON
    assert page.inline == []
    assert "no-store" in response["Cache-Control"]
    assert "unsafe" not in response["Content-Security-Policy"]


@pytest.mark.django_db
def test_the_admins_index_leads_to_the_live_page_and_offers_nothing_to_add(client):
    client.force_login(staff(may_view=True))
    html = client.get("/admin/").content.decode()
    assert LIVE_PAGE in html
    assert f"{LIVE_PAGE}add/" not in html


@pytest.mark.django_db
def test_strangers_are_led_to_the_login_page_and_scripts_of_theirs_get_403(client):
    page = client.get(LIVE_PAGE)
    assert page.status_code == 302
    assert page["Location"].startswith("/admin/login/")
    twin = client.get(LIVE_JSON)
    assert (twin.status_code, twin["Content-Type"]) == (403, "application/json")


@pytest.mark.django_db
def test_staff_without_the_view_permission_get_403(client, picture):
    client.force_login(staff(may_view=False))
    assert client.get(LIVE_PAGE).status_code == 403
    twin = client.get(LIVE_JSON)
    assert (twin.status_code, "topics" in twin.json()) == (403, False)


@pytest.mark.django_db
def test_a_user_who_has_the_permission_but_is_no_staff_gets_403(client, picture):
    user = staff(may_view=True)
    user.is_staff = False
    user.save()
    client.force_login(user)
    assert client.get(LIVE_JSON).status_code == 403
    assert client.get(LIVE_PAGE).status_code == 302


@pytest.mark.django_db
def test_the_twin_is_the_picture_and_is_never_stored(client, picture):
    client.force_login(staff(may_view=True))
    response = client.get(LIVE_JSON)
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    assert response["Cache-Control"] == "no-store"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response.json() == PICTURE | {"history": {}}


@pytest.mark.django_db
def test_a_page_of_the_twin_brings_the_history_only_where_it_is_asked_for(client, picture):
    client.force_login(staff(may_view=True))
    assert "history" not in client.get(LIVE_JSON, {"limit": "1"}).json()
    assert "history" in client.get(LIVE_JSON, {"limit": "1", "history": "yes"}).json()


@pytest.mark.django_db
def test_data_does_not_reach_the_live_page_as_markup(client, picture):
    client.force_login(staff(may_view=True))
    assert "onerror" not in client.get(LIVE_PAGE, {"q": HOSTILE}).content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize("path", [LIVE_PAGE, LIVE_JSON])
def test_the_live_page_cannot_be_posted_to(client, path):
    client.force_login(User.objects.create_superuser("root"))
    assert client.post(path).status_code == 405


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["add/", "1/change/", "1/delete/", "1/history/"])
def test_live_topics_cannot_be_added_changed_or_deleted(client, path):
    client.force_login(User.objects.create_superuser("root"))
    assert client.get(LIVE_PAGE + path).status_code == 404
    assert not Permission.objects.filter(
        content_type__app_label="relay", codename__in=["add_livetopic", "change_livetopic"]
    ).exists()


@pytest.mark.django_db
@pytest.mark.filterwarnings("ignore:relay.OperatorAction is a proxy model")  # its table is Django's
def test_a_model_without_a_table_does_not_break_dumpdata():
    out = StringIO()
    call_command("dumpdata", "relay", stdout=out)
    assert json.loads(out.getvalue()) == []
