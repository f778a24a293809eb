"""The anchor of the live page: a permission and an admin address, no table."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Makes the unmanaged `LiveTopic` known."""

    initial = True

    dependencies: ClassVar[list[tuple[str, str]]] = []

    operations: ClassVar[list[migrations.operations.base.Operation]] = [
        migrations.CreateModel(
            name="LiveTopic",
            fields=[
                ("topic", models.CharField(max_length=100, primary_key=True, serialize=False)),
            ],
            options={
                "verbose_name": "live topic",
                "verbose_name_plural": "live topics",
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
    ]
