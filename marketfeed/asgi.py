"""The ASGI application: `daphne marketfeed.asgi:application`.

With settings that cannot be used it ends the server with one sentence and exit status 2.
"""

from __future__ import annotations

import os
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketfeed.settings")

from relay.conf import refuse_to_serve

refuse_to_serve()
django_application = get_asgi_application()

from channels.routing import ProtocolTypeRouter  # noqa: E402 - needs the started Django

from marketfeed.front import Front  # noqa: E402
from marketfeed.routing import websocket  # noqa: E402
from relay.routing import lifespan, start_with_daphne  # noqa: E402
from relay.web import process as web_process  # noqa: E402

front = Front(django_application)


async def _http(scope: Any, receive: Any, send: Any) -> None:
    web_process.current()  # whatever comes first starts the relay
    await front(scope, receive, send)


start_with_daphne()
application = ProtocolTypeRouter({"http": _http, "websocket": websocket, "lifespan": lifespan})
