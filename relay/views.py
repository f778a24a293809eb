"""The pages for everybody: the demo, and what probes ask."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.templatetags.static import static
from django.utils.cache import patch_vary_headers
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from relay import readiness
from relay.core.topics import FEEDS, ORDERBOOK, Category, split_text
from relay.live import query
from relay.metrics import web
from relay.origins import is_welcome

# Pairs and perpetuals that will not expire. Option contracts do, so none is named.
_SUGGESTIONS: Final[dict[Category, tuple[str, ...]]] = {
    Category.SPOT: ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT"),
    Category.LINEAR: ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT", "BTCPERP"),
    Category.INVERSE: ("BTCUSD", "ETHUSD", "SOLUSD", "XRPUSD"),
    Category.OPTION: (),
}
_PAGE_DEPTH: Final = "200"  # levels: joining prices into steps needs more than the usual 50
_MARKETS: Final = json.dumps(
    {
        category.value: {
            "depths": [int(depth) for depth in ORDERBOOK.parameters[category]],
            "depth": int(
                _PAGE_DEPTH
                if _PAGE_DEPTH in ORDERBOOK.parameters[category]
                else ORDERBOOK.defaults[category]
            ),
            "symbols": _SUGGESTIONS[category],
        }
        for category in Category
    }
)
_SYMBOLS_SHOWN: Final = 200  # a category, the most read first


@require_safe
def demo(request: HttpRequest) -> HttpResponse:
    """Answer the demo page; its script reads `?category=&symbol=&depth=` itself."""
    return render(request, "relay/demo.html", {"categories": list(Category), "markets": _MARKETS})


def _open_to_allowed_pages(view: Callable[[HttpRequest], HttpResponse]) -> Any:
    """Let the pages that may connect (`RELAY_ALLOWED_ORIGINS`) read the answer, too."""

    @wraps(view)
    def answer(request: HttpRequest) -> HttpResponse:
        response = view(request)
        patch_vary_headers(response, ["Origin"])
        origin = request.headers.get("Origin", "")
        headers = {b"origin": origin.encode(), b"host": request.get_host().encode()}
        if origin and is_welcome(headers):
            response["Access-Control-Allow-Origin"] = origin
        return response

    return answer


@require_safe
@_open_to_allowed_pages
@cache_control(max_age=5)
def symbols(request: HttpRequest) -> HttpResponse:
    """Answer the symbols that are being read through this relay, by category.

    Such as `{"spot": ["BTCUSDT"], ...}`: the 200 most read ones of each, those whose topics are
    live now. It is no list of what the exchange has.
    """
    readers: dict[Category, Counter[str]] = {category: Counter() for category in Category}
    for counted in query.picture()["topics"]:
        feed, _, symbol = split_text(counted["topic"])
        is_by_coin = feed in FEEDS and counted["category"] in FEEDS[feed].by_coin
        if counted["state"] == "live" and symbol and not is_by_coin:
            readers[Category(counted["category"])][symbol] += counted["subscribers"]
    return JsonResponse(
        {
            category: [symbol for symbol, _ in counts.most_common(_SYMBOLS_SHOWN)]
            for category, counts in readers.items()
        }
    )


@require_safe
@cache_control(max_age=86_400)
def favicon(request: HttpRequest) -> HttpResponse:
    """Lead browsers to the icon where a page of Django's admin names none."""
    return HttpResponseRedirect(static("relay/icon.svg"))


@require_safe
@cache_control(no_store=True)
async def healthz(request: HttpRequest) -> HttpResponse:
    """Answer 200 while the process lives. Asynchronous: it waits for nobody's thread."""
    return HttpResponse("ok\n", content_type="text/plain; charset=utf-8")


@require_safe
@cache_control(no_store=True)
async def metrics(request: HttpRequest) -> HttpResponse:
    """Answer Prometheus. Who may ask is the network's matter: there is nothing of a client in it.

    In a thread: counting the open files of a busy process takes milliseconds.
    """
    render = sync_to_async(web.render, thread_sensitive=False)
    text, content_type = await render(request.headers.get("Accept", ""))
    return HttpResponse(text, content_type=content_type)


@require_safe
@cache_control(no_store=True)
async def readyz(request: HttpRequest) -> HttpResponse:
    """Answer 200, or 503 where something is wrong; the JSON says what, and for how long."""
    found = readiness.readiness()
    return JsonResponse(found, status=200 if found["ready"] else 503)
