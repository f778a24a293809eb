"""What operators may do on the live page, each with a permission, a question and a log entry.

An action only sends an order, through the channel layer, to the processes that can carry it out,
so it does not matter which web process is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.contenttypes.models import ContentType
from django.http import QueryDict

from relay.bybit.errors import Refusal
from relay.bybit.topics import Topic, parse_category
from relay.models import LiveTopic, PinnedTopic
from relay.ops.pins import MAX_PINS
from relay.ops.service import LiveService
from relay.seam.envelopes import REPORTS_GROUP, Disconnect, Envelope, Resync, demand_group
from relay.web import process as web_process


class ActionFault(Exception):
    """An action cannot be done: the operator is told why.

    Attributes:
        status: Of the HTTP answer.
        code: One word for scripts.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Target:
    """What an action is about.

    Attributes:
        fields: As they were posted, to be posted again.
        words: For people.
    """

    fields: dict[str, str]
    words: str
    topic: Topic | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that operators may do.

    Attributes:
        title: Of the page that asks whether it is really meant.
        consequence: What will happen, in a sentence.
        read: Finds the target in what was posted.
        perform: Does it; returns what was done, in words.
    """

    name: str
    permission: str
    title: str
    consequence: str
    read: Callable[[QueryDict], Target]
    perform: Callable[[AbstractBaseUser, Target], str]

    def run(self, user: AbstractBaseUser, target: Target) -> str:
        """Do it and record it (see `OperatorAction`); return what was done, in words.

        Raises:
            ActionFault: it cannot be done now.
        """
        message = self.perform(user, target)
        LogEntry.objects.create(
            user_id=user.pk,
            content_type_id=ContentType.objects.get_for_model(LiveTopic).pk,
            object_id=target.words,
            object_repr=message[:200],  # what the admin's list of recent actions shows
            action_flag=CHANGE,
            change_message=message,
        )
        topic = {} if target.topic is None else target.fields
        process = web_process.existing()
        if process is not None:  # an action on the database alone needs none
            words = f"{user.get_username()}: {message}"
            process.telemetry.events.record("operator", words, **topic)
        return message


def _read_topic(given: QueryDict) -> Target:
    try:
        topic = Topic.parse(parse_category(given.get("category", "")), given.get("topic", ""))
    except Refusal as refusal:
        raise ActionFault(400, refusal.code, refusal.message) from refusal
    fields = {"category": topic.category.value, "topic": topic.text}
    return Target(fields, f"{topic.category}:{topic.text}", topic)


def _read_client(given: QueryDict) -> Target:
    process, client = given.get("process", ""), given.get("client", "")
    found = _live().overview.find_client(process, client)
    if found is None:
        raise ActionFault(404, "no_such_client", "no such client, or it is not listed")
    name, address = found
    words = f"client {client} ({address or 'address unknown'}) of {name}"
    return Target({"process": process, "client": client}, words)


def _live() -> LiveService:
    process = web_process.existing()
    if process is None:
        raise ActionFault(503, "upstream_unavailable", "the relay has not started here")
    return process.live


def _order(group: str, envelope: Envelope) -> None:
    try:
        _live().order(group, envelope)
    except ActionFault:
        raise
    except Exception as fault:  # whatever the layer raises: it cannot be reached
        words = "the order could not be sent: the channel layer is away"
        raise ActionFault(503, "upstream_unavailable", words) from fault


def _resync(user: AbstractBaseUser, target: Target) -> str:
    topic = target.topic
    assert topic is not None
    if not _live().overview.carries(topic.category, topic.text):
        raise ActionFault(404, "not_carried", f"{target.words} is not carried now")
    _order(demand_group(topic.category), Resync(topic.text))
    return f"Asked the exchange for {target.words} anew."


def _pin(user: AbstractBaseUser, target: Target) -> str:
    if PinnedTopic.objects.count() >= MAX_PINS:
        raise ActionFault(409, "too_many_topics", f"{MAX_PINS} topics are pinned already")
    PinnedTopic.objects.get_or_create(**target.fields, defaults={"pinned_by_id": user.pk})
    return f"Pinned {target.words}."


def _unpin(user: AbstractBaseUser, target: Target) -> str:
    deleted, _ = PinnedTopic.objects.filter(**target.fields).delete()
    if not deleted:
        raise ActionFault(404, "not_pinned", f"{target.words} is not pinned")
    return f"Unpinned {target.words}."


def _disconnect(user: AbstractBaseUser, target: Target) -> str:
    _order(REPORTS_GROUP, Disconnect(**target.fields))
    return f"Disconnected {target.words}."


ACTIONS = {
    action.name: action
    for action in (
        Action(
            "resync",
            "relay.resync_livetopic",
            "Resync a topic",
            "It is unsubscribed at the exchange and subscribed again. Readers of a book or a "
            "ticker then get a fresh snapshot; trades made in between are missed.",
            _read_topic,
            _resync,
        ),
        Action(
            "pin",
            "relay.pin_livetopic",
            "Pin a topic",
            "It stays subscribed at the exchange, whether a client reads it or not, until it is "
            "unpinned.",
            _read_topic,
            _pin,
        ),
        Action(
            "unpin",
            "relay.pin_livetopic",
            "Unpin a topic",
            "It is unsubscribed at the exchange when no client reads it any more.",
            _read_topic,
            _unpin,
        ),
        Action(
            "disconnect",
            "relay.disconnect_livetopic",
            "Disconnect a client",
            "Its connection is closed with code 4110. It may connect again.",
            _read_client,
            _disconnect,
        ),
    )
}
