"""What probes ask, answered before anything asks by which name they call the host.

Orchestrators, balancers and Prometheus call a process by its address, which `ALLOWED_HOSTS` cannot
know. That list guards links that pages make of the `Host` header, and these answers make none.
They need no session and no redirect either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse

from relay import views

VIEWS = {"/healthz": views.healthz, "/readyz": views.readyz, "/metrics": views.metrics}


class ProbesMiddleware:
    """Answers the paths in `VIEWS`; it must come first."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Return the response, awaitable under ASGI."""
        view = VIEWS.get(request.path_info)
        if view is None:
            return self._get_response(request)
        answer = _answer if iscoroutinefunction(self) else async_to_sync(_answer)
        return answer(view, request)


async def _answer(view: Callable[[HttpRequest], Any], request: HttpRequest) -> HttpResponse:
    response: HttpResponse = await view(request)
    response["X-Content-Type-Options"] = "nosniff"
    return response
