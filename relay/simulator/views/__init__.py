"""What a market looks like through one topic, in the exchange's own words.

Key order, number strings and the rules of each category follow the Bybit v5 reference. A
view belongs to one market, is asked once after every step of it, and keeps what its readers
have been told, so that a delta holds exactly the difference: what left the window is
deleted, what entered is sent, nothing else is mentioned.
"""

from __future__ import annotations

from relay.simulator.market import SymbolMarket
from relay.simulator.topics import Category, Feed, Topic
from relay.simulator.views.base import View
from relay.simulator.views.books import DepthView, LevelOneView
from relay.simulator.views.candles import CandlesView
from relay.simulator.views.contracts import LiquidationsView, PriceLimitView
from relay.simulator.views.tickers import FuturesTickerView, OptionTickerView, SpotTickerView
from relay.simulator.views.trades import TradesView

__all__ = ["DepthView", "LevelOneView", "View", "view_of"]

BOOK_INTERVALS = {25: 20, 50: 20, 100: 100, 200: 100, 500: 100, 1000: 200}  # ms, by depth
SPOT_TICKER_INTERVAL = 50  # ms
TICKER_INTERVAL = 100  # ms
CANDLE_INTERVAL = 1000  # ms
PRICE_LIMIT_INTERVAL = 300  # ms
LIQUIDATION_INTERVAL = 500  # ms


def view_of(topic: Topic, market: SymbolMarket, rate: float) -> View:
    """Return the view of `market` that `topic` names.

    Args:
        rate: Steps of the market in a second; a topic pushed less often joins several.
    """
    if topic.depth == 1:
        return LevelOneView(topic, market)
    if topic.depth is not None:
        return DepthView(topic, market, _steps(BOOK_INTERVALS[topic.depth], rate))
    if topic.feed is Feed.CANDLES:
        return CandlesView(topic, market, _steps(CANDLE_INTERVAL, rate))
    if topic.feed is Feed.PRICE_LIMITS:
        return PriceLimitView(topic, market, _steps(PRICE_LIMIT_INTERVAL, rate))
    if topic.feed is Feed.LIQUIDATIONS:
        return LiquidationsView(topic, market, _steps(LIQUIDATION_INTERVAL, rate))
    if topic.feed is Feed.TRADES:
        return TradesView(topic, market)
    match topic.category:
        case Category.SPOT:
            return SpotTickerView(topic, market, _steps(SPOT_TICKER_INTERVAL, rate))
        case Category.OPTION:
            return OptionTickerView(topic, market, _steps(TICKER_INTERVAL, rate))
        case _:
            return FuturesTickerView(topic, market, _steps(TICKER_INTERVAL, rate))


def _steps(interval_ms: int, rate: float) -> int:
    return max(1, round(interval_ms * rate / 1000))
