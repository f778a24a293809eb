"""The ASGI application: `daphne marketfeed.asgi:application`.

With settings that cannot be used it ends the server with one sentence and exit status 2.
"""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketfeed.settings")

from relay.conf import refuse_to_serve

refuse_to_serve()
django_asgi_app = get_asgi_application()

from channels.routing import ProtocolTypeRouter  # noqa: E402 - needs the started Django

application = ProtocolTypeRouter({"http": django_asgi_app})
