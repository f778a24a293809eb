"""Django's settings, from the environment and from `.env` in the project folder.

Nothing here raises for a wrong value: what cannot be used is kept in
`ENVIRONMENT_FAULTS` and a safe value takes its place, so that `manage.py check`, the commands and
`daphne marketfeed.asgi:application` can each say it in their own way (`relay.conf.faults`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dj_database_url
from csp.constants import NONE, SELF
from django.core.management.utils import get_random_secret_key

from marketfeed import environment, home
from relay import conf
from relay.lib.settings import select

BASE_DIR = home.folder(checkout=Path(__file__).resolve().parent.parent)

# The faults are those outside `RELAY`, whose own `relay.conf` finds.
_variables, _project, ENVIRONMENT_FAULTS = environment.read(BASE_DIR / ".env")

DEBUG = _project.debug
# Without one, a random key keeps `migrate` and `collectstatic` working; whatever serves
# refuses.
SECRET_KEY = _project.secret_key or (
    "django-insecure-for-development-only" if DEBUG else get_random_secret_key()
)
ALLOWED_HOSTS = list(_project.allowed_hosts)
CSRF_TRUSTED_ORIGINS = list(_project.csrf_trusted_origins)

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
        "DIRS": [home.pages()],
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
    "default": dj_database_url.parse(_project.database_url)
    if _project.database_url
    else {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}
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

SESSION_COOKIE_SECURE = _project.https
CSRF_COOKIE_SECURE = _project.https
CSRF_COOKIE_HTTPONLY = True  # scripts of the pages read the token from the form it is in
# Behind a proxy that ends TLS, `daphne --proxy-headers` tells Django the scheme.
SECURE_SSL_REDIRECT = _project.https
# A year for this host alone: browsers keep it, and the other hosts of the domain are not the
# relay's. Preload lists take no host that does not speak for its subdomains.
SECURE_HSTS_SECONDS = 31_536_000 if _project.https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = _project.https and _project.hsts_include_subdomains
SECURE_HSTS_PRELOAD = _project.hsts_preload and SECURE_HSTS_INCLUDE_SUBDOMAINS
# What these two of `check --deploy` ask for is up to the owner of the domain.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

RELAY_OWNS_PROCESS = True
RELAY = select(conf.RelaySettings, _variables)
UNKNOWN_RELAY_VARIABLES = sorted(
    name for name in _variables if name.startswith("RELAY_") and name not in conf.VARIABLES.values()
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
