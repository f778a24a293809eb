"""Topics that are kept subscribed, and a permission for each action on the live page."""

from typing import ClassVar

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    """Makes `PinnedTopic`, and the permissions of `LiveTopic` known."""

    dependencies: ClassVar[list[tuple[str, str]]] = [
        ("relay", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations: ClassVar[list[migrations.operations.base.Operation]] = [
        migrations.AlterModelOptions(
            name="livetopic",
            options={
                "default_permissions": ("view",),
                "managed": False,
                "permissions": (
                    ("resync_livetopic", "Can resync live topic"),
                    ("pin_livetopic", "Can pin live topic"),
                    ("disconnect_livetopic", "Can disconnect client of live topics"),
                ),
                "verbose_name": "live topic",
                "verbose_name_plural": "live topics",
            },
        ),
        migrations.CreateModel(
            name="PinnedTopic",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "category",
                    models.CharField(
                        choices=[
                            ("spot", "spot"),
                            ("linear", "linear"),
                            ("inverse", "inverse"),
                            ("option", "option"),
                        ],
                        max_length=10,
                    ),
                ),
                (
                    "topic",
                    models.CharField(help_text="Such as orderbook.50.BTCUSDT", max_length=100),
                ),
                ("pinned_at", models.DateTimeField(auto_now_add=True)),
                (
                    "pinned_by",
                    models.ForeignKey(
                        editable=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "pinned topic",
                "verbose_name_plural": "pinned topics",
                "ordering": ("category", "topic"),
                "constraints": [
                    models.UniqueConstraint(fields=("category", "topic"), name="pinned_topic_once")
                ],
            },
        ),
    ]
