"""The anchor of the live page in Django's admin: a model without a table.

Live numbers do not go through the database. The admin needs a model for its index, its address
and its permission, so there is one, and every query of it is empty.
"""

from __future__ import annotations

from django.db import models


class NoRows(models.Manager["LiveTopic"]):
    """Answers every query with nothing, so that `dumpdata` and friends miss no table."""

    def get_queryset(self) -> models.QuerySet[LiveTopic]:
        """Return the empty set, without asking the database."""
        return super().get_queryset().none()


class LiveTopic(models.Model):
    """A topic that this relay carries now; see `relay.stats` for the numbers."""

    topic = models.CharField(max_length=100, primary_key=True)

    objects = NoRows()

    class Meta:
        """Nothing is stored, and looking is all that can be permitted."""

        managed = False
        default_permissions = ("view",)
        verbose_name = "live topic"
        verbose_name_plural = "live topics"

    def __str__(self) -> str:
        return self.topic
