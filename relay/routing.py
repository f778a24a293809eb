"""Which consumer answers at which path, for the `URLRouter` of any project.

    application = ProtocolTypeRouter({
        "http": get_asgi_application(),
        "websocket": URLRouter([*websocket_urlpatterns, path("chat", ChatConsumer.as_asgi())]),
        "lifespan": lifespan,
    })
    start_with_daphne()

Import it after `get_asgi_application()` has started Django. A project that mounts the clients'
sockets below another path routes `client_urlpatterns` there and `live_page_urlpatterns` at the
root.
"""

from __future__ import annotations

from typing import Any

from django.urls import NoReverseMatch, URLPattern, get_script_prefix, path, reverse

from relay.web import process as web_process
from relay.web.consumers import BybitConsumer, MarketDataConsumer
from relay.web.live_socket import LiveTopicsConsumer
from relay.web.reactor import start_early

client_urlpatterns: list[URLPattern] = [
    path("ws", MarketDataConsumer.as_asgi()),
    path("v5/public/<str:category>", BybitConsumer.as_asgi()),
]
"""The sockets of clients."""


def _live_page_urlpatterns() -> list[URLPattern]:
    try:
        page = reverse("admin:relay_livetopic_changelist")
    except NoReverseMatch:  # the project does not serve the admin
        return []
    return [path(f"{page.removeprefix(get_script_prefix())}ws", LiveTopicsConsumer.as_asgi())]


live_page_urlpatterns: list[URLPattern] = _live_page_urlpatterns()
"""The socket of the live page, below the address that the page has in the project's admin. Without
it the page polls."""

websocket_urlpatterns: list[URLPattern] = [*client_urlpatterns, *live_page_urlpatterns]


def start_with_daphne() -> None:
    """Have Daphne start the relay before its first connection; other servers have `lifespan`.

    Without either, the first client starts it.
    """
    start_early(web_process.current)


async def lifespan(scope: Any, receive: Any, send: Any) -> None:
    """Start and stop with servers that announce it, by ASGI's lifespan protocol."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            web_process.current()
            await send({"type": "lifespan.startup.complete"})
        else:
            await web_process.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
