"""Topics on a screen: a panel each, as many as there is room for.

A screen is drawn from scratch each time, from what is known, for the size the terminal has;
nothing moves that has not changed: prices and sizes have fixed places and as many digits as ever
seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from rich.console import RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.text import Text

from relay.bybit.frames import Level
from relay.bybit.topics import Shape
from relay.terminal.feed import FeedState, TopicFeed
from relay.terminal.followed import Followed, State
from relay.terminal.words import (
    NOTHING,
    clock,
    countdown,
    decimal,
    fixed,
    percent,
    places,
    printable,
    spread,
)

PANEL_WIDTH = 44  # columns that a panel should have; fewer only where it is alone
PANEL_HEIGHT = 7  # rows that it must have, its frame included
COLUMNS = ("price", "size", "total")  # of a book
SHORTEST_BAR = 6  # columns
WRONG_CLOCK = 100_000  # ms: messages that seem older come from a replay, or the clock is wrong
QUIET_AFTER = 5.0  # seconds without a message, after which that is said
UP, DOWN, FAINT, ALARM = "green", "red", "dim", "bold yellow"

LIMIT_ROWS = (("Buys up to", "buyLmt"), ("Sells from", "sellLmt"))
TICKER_ROWS = (
    ("Mark", "markPrice"),
    ("Index", "indexPrice"),
    ("Bid", "bid1Price"),
    ("Ask", "ask1Price"),
    ("Bid", "bidPrice"),
    ("Ask", "askPrice"),
    ("24h high", "highPrice24h"),
    ("24h low", "lowPrice24h"),
    ("24h volume", "volume24h"),
    ("24h turnover", "turnover24h"),
    ("Open interest", "openInterest"),
    ("Underlying", "underlyingPrice"),
    ("Implied vol.", "markPriceIv"),
    ("Delta", "delta"),
    ("Gamma", "gamma"),
    ("Vega", "vega"),
    ("Theta", "theta"),
)


@dataclass(slots=True)
class _Shape:
    """The most digits a column has had, so that it never grows narrow again."""

    price_places: int = 0
    size_places: int = 0
    widths: dict[str, int] = field(default_factory=dict)

    def width(self, column: str, texts: Sequence[str]) -> int:
        """Return the width of a column that must hold the texts."""
        widest = max(map(len, texts), default=1)
        self.widths[column] = max(widest, self.widths.get(column, 1))
        return self.widths[column]


class Screen:
    """Draws what some feeds know."""

    def __init__(self, url: str, feeds: Sequence[TopicFeed]) -> None:
        self._url = url
        self._feeds = feeds
        self._panels = [(feed, one) for feed in feeds for one in feed.topics.values()]
        self._shapes: dict[Followed, _Shape] = {}

    def draw(self, columns: int, rows: int, now: float, wall_ms: int) -> RenderableType:
        """Return the screen for a terminal of that size.

        Args:
            now: The monotonic clock.
            wall_ms: The time of day, Unix ms.
        """
        across = max(1, min(len(self._panels), columns // PANEL_WIDTH))
        down = max(1, min(-(-len(self._panels) // across), (rows - 1) // PANEL_HEIGHT))
        shown = self._panels[: across * down]
        width, height = columns // across, (rows - 1) // down
        screen = Layout()
        screen.split_column(
            Layout(self._headline(now, len(self._panels) - len(shown)), size=1),
            *(
                self._row(shown[start : start + across], (width, height), now, wall_ms)
                for start in range(0, len(shown), across)
            ),
        )
        return screen

    def _row(
        self,
        panels: Sequence[tuple[TopicFeed, Followed]],
        size: tuple[int, int],
        now: float,
        wall_ms: int,
    ) -> Layout:
        room = size[0] - 4, size[1] - 2  # within a frame
        row = Layout()
        row.split_row(
            *(Layout(self._panel(*one, room, now=now, wall_ms=wall_ms)) for one in panels)
        )
        return row

    def _headline(self, now: float, hidden: int) -> Text:
        line = _text()
        if hidden:
            line.append(f" {hidden} more do not fit ", ALARM)
        for feed in self._feeds:
            line.append(f" {feed.category} ")
            line.append(feed.state, UP if feed.state is FeedState.LIVE else ALARM)
            if feed.state is not FeedState.LIVE and feed.reason:
                line.append(f": {printable(feed.reason)}")
            if feed.retry_at is not None and feed.retry_at > now:
                line.append(f", next try in {feed.retry_at - now:.0f} s")
            line.append(" ")
        line.append(f" {printable(self._url)}", FAINT)
        return line

    def _panel(
        self,
        feed: TopicFeed,
        followed: Followed,
        room: tuple[int, int],
        *,
        now: float,
        wall_ms: int,
    ) -> Panel:
        width, height = room
        if followed.state is State.REFUSED:
            body = _text(f"refused: {printable(followed.words)}", ALARM)
            body.no_wrap = False
        elif followed.updated is None:
            body = _text("waiting for the first message", FAINT)
        else:
            match followed.topic.feed.shape:
                case Shape.LEVELS:
                    body = self._book(followed, width, height)
                case Shape.TRADES:
                    body = self._tape(followed, width, height)
                case Shape.CANDLES:
                    body = _candles(followed, height)
                case Shape.FIELDS:
                    body = _ticker(followed, width, height, wall_ms)
                case Shape.ROWS:
                    body = _rows(followed, height)
        is_right = followed.state in (State.LIVE, State.WAITING)
        if not is_right:  # nothing that may be outdated has a colour
            body = _text(body.plain, FAINT)
        return Panel(
            body,
            title=_text(str(followed.topic), "bold" if is_right else ALARM),
            subtitle=_status(feed, followed, now),
            border_style="none" if is_right else "yellow",
        )

    def _shape(self, followed: Followed) -> _Shape:
        return self._shapes.setdefault(followed, _Shape())

    def _book(self, followed: Followed, width: int, height: int) -> Text:
        """Return the ladder: asks above, bids below, the best in the middle."""
        rows = max(1, (height - 1) // 2)
        bids, asks = followed.levels(rows)
        shape = self._shape(followed)
        every = [*bids, *asks]
        shape.price_places = max(shape.price_places, places(price for price, _ in every))
        shape.size_places = max(shape.size_places, places(size for _, size in every))
        columns = [_columns(side, shape) for side in (asks, bids)]
        cells = [cell for side in columns for cell in side]
        widths = [
            shape.width(name, [name, *(cell[number] for cell in cells)])
            for number, name in enumerate(COLUMNS)
        ]
        deepest = max((decimal(cell[2]) for cell in cells), default=Decimal()) or Decimal(1)
        body = _text()
        if height > 2 * rows + 1:
            heads = (name.rjust(n) for name, n in zip(COLUMNS, widths, strict=True))
            body.append("  ".join(heads) + "\n", FAINT)
        body.append("\n" * (rows - len(asks)))
        for cell in reversed(columns[0]):
            self._level(body, cell, widths, deepest, width=width, colour=DOWN)
        body.append(_middle(bids, asks, shape.price_places), "bold")
        body.append("\n")
        for cell in columns[1]:
            self._level(body, cell, widths, deepest, width=width, colour=UP)
        return body

    def _level(
        self,
        body: Text,
        cell: tuple[str, str, str],
        widths: Sequence[int],
        deepest: Decimal,
        *,
        width: int,
        colour: str,
    ) -> None:
        price, size, total = (text.rjust(n) for text, n in zip(cell, widths, strict=True))
        body.append(printable(price), colour)
        body.append(f"  {printable(size)}")
        used = widths[0] + 2 + widths[1]
        if used + 2 + widths[2] <= width:
            body.append(f"  {total}", FAINT)
            used += 2 + widths[2]
        if (room := width - used - 2) >= SHORTEST_BAR:
            body.append("  " + "█" * round(room * decimal(cell[2]) / deepest), colour)
        body.append("\n")

    def _tape(self, followed: Followed, width: int, height: int) -> Text:
        """Return the last trades, newest first."""
        trades = [followed.trades[-1 - n] for n in range(min(height, len(followed.trades)))]
        shape = self._shape(followed)
        shape.price_places = max(shape.price_places, places(one.price for one in trades))
        shape.size_places = max(shape.size_places, places(one.size for one in trades))
        prices = [fixed(one.price, shape.price_places) for one in trades]
        sizes = [fixed(one.size, shape.size_places) for one in trades]
        price_width, size_width = shape.width("price", prices), shape.width("size", sizes)
        body = _text()
        for trade, price, size in zip(trades, prices, sizes, strict=True):
            is_buy = trade.side == "Buy"
            if 12 + 6 + price_width + 2 + size_width <= width:
                body.append(f"{clock(trade.time)}  ", FAINT)
            # The word as well as the colour, which not every user sees.
            words = f"{'buy ' if is_buy else 'sell'}  {printable(price).rjust(price_width)}"
            body.append(words, UP if is_buy else DOWN)
            body.append(f"  {printable(size).rjust(size_width)}\n")
        return body


def _columns(side: Sequence[Level], shape: _Shape) -> list[tuple[str, str, str]]:
    """Return price, size and the sum of the sizes so far, of each level."""
    total = Decimal()
    cells = []
    for price, size in side:
        total += decimal(size)
        cells.append(
            (
                fixed(price, shape.price_places),
                fixed(size, shape.size_places),
                f"{total:.{shape.size_places}f}",
            )
        )
    return cells


def _middle(bids: Sequence[Level], asks: Sequence[Level], digits: int) -> str:
    if not (bids and asks):
        return f"spread {NOTHING}"
    between = spread(bids[0][0], asks[0][0])
    middle = (decimal(bids[0][0]) + decimal(asks[0][0])) / 2
    return f"{middle:.{digits + 1}f}  spread {between:.{digits}f}"


def _candles(followed: Followed, height: int) -> Text:
    """Return the last candles, newest first: open, high, low and close."""
    starts = sorted(followed.candles, reverse=True)[:height]
    rows = [
        (clock(one.start)[:8], one.open, one.high, one.low, one.close)
        for one in map(followed.candles.__getitem__, starts)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    body = _text()
    for row in rows:
        cells = [printable(cell).rjust(size) for cell, size in zip(row, widths, strict=True)]
        is_falling = decimal(row[4]) < decimal(row[1])
        body.append(f"{cells[0]}  ", FAINT)
        body.append("  ".join(cells[1:]) + "\n", DOWN if is_falling else UP)
    return body


def _rows(followed: Followed, height: int) -> Text:
    """Return the last rows as they came, newest first."""
    newest = list(reversed(followed.rows))[:height]
    return _text("\n".join(map(printable, newest)))


def _ticker(followed: Followed, width: int, height: int, wall_ms: int) -> Text:
    """Return the ticker, the most important first."""
    fields = followed.fields()
    change = fields.get("price24hPcnt") or fields.get("change24h") or ""
    colour = DOWN if change.startswith("-") else UP
    if "buyLmt" in fields:  # price limits
        rows = [(label, fields.get(key, NOTHING), "") for label, key in LIMIT_ROWS]
    else:
        rows = [("Last", fields.get("lastPrice", NOTHING), "bold")]
        rows.append(("24h change", percent(change), colour if decimal(change) else ""))
    if funding := fields.get("fundingRate"):
        rows.append(("Funding", percent(funding, 4), ""))
        left = int(decimal(fields.get("nextFundingTime", "0"))) - wall_ms
        rows.append(("Funding in", countdown(left / 1000), ""))
    rows += [(label, fields[key], "") for label, key in TICKER_ROWS if fields.get(key)]
    label_width = max(len(label) for label, _, _ in rows)
    value_width = max(len(value) for _, value, _ in rows)
    # Where one below the other does not fit, in two columns if there is room for them.
    column = label_width + 2 + value_width
    across = 2 if len(rows) > height and 2 * column + 3 <= width else 1
    body = _text()
    for number, (label, value, style) in enumerate(rows[: height * across]):
        body.append(f"{label:<{label_width}}  ", FAINT)
        body.append(printable(value).rjust(value_width), style)
        body.append("\n" if number % across == across - 1 else "   ")
    return body


def _status(feed: TopicFeed, followed: Followed, now: float) -> Text:
    """Return the state of a topic in words, with its rate, latency and age."""
    state: str = followed.state
    if state == State.STALE and feed.state is FeedState.RECONNECTING:
        state = FeedState.RECONNECTING
    is_live = followed.state is State.LIVE
    line = _text(state if is_live else state.upper(), UP if is_live else ALARM)
    age = None if followed.updated is None else now - followed.updated
    if is_live:
        line.append(f"  {followed.meter.rate(now):.1f}/s")
        latency = followed.meter.latency
        if latency is not None and abs(latency) < WRONG_CLOCK:
            line.append(f"  {latency:.0f} ms")
    if age is not None and (age > QUIET_AFTER or not is_live):
        line.append(f"  last message {age:.0f} s ago")
    if followed.dropped:
        line.append(f"  {followed.dropped} trades missed", ALARM)
    return line


def _text(words: str = "", style: str = "") -> Text:
    return Text(words, style, no_wrap=True, overflow="ellipsis")
