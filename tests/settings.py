"""`marketfeed.settings` as the tests want them: nothing from the machine, nothing from `.env`.

An empty variable counts as unset and comes before `.env`, also in the processes tests start.
"""

import os

from marketfeed.environment import ProjectSettings
from relay import conf
from relay.lib.settings import variables

DJANGO_VARIABLES = tuple(variables(ProjectSettings).values())
BLANK = dict.fromkeys(["MARKETFEED_HOME", *DJANGO_VARIABLES, *conf.VARIABLES.values()], "")
os.environ.update(BLANK | {"SECRET_KEY": "a-key-for-tests-only-" + "0" * 40})

from marketfeed.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # quick, and enough here
