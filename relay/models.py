"""What of the relay is known to Django: the anchor of the live page, and what is pinned.

Live numbers do not go through the database. The admin needs a model for its index, its address
and its permissions, so there is one, without a table, and every query of it is empty.
"""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.contrib.admin.models import DELETION, LogEntry, LogEntryManager
from django.core.exceptions import ValidationError
from django.db import models

from relay.bybit.errors import Refusal
from relay.bybit.topics import Category, Topic


class NoRows(models.Manager["LiveTopic"]):
    """Answers every query with nothing, so that `dumpdata` and friends miss no table."""

    def get_queryset(self) -> models.QuerySet[LiveTopic]:
        """Return the empty set, without asking the database."""
        return super().get_queryset().none()


class LiveTopic(models.Model):
    """A topic that this relay carries now; see `relay.ops.overview` for the numbers."""

    topic = models.CharField(max_length=100, primary_key=True)

    objects = NoRows()

    class Meta:
        """Nothing is stored; looking can be permitted, and each action by itself."""

        managed = False
        default_permissions = ("view",)
        permissions = (
            ("resync_livetopic", "Can resync live topic"),
            ("pin_livetopic", "Can pin live topic"),
            ("disconnect_livetopic", "Can disconnect client of live topics"),
        )
        verbose_name = "live topic"
        verbose_name_plural = "live topics"

    def __str__(self) -> str:
        return self.topic


class _OfTheRelay(LogEntryManager):
    """The entries of the admin's log that are about live topics and pins."""

    def get_queryset(self) -> models.QuerySet[LogEntry]:
        """Return the entries, newest first."""
        of_the_relay = models.Q(
            content_type__app_label="relay", content_type__model__in=("livetopic", "pinnedtopic")
        )
        return super().get_queryset().filter(of_the_relay).order_by("-action_time", "-pk")


class OperatorAction(LogEntry):
    """What an operator did to the relay: who, what and when, from the admin's own log.

    The log is Django's table, so there is no other record that could say something else.
    """

    objects: ClassVar[_OfTheRelay] = _OfTheRelay()

    class Meta:
        """Looking is a permission of its own: it shows what other users did."""

        proxy = True
        default_permissions = ("view",)
        verbose_name = "operator action"
        verbose_name_plural = "operator actions"

    @property
    def sentence(self) -> str:
        """What was done, such as `Pinned linear:tickers.BTCUSDT.`"""
        return self.change_message or str(self)


def pin_sentence(pinned: PinnedTopic, action_flag: int) -> str:
    """Return the sentence that records a pin made, or deleted, in the admin's own forms."""
    return f"{'Unpinned' if action_flag == DELETION else 'Pinned'} {pinned}."


class PinnedTopic(models.Model):
    """A topic that is kept subscribed, whether a client reads it or not."""

    category = models.CharField(max_length=10, choices=[(c.value, c.value) for c in Category])
    topic = models.CharField(max_length=100, help_text="Such as orderbook.50.BTCUSDT")
    pinned_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, editable=False, related_name="+"
    )
    pinned_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """Each topic once."""

        constraints = (
            models.UniqueConstraint(fields=["category", "topic"], name="pinned_topic_once"),
        )
        ordering = ("category", "topic")
        verbose_name = "pinned topic"
        verbose_name_plural = "pinned topics"

    def __str__(self) -> str:
        return f"{self.category}:{self.topic}"

    def clean(self) -> None:
        """See that there is such a topic.

        Raises:
            ValidationError: there is none.
        """
        try:
            Topic.parse(Category(self.category), self.topic)
        except Refusal as refusal:
            raise ValidationError({"topic": refusal.message}) from refusal
        except ValueError as fault:
            raise ValidationError({"category": str(fault)}) from fault
