"""marketfeed/settings.py: what each variable of the environment becomes."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import ModuleType

import pytest

from relay import conf
from tests.processes import ROOT, run
from tests.settings import BLANK

Load = Callable[..., ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load a copy of the settings whose project folder is `tmp_path`."""
    for name in BLANK:
        monkeypatch.delenv(name, raising=False)

    def load_settings(dotenv: str | bytes | None = None, /, **variables: str) -> ModuleType:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        if dotenv is not None:
            content = dotenv.encode() if isinstance(dotenv, str) else dotenv
            (tmp_path / ".env").write_bytes(content)
        (tmp_path / "marketfeed").mkdir(exist_ok=True)
        copy = shutil.copy(ROOT / "marketfeed" / "settings.py", tmp_path / "marketfeed")
        spec = importlib.util.spec_from_file_location("settings_under_test", copy)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load_settings


def faults(settings: ModuleType) -> list[str]:
    return [str(fault) for fault in settings.ENVIRONMENT_FAULTS]


def test_with_a_secret_key_alone_the_defaults_hold(load: Load, tmp_path: Path) -> None:
    settings = load(SECRET_KEY="s")
    assert faults(settings) == []
    assert settings.DEBUG is False
    assert settings.ALLOWED_HOSTS == ["localhost", "127.0.0.1", "[::1]"]
    assert settings.CSRF_TRUSTED_ORIGINS == []
    assert settings.DATABASES["default"]["NAME"] == tmp_path / "db.sqlite3"
    assert settings.CHANNEL_LAYERS["default"] == {"BACKEND": "relay.layers.local.LocalChannelLayer"}
    assert settings.RELAY == {}
    assert settings.SECURE_SSL_REDIRECT is settings.SESSION_COOKIE_SECURE is False


def test_the_environment_comes_before_the_dotenv_file(load: Load) -> None:
    settings = load(
        "SECRET_KEY=from-file\nRELAY_LINGER=3\nRELAY_MAX_TOPICS=7\n", SECRET_KEY="from-environment"
    )
    assert settings.SECRET_KEY == "from-environment"
    assert settings.RELAY == {"linger": "3", "max_topics": "7"}


def test_an_empty_variable_is_an_unset_one_and_hides_the_file(load: Load) -> None:
    settings = load("SECRET_KEY=s\nREDIS_URL=redis://here\n", REDIS_URL="", RELAY_LINGER="")
    assert settings.RELAY == {}


def test_without_a_secret_key_nothing_may_serve(load: Load) -> None:
    settings = load()
    assert faults(settings) == [
        "SECRET_KEY: expected a long random text (or DEBUG=1), found nothing"
    ]
    assert settings.SECRET_KEY != load().SECRET_KEY


def test_debug_needs_no_secret_key(load: Load) -> None:
    settings = load(DEBUG="1")
    assert faults(settings) == []
    assert settings.DEBUG is True


@pytest.mark.parametrize(
    ("variable", "value", "fault"),
    [
        ("DEBUG", "maybe", "DEBUG: expected on or off, found 'maybe'"),
        ("HTTPS", "2", "HTTPS: expected on or off, found '2'"),
        ("HSTS_PRELOAD", "2", "HSTS_PRELOAD: expected on or off, found '2'"),
        (
            "ALLOWED_HOSTS",
            "http://a.example",
            "ALLOWED_HOSTS: expected host names by commas, found 'http://a.example'",
        ),
        (
            "CSRF_TRUSTED_ORIGINS",
            "a.example",
            "CSRF_TRUSTED_ORIGINS: expected origins such as https://example.com, by commas, "
            "found 'a.example'",
        ),
        (
            "DATABASE_URL",
            "nonsense:secret",
            "DATABASE_URL: expected a database address such as postgres://user@host/name, "
            "its driver installed, found a text that is not shown",
        ),
        (
            "DATABASE_URL",
            "oracle://u:secret@h/n",  # nobody has the driver
            "DATABASE_URL: expected a database address such as postgres://user@host/name, "
            "its driver installed, found a oracle:// address that is not shown",
        ),
    ],
)
def test_a_wrong_value_is_a_fault_and_never_an_exception(
    load: Load, variable: str, value: str, fault: str
) -> None:
    settings = load(SECRET_KEY="s", **{variable: value})
    assert faults(settings) == [fault]
    assert getattr(settings, variable, None) == getattr(load(**{variable: ""}), variable, None)


def test_a_dotenv_file_that_cannot_be_read_is_a_fault(load: Load) -> None:
    settings = load(b"\xff\xfe\x00", SECRET_KEY="s")
    assert faults(settings) == [
        ".env: expected a readable file in UTF-8, found a UnicodeDecodeError"
    ]


