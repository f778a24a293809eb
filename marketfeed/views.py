"""The project's own pages: the demo and its icon."""

from __future__ import annotations

import json
from typing import Final

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.templatetags.static import static

from relay.bybit.topics import ORDERBOOK, Category
from relay.views import the_same_for_everybody

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


@the_same_for_everybody(seconds=5)
def demo(request: HttpRequest) -> HttpResponse:
    """Answer the demo page; its script reads `?category=&symbol=&depth=` itself."""
    return render(request, "relay/demo.html", {"categories": list(Category), "markets": _MARKETS})


@the_same_for_everybody(seconds=86_400)
def favicon(request: HttpRequest) -> HttpResponse:
    """Lead browsers to the icon where a page of Django's admin names none."""
    return HttpResponseRedirect(static("relay/icon.svg"))
