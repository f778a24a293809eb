"""What every visitor may read over HTTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Final

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.cache import patch_vary_headers
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from relay.bybit.topics import FEEDS, Category, split_text
from relay.web import query
from relay.web.origins import is_welcome

_SYMBOLS_SHOWN: Final = 200  # a category, the most read first


_View = Callable[[HttpRequest], HttpResponse]


def the_same_for_everybody(seconds: int) -> Callable[[_View], _View]:
    """Declare a page that depends on nothing but its address, without host and query.

    An `Access-Control-Allow-Origin` may name the allowed origin that asks.

    Args:
        seconds: How long one rendering may be shown, by `marketfeed.front` and by browsers.
    """

    def declare(view: _View) -> _View:
        view = require_safe(cache_control(public=True, max_age=seconds)(view))
        view.kept_for = seconds  # type: ignore[attr-defined]
        return view

    return declare


def _open_to_allowed_pages(view: _View) -> _View:
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


@the_same_for_everybody(seconds=5)
@_open_to_allowed_pages
def symbols(request: HttpRequest) -> HttpResponse:
    """Answer the symbols that are being read through this relay, by category.

    Such as `{"spot": ["BTCUSDT"], ...}`: the 200 most read ones of each, those whose topics are
    live now. It is not a list of what the exchange has.
    """
    readers: dict[str, Counter[str]] = {category.value: Counter() for category in Category}
    for (category, topic), count in query.live_readers().items():
        feed, _, symbol = split_text(topic)
        is_by_coin = feed in FEEDS and category in FEEDS[feed].by_coin
        if symbol and not is_by_coin:
            readers[category][symbol] += count
    return JsonResponse(
        {
            category: [symbol for symbol, _ in counts.most_common(_SYMBOLS_SHOWN)]
            for category, counts in readers.items()
        }
    )
