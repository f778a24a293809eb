"""Django's settings: the one place where the environment is read.

Values come from the environment, then from `.env` in the project folder; an empty one counts
as unset. Nothing here raises for a value somebody typed: what cannot be used is kept in
`ENVIRONMENT_FAULTS` and a safe value takes its place, so that `manage.py check`, the commands and
`daphne marketfeed.asgi:application` can each say it in their own way (`relay.conf.faults`).
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from csp.constants import NONE, SELF
from django.core.management.utils import get_random_secret_key
from dotenv import dotenv_values
from environs import Env, EnvError

from relay import conf

BASE_DIR = Path(__file__).resolve().parent.parent

ENVIRONMENT_FAULTS: list[conf.Fault] = []
"""What is wrong outside `RELAY`, whose own faults `relay.conf` finds."""

_T = TypeVar("_T")
_env = Env()
_names = set(os.environ)
try:
    _env.read_env(BASE_DIR / ".env", recurse=False)
    _names.update(dotenv_values(BASE_DIR / ".env"))
except (OSError, ValueError) as _error:
    ENVIRONMENT_FAULTS.append(
        conf.Fault(".env", "a readable file in UTF-8", f"a {type(_error).__name__}", "relay.E001")
    )


def _text(name: str) -> str:
    return _env.str(name, "").strip()


def _read(name: str, reader: Callable[[str], _T], default: _T, expected: str) -> _T:
    if not _text(name):
        return default
    try:
        return reader(name)
    except (EnvError, ValueError):
        found = conf.describe(_text(name), is_secret=name == "DATABASE_URL")
        check_id = "relay.E003" if name == "DATABASE_URL" else "relay.E001"
        ENVIRONMENT_FAULTS.append(conf.Fault(name, expected, found, check_id))
        return default


def _flag(name: str) -> bool:
    return _read(name, _env.bool, False, "on or off")


def _list(name: str) -> list[str]:
    return [part.strip() for part in _text(name).split(",") if part.strip()]


def _hosts(name: str) -> list[str]:
    hosts = _list(name)
    if any("/" in host or " " in host for host in hosts):
        raise ValueError
    return hosts


def _origins(name: str) -> list[str]:
    origins = _list(name)
    if not all(origin.startswith(("http://", "https://")) for origin in origins):
        raise ValueError
    return origins


_DRIVERS = {"postgresql": ("psycopg", "psycopg2"), "mysql": ("MySQLdb",), "oracle": ("oracledb",)}


def _database(name: str) -> dict[str, Any]:
    parsed = dict(_env.dj_db_url(name))
    drivers = _DRIVERS.get(str(parsed["ENGINE"]).rpartition(".")[2], ())
    if drivers and not any(map(importlib.util.find_spec, drivers)):
        # Django would import the missing driver while it loads the models, and end in a traceback.
        raise ValueError
    return parsed


DEBUG = _flag("DEBUG")
HTTPS = _flag("HTTPS")
SECRET_KEY = _text("SECRET_KEY")
if not SECRET_KEY:
    # A key nobody knows keeps `migrate` and `collectstatic` working; whatever serves refuses.
    SECRET_KEY = "django-insecure-for-development-only" if DEBUG else get_random_secret_key()
    if not DEBUG:
        ENVIRONMENT_FAULTS.append(
            conf.Fault(
                "SECRET_KEY",
                "a long random text (or DEBUG=1)",
                "nothing",
                "relay.E002",
                "Put SECRET_KEY=... into the environment or .env; `make run` writes one to .env.",
            )
        )

ALLOWED_HOSTS = _read(
    "ALLOWED_HOSTS", _hosts, ["localhost", "127.0.0.1", "[::1]"], "host names by commas"
)
CSRF_TRUSTED_ORIGINS: list[str] = _read(
    "CSRF_TRUSTED_ORIGINS", _origins, [], "origins such as https://example.com, by commas"
)

INSTALLED_APPS = [
    "daphne",  # first: it brings runserver its ASGI server
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "relay",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django_permissions_policy.PermissionsPolicyMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "marketfeed.urls"
ASGI_APPLICATION = "marketfeed.asgi.application"
LOGIN_URL = "admin:login"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {
    "default": _read(
        "DATABASE_URL",
        _database,
        {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"},
        "a database address such as postgres://user@host/name, its driver installed",
    )
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "marketfeed.static_files.StaticFilesStorage"},
}
# Plain Daphne serves no static files: marketfeed.static_files does, by WhiteNoise, from the apps
# until they are collected.
WHITENOISE_USE_FINDERS = True

# django-csp and not Django's own: that begins with 6.0, which needs a newer Python than 3.11.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:"],  # the admin's style sheets carry small images
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}
X_FRAME_OPTIONS = "DENY"
# The pages use none of these, and nothing that is smuggled into one shall.
PERMISSIONS_POLICY: dict[str, list[str]] = {
    feature: []
    for feature in (
        *("accelerometer", "camera", "display-capture", "encrypted-media", "geolocation"),
        *("gyroscope", "microphone", "midi", "payment", "publickey-credentials-get"),
        *("screen-wake-lock", "usb", "xr-spatial-tracking"),
    )
}

SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
CSRF_COOKIE_HTTPONLY = True  # scripts of the pages read the token from the form it is in
# Behind a proxy that ends TLS, `daphne --proxy-headers` tells Django the scheme.
SECURE_SSL_REDIRECT = HTTPS
# A year for this host alone: browsers keep it, and the other hosts of the domain are not the
# relay's. Preload lists take no host that does not speak for its subdomains.
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = _flag("HSTS_INCLUDE_SUBDOMAINS") and HTTPS
SECURE_HSTS_PRELOAD = _flag("HSTS_PRELOAD") and SECURE_HSTS_INCLUDE_SUBDOMAINS
# What these two of `check --deploy` ask for is up to the owner of the domain.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

RELAY = {field: text for field, name in conf.VARIABLES.items() if (text := _text(name))}
UNKNOWN_RELAY_VARIABLES = sorted(
    name for name in _names if name.startswith("RELAY_") and name not in conf.VARIABLES.values()
)

_relay, _ = conf.read(RELAY)
CHANNEL_LAYERS: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "relay.layers.redis.RedisChannelLayer",
        "CONFIG": {"hosts": list(_relay.redis_urls)},
    }
    if _relay.redis_urls
    else {"BACKEND": "relay.layers.local.LocalChannelLayer"}
}

LOGGING_CONFIG = "marketfeed.logs.configure"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "text": {
            "class": "marketfeed.logs.OneLine",
            "format": "%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        },
        "json": {
            # One well-kept formatter: exceptions, `extra` and odd values are its problem.
            "()": "pythonjsonlogger.json.JsonFormatter",
            "format": "%(levelname)s %(name)s %(message)s",
            "rename_fields": {"levelname": "level", "name": "logger"},
            "timestamp": "time",
        },
    },
    "filters": {"no_hints": {"()": "marketfeed.logs.NoHints"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": _relay.log_format},
    },
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        "relay": {"level": "INFO"},
        "marketfeed": {"level": "INFO"},
        "daphne.server": {"level": "INFO", "filters": ["no_hints"]},  # says where it listens
        "daphne.access": {"level": "INFO"},
        "django": {"handlers": [], "level": "INFO"},  # the root's handler is enough
    },
}
