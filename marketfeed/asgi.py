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
from relay.routing import websocket  # noqa: E402
from relay.web import process as web_process  # noqa: E402
from relay.web.reactor import start_early  # noqa: E402

front = Front(django_application)


async def _http(scope: Any, receive: Any, send: Any) -> None:
    web_process.current()  # whatever comes first starts the relay
    await front(scope, receive, send)


async def _lifespan(scope: Any, receive: Any, send: Any) -> None:
    """Start and stop with servers that say when; Daphne does not: see `start_early`."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            web_process.current()
            await send({"type": "lifespan.startup.complete"})
        else:
            await web_process.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return


start_early(web_process.current)
application = ProtocolTypeRouter({"http": _http, "websocket": websocket, "lifespan": _lifespan})
