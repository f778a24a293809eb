"""What operators did, read from the admin's own log; a permission to look at it."""

from typing import ClassVar

from django.db import migrations


class Migration(migrations.Migration):
    """Makes `OperatorAction` known; it has no table of its own."""

    dependencies: ClassVar[list[tuple[str, str]]] = [
        ("admin", "0003_logentry_add_action_flag_choices"),
        ("relay", "0002_pinned_topics"),
    ]

    operations: ClassVar[list[migrations.operations.base.Operation]] = [
        migrations.CreateModel(
            name="OperatorAction",
            fields=[],
            options={
                "verbose_name": "operator action",
                "verbose_name_plural": "operator actions",
                "proxy": True,
                "default_permissions": ("view",),
                "indexes": [],
                "constraints": [],
            },
            bases=("admin.logentry",),
        ),
    ]
