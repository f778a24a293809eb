"""relay/checks.py: the faults as `manage.py check` shows them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core import checks

from relay import conf
from tests.processes import MANAGE, run


def relay_messages() -> list[tuple[str | None, str, Any]]:
    return [
        (message.id, str(message.msg), message.hint)
        for message in checks.run_checks()
        if (message.id or "").startswith("relay.")
    ]


def test_nothing_is_reported_when_nothing_is_wrong() -> None:
    assert relay_messages() == []


@pytest.mark.parametrize(
    ("field", "check_id"),
    [
        ("upstream_url", "relay.E004"),
        ("redis_urls", "relay.E005"),
        ("linger", "relay.E006"),
        ("log_format", "relay.E006"),
    ],
)
def test_a_wrong_value_is_an_error_with_an_id(settings: Any, field: str, check_id: str) -> None:
    settings.RELAY = {field: "?"}
    [(found, message, hint)] = relay_messages()
    assert found == check_id
    assert message.startswith(conf.VARIABLES[field])
    assert hint.startswith(f"Correct {conf.VARIABLES[field]}")


def test_an_unknown_name_is_a_warning_that_guesses(settings: Any) -> None:
    settings.UNKNOWN_RELAY_VARIABLES = ["RELAY_LINGR", "RELAY_Q"]
    assert relay_messages() == [
        ("relay.W001", "RELAY_LINGR is not a setting of the relay.", "Did you mean RELAY_LINGER?"),
        (
            "relay.W001",
            "RELAY_Q is not a setting of the relay.",
            "docs/settings.md lists the variables.",
        ),
    ]


def test_a_project_without_a_channel_layer_is_told(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {}
    [message] = checks.run_checks()
    assert (message.id, message.msg) == ("relay.E007", "There is no channel layer.")


def test_a_project_need_not_set_anything_of_the_relay(settings: Any) -> None:
    for name in ("RELAY", "RELAY_OWNS_PROCESS", "ENVIRONMENT_FAULTS", "UNKNOWN_RELAY_VARIABLES"):
        delattr(settings, name)
    assert checks.run_checks() == []
    assert conf.current() == conf.RelaySettings()
    assert not conf.owns_process()


def test_check_reports_every_fault_at_once_with_status_1() -> None:
    result = run(*MANAGE, "check", DATABASE_URL="what", RELAY_LINGER="soon", REDIS_URL="valkey")
    assert result.returncode == 1
    for check_id in ("relay.E002", "relay.E003", "relay.E005", "relay.E006"):
        assert f"({check_id})" in result.stderr
    assert "Traceback" not in result.stderr


def test_check_deploy_has_nothing_to_say_about_production_settings() -> None:
    result = run(
        *MANAGE, "check", "--deploy", "--fail-level", "WARNING",
        SECRET_KEY="0123456789abcdefghijklmnopqrstuvwxyz-0123456789-ABCDEFGHI",
        HTTPS="on", ALLOWED_HOSTS="relay.example", RELAY_MAX_CONNECTIONS="500",
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("command", [("migrate", "--check"), ("check", "--deploy")])
def test_commands_of_django_never_end_in_a_traceback(command: tuple[str, ...]) -> None:
    result = run(*MANAGE, *command, RELAY_LINGER="soon", DATABASE_URL="mysql://u:hidden@h/n")
    assert "Traceback" not in result.stderr
    assert "hidden" not in result.stdout + result.stderr


def test_the_table_of_ids_is_complete() -> None:
    table = sys.modules["relay.checks"].__doc__ or ""
    checks_of = ("checks", "ops.deploy_checks", "conf")
    sources = [Path(sys.modules[f"relay.{name}"].__file__ or "").read_text() for name in checks_of]
    used = set(re.findall(r"relay\.[EWI]\d{3}", "".join(sources)))
    assert used == set(re.findall(r"^\| (relay\.[EWI]\d{3}) ", table, re.MULTILINE))