def test_a_folder_in_the_place_of_the_dotenv_file_is_a_fault(load: Load, tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()  # as container engines do where there is no file to mount
    settings = load(SECRET_KEY="s")
    assert faults(settings) == [
        ".env: expected a readable file in UTF-8, found a IsADirectoryError"
    ]


def test_lists_are_read_by_commas(load: Load) -> None:
    settings = load(
        SECRET_KEY="s",
        ALLOWED_HOSTS="a.example, .b.example,",
        CSRF_TRUSTED_ORIGINS="https://a.example,https://b.example",
    )
    assert settings.ALLOWED_HOSTS == ["a.example", ".b.example"]
    assert settings.CSRF_TRUSTED_ORIGINS == ["https://a.example", "https://b.example"]


def test_a_database_address_is_used(load: Load) -> None:
    settings = load(SECRET_KEY="s", DATABASE_URL="sqlite:////var/lib/marketfeed/db.sqlite3")
    assert settings.DATABASES["default"]["NAME"] == "/var/lib/marketfeed/db.sqlite3"


def test_each_redis_address_is_a_shard_of_the_channel_layer(load: Load) -> None:
    settings = load(SECRET_KEY="s", REDIS_URL="redis://a:1/0, redis://b:2/0")
    assert settings.CHANNEL_LAYERS["default"] == {
        "BACKEND": "relay.layers.redis.RedisChannelLayer",
        "CONFIG": {"hosts": ["redis://a:1/0", "redis://b:2/0"]},
    }


def test_https_secures_cookies(load: Load) -> None:
    settings = load(SECRET_KEY="s", HTTPS="on")
    assert settings.SESSION_COOKIE_SECURE
    assert settings.CSRF_COOKIE_SECURE
    assert settings.SECURE_SSL_REDIRECT
    assert settings.SECURE_HSTS_SECONDS > 0


@pytest.mark.parametrize(
    ("given", "subdomains", "preload"),
    [
        ({}, False, False),
        ({"HSTS_INCLUDE_SUBDOMAINS": "on"}, True, False),
        ({"HSTS_INCLUDE_SUBDOMAINS": "on", "HSTS_PRELOAD": "on"}, True, True),
        ({"HSTS_PRELOAD": "on"}, False, False),  # no list takes it
        ({"HTTPS": "", "HSTS_INCLUDE_SUBDOMAINS": "on", "HSTS_PRELOAD": "on"}, False, False),
    ],
)
def test_strict_transport_is_for_this_host_alone_unless_more_is_asked_for(
    load: Load, given: dict[str, str], subdomains: bool, preload: bool
) -> None:
    settings = load(SECRET_KEY="s", **{"HTTPS": "on", **given})
    assert settings.SECURE_HSTS_INCLUDE_SUBDOMAINS is subdomains
    assert settings.SECURE_HSTS_PRELOAD is preload


def test_unknown_relay_variables_are_found_in_both_places(load: Load) -> None:
    settings = load("SECRET_KEY=s\nRELAY_MAX_TOPIC=1\nOTHER=1\n", RELAY_LINGR="1")
    assert settings.UNKNOWN_RELAY_VARIABLES == ["RELAY_LINGR", "RELAY_MAX_TOPIC"]


@pytest.mark.parametrize(("given", "formatter"), [("", "text"), ("json", "json"), ("xml", "text")])
def test_the_log_has_a_format_whatever_is_given(load: Load, given: str, formatter: str) -> None:
    settings = load(SECRET_KEY="s", RELAY_LOG_FORMAT=given)
    assert settings.LOGGING["handlers"]["console"]["formatter"] == formatter


def test_every_variable_of_the_relay_is_read(load: Load) -> None:
    given = {name: f"value of {field}" for field, name in conf.VARIABLES.items()}
    settings = load(SECRET_KEY="s", **given)
    assert {field: f"value of {field}" for field in conf.VARIABLES} == settings.RELAY


def test_a_json_log_is_one_object_a_line() -> None:
    script = (
        "import django, logging; django.setup(); logging.getLogger('relay.x').info('two\\nlines')"
    )
    result = run(
        sys.executable, "-c", script,
        SECRET_KEY="s", RELAY_LOG_FORMAT="json", DJANGO_SETTINGS_MODULE="marketfeed.settings",
    )  # fmt: skip
    [line] = result.stderr.splitlines()
    entry = json.loads(line)
    assert datetime.fromisoformat(entry.pop("time")).tzinfo is not None
    assert entry == {"level": "INFO", "logger": "relay.x", "message": "two\nlines"}


def test_a_fault_of_the_project_has_the_hint_that_one_of_the_relay_has(load: Load) -> None:
    [fault] = load(SECRET_KEY="s", ALLOWED_HOSTS="http://a.example").ENVIRONMENT_FAULTS
    assert fault.check_id == "relay.E001"
    assert fault.hint == (
        "Correct ALLOWED_HOSTS, or unset it for the default (localhost, 127.0.0.1, [::1])."
    )


def test_a_dotenv_file_without_a_value_leaves_the_variable_unset(load: Load) -> None:
    settings = load("SECRET_KEY=s\nDEBUG\nRELAY_LINGER=\n")
    assert (settings.DEBUG, settings.RELAY, faults(settings)) == (False, {}, [])
