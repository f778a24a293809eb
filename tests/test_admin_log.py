"""The record of what operators did, as the admin shows it to those who may see it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client

from relay.models import OperatorAction, PinnedTopic
from relay.web import actions

ACTS = "/admin/relay/operatoraction/"
TOPIC = {"category": "linear", "topic": "orderbook.50.BTCUSDT"}
HOSTILE = "<script>alert(1)</script>"


class Live:
    """A relay that carries every topic, has every client and takes every order."""

    picture: Any

    def __init__(self) -> None:
        self.overview = self
        self.orders: list[dict[str, str]] = []

    def carries(self, category: str, topic: str) -> bool:
        return True

    def find_client(self, process: str, client: str) -> tuple[str, str]:
        return "web-1", "192.0.2.1"

    def order(self, group: str, envelope: dict[str, str]) -> None:
        self.orders.append(envelope)


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Live:
    made = Live()
    monkeypatch.setattr(actions, "_live", lambda: made)
    return made


def permitted(name: str, *codenames: str) -> User:
    user = User.objects.create_user(name, password="secret", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return user


EVERYTHING = ("view_livetopic", "resync_livetopic", "pin_livetopic", "disconnect_livetopic")


def act(browser: Client, name: str, **fields: str) -> None:
    answer = browser.post(
        f"/admin/relay/livetopic/{name}/", fields, headers={"accept": "application/json"}
    )
    assert answer.status_code == 200, answer.content


@pytest.mark.django_db
def test_an_operator_reads_who_did_what_and_when_of_all_users(client: Client, live: Live) -> None:
    client.force_login(permitted("alice", *EVERYTHING))
    act(client, "resync", **TOPIC)
    act(client, "pin", **TOPIC)
    client.force_login(permitted("bob", *EVERYTHING))
    act(client, "unpin", **TOPIC)
    act(client, "disconnect", process="p1", client="7")
    client.force_login(permitted("auditor", "view_operatoraction"))
    page = client.get(ACTS)
    assert page.status_code == 200
    rows = [(one.user.username, one.sentence) for one in page.context["cl"].result_list]
    assert rows == [
        ("bob", "Disconnected client 7 (192.0.2.1) of web-1."),
        ("bob", "Unpinned linear:orderbook.50.BTCUSDT."),
        ("alice", "Pinned linear:orderbook.50.BTCUSDT."),
        ("alice", "Asked the exchange for linear:orderbook.50.BTCUSDT anew."),
    ]
    text = page.content.decode()
    for name, sentence in rows:
        assert name in text
        assert sentence in text
    found = client.get(ACTS, {"q": "Unpinned"}).context["cl"].result_list
    assert [one.user.username for one in found] == ["bob"]
    found = client.get(ACTS, {"q": "alice"}).context["cl"].result_list
    assert len(found) == 2


@pytest.mark.django_db
def test_pins_made_and_deleted_in_the_admins_own_forms_are_in_the_record_too(
    client: Client, live: Live
) -> None:
    user = permitted("carol", "add_pinnedtopic", "delete_pinnedtopic", "view_pinnedtopic")
    client.force_login(user)
    client.post("/admin/relay/pinnedtopic/add/", TOPIC)
    pinned = PinnedTopic.objects.get()
    client.post(f"/admin/relay/pinnedtopic/{pinned.pk}/delete/", {"post": "yes"})
    assert not PinnedTopic.objects.exists()
    assert [act.sentence for act in OperatorAction.objects.all()] == [
        "Unpinned linear:orderbook.50.BTCUSDT.",
        "Pinned linear:orderbook.50.BTCUSDT.",
    ]


@pytest.mark.django_db
def test_pins_deleted_together_are_each_in_the_record(client: Client, live: Live) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        PinnedTopic.objects.create(category="linear", topic=f"tickers.{symbol}")
    client.force_login(permitted("dora", "delete_pinnedtopic", "view_pinnedtopic"))
    chosen = list(PinnedTopic.objects.values_list("pk", flat=True))
    answer = client.post(
        "/admin/relay/pinnedtopic/",
        {"action": "delete_selected", "_selected_action": chosen, "post": "yes"},
    )
    assert answer.status_code == 302
    assert sorted(act.sentence for act in OperatorAction.objects.all()) == [
        "Unpinned linear:tickers.BTCUSDT.",
        "Unpinned linear:tickers.ETHUSDT.",
    ]


@pytest.mark.django_db
def test_the_record_is_for_those_with_the_permission_and_nobody_changes_it(
    client: Client, live: Live
) -> None:
    client.force_login(permitted("erin", *EVERYTHING))
    act(client, "pin", **TOPIC)
    assert client.get(ACTS).status_code == 403
    [entry] = OperatorAction.objects.all()
    superuser = User.objects.create_superuser("root", password="secret")
    client.force_login(superuser)
    assert client.get(ACTS).status_code == 200
    assert client.get(f"{ACTS}add/").status_code == 403
    assert client.get(f"{ACTS}{entry.pk}/delete/").status_code == 403
    client.post(f"{ACTS}{entry.pk}/change/", {"change_message": "nothing happened"})
    client.post(ACTS, {"action": "delete_selected", "_selected_action": [entry.pk], "post": "yes"})
    assert [one.sentence for one in OperatorAction.objects.all()] == [entry.sentence]


@pytest.mark.django_db
def test_what_else_is_done_in_the_admin_is_no_act_on_the_relay(client: Client) -> None:
    root = User.objects.create_superuser("root", password="secret")
    LogEntry.objects.log_actions(root.pk, User.objects.all(), 2, HOSTILE)
    assert not OperatorAction.objects.exists()


@pytest.mark.django_db
def test_markup_in_a_record_stays_text(client: Client, live: Live) -> None:
    client.force_login(permitted("fay", *EVERYTHING))
    act(client, "disconnect", process="p1", client=HOSTILE)
    client.force_login(User.objects.create_superuser("root", password="secret"))
    text = client.get(ACTS).content.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert HOSTILE not in text


@pytest.mark.django_db
def test_the_live_page_leads_those_who_may_to_the_record(client: Client, live: Live) -> None:
    client.force_login(permitted("gus", "view_livetopic"))
    assert ACTS not in client.get("/admin/relay/livetopic/").content.decode()
    client.force_login(permitted("hal", "view_livetopic", "view_operatoraction"))
    assert ACTS in client.get("/admin/relay/livetopic/").content.decode()


@pytest.mark.django_db
def test_a_recent_action_on_the_admins_index_is_the_sentence(client: Client, live: Live) -> None:
    client.force_login(permitted("ida", *EVERYTHING))
    act(client, "resync", **TOPIC)
    act(client, "pin", **TOPIC)
    text = client.get("/admin/").content.decode()
    assert "Asked the exchange for linear:orderbook.50.BTCUSDT anew." in text
    assert "Pinned linear:orderbook.50.BTCUSDT." in text
