"""`marketfeed.settings` as the tests want them: nothing from the machine, nothing from `.env`.

An empty variable counts as unset and comes before `.env`, also in the processes tests start.
"""

import os

from relay import conf

DJANGO_VARIABLES = (
    "ALLOWED_HOSTS",
    "CSRF_TRUSTED_ORIGINS",
    "DATABASE_URL",
    "DEBUG",
    "HSTS_INCLUDE_SUBDOMAINS",
    "HSTS_PRELOAD",
    "HTTPS",
    "SECRET_KEY",
)
BLANK = dict.fromkeys([*DJANGO_VARIABLES, *conf.VARIABLES.values()], "")
os.environ.update(BLANK | {"SECRET_KEY": "a-key-for-tests-only-" + "0" * 40})

from marketfeed.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # quick, and enough here
