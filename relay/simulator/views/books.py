"""The order books: deltas of the deeper ones, and level 1, which is always a snapshot."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from relay.simulator.market import Moment, Side, SymbolMarket
from relay.simulator.topics import Category, Topic
from relay.simulator.views.base import FUTURES, View

REPUSH_AFTER = 3000  # ms: a quiet level 1 says its last state again


class _BookView(View):
    """What the book topics share: how a message and its levels are written."""

    def __init__(self, topic: Topic, market: SymbolMarket) -> None:
        super().__init__(topic, market)
        self._tick = market.instrument.tick

    def _levels(self, levels: Iterable[tuple[int, int]]) -> list[tuple[str, str]]:
        price, size, tick = self._price, self._size, self._tick
        return [(price(abs(key) * tick), size(amount) if amount else "0") for key, amount in levels]

    def _message(
        self,
        kind: str,
        bids: Iterable[tuple[int, int]],
        asks: Iterable[tuple[int, int]],
        update_id: int,
        moment: Moment,
        *,
        ts: int | None = None,
    ) -> bytes:
        """Write one message; `ts` differs from the moment's only on a re-push."""
        ts = moment.ts if ts is None else ts
        topic, category = self.topic.text, self.topic.category
        if category is Category.OPTION:
            head = f'"ts":{ts},"type":"{kind}","id":"{topic}-{moment.seq}-{ts}"'
        elif category is Category.SPOT or self.topic.depth == 1:
            head = f'"ts":{ts},"type":"{kind}"'
        else:
            head = f'"type":"{kind}","ts":{ts}'
        b = ",".join([f'["{price}","{size}"]' for price, size in self._levels(bids)])
        a = ",".join([f'["{price}","{size}"]' for price, size in self._levels(asks)])
        return (
            f'{{"topic":"{topic}",{head},"data":{{"s":"{self.topic.symbol}","b":[{b}],"a":[{a}],'
            f'"u":{update_id},"seq":{moment.seq}}},"cts":{moment.cts}}}'
        ).encode()


class _Window:
    """The levels of one side that the readers of a topic hold."""

    __slots__ = ("_depth", "_pending", "_side", "_worst", "held", "undo")

    def __init__(self, side: Side, depth: int) -> None:
        self._side = side
        self._depth = depth
        self._pending: set[int] = set()
        self.held = side.earlier(depth)
        self._worst = max(self.held)
        self.undo: dict[int, int] = {}

    def note(self) -> None:
        """Remember what the last step touched."""
        self._pending.update(self._side.before)

    def changes(self) -> list[tuple[int, int]]:
        """Return what the readers must be told, best first, and count it as told."""
        keys, sizes, held = self._side.keys, self._side.sizes, self.held
        old_worst, new_worst = self._worst, keys[min(self._depth, len(keys)) - 1]
        doubtful = self._pending
        if old_worst != new_worst:  # the window's edge moved over what lies between
            low, high = min(old_worst, new_worst), max(old_worst, new_worst)
            doubtful.update(keys[bisect_left(keys, low) : bisect_right(keys, high)])
            self._worst = new_worst
        self.undo = {}
        changed = []
        for key in doubtful:
            size = sizes.get(key, 0) if key <= new_worst else 0
            old = held.get(key, 0)
            if size != old:
                changed.append((key, size))
                self.undo[key] = old
                if size:
                    held[key] = size
                else:
                    del held[key]
        doubtful.clear()
        changed.sort()
        return changed

    def levels(self) -> list[tuple[int, int]]:
        """Return what the readers hold, best first."""
        return sorted(self.held.items())

    def earlier(self) -> list[tuple[int, int]]:
        """Return what they held before the last changes, best first."""
        return sorted((key, size) for key, size in (self.held | self.undo).items() if size)


class DepthView(_BookView):
    """A book topic deeper than level 1: a snapshot, then deltas with `u` rising by one."""

    def __init__(self, topic: Topic, market: SymbolMarket, every: int) -> None:
        super().__init__(topic, market)
        assert topic.depth is not None
        self._depth = topic.depth
        self._every = every
        self._bids = _Window(market.bids, topic.depth)
        self._asks = _Window(market.asks, topic.depth)
        self._moment = market.earlier
        self._before = market.earlier
        self._delta: bytes | None = None
        self.u = self._counted() - 1
        self._note()
        self._push()

    def _counted(self) -> int:
        return self.market.origins[self._depth] + self.market.steps // self._every

    def _note(self) -> None:
        self._bids.note()
        self._asks.note()

    def advance(self) -> bytes | None:
        self._note()
        return None if self.market.steps % self._every else self._push()

    def _push(self) -> bytes | None:
        bids, asks = self._bids.changes(), self._asks.changes()
        if not bids and not asks:  # it all cancelled out: Bybit sends no empty delta
            self.market.origins[self._depth] -= 1
            return None
        self.u += 1
        self._before, self._moment = self._moment, self.market.now
        self._delta = self._message("delta", bids, asks, self.u, self._moment)
        return self._delta

    def snapshot(self, kind: str = "snapshot") -> bytes:
        """Return the whole book as the readers hold it."""
        levels = self._bids.levels(), self._asks.levels()
        return self._message(kind, *levels, self.u, self._moment)

    def greeting(self) -> list[bytes]:
        """Return a snapshot; on linear and inverse an older one and the delta since."""
        if self._delta is None or self.topic.category not in FUTURES:
            return [self.snapshot()]
        levels = self._bids.earlier(), self._asks.earlier()
        old = self._message("snapshot", *levels, self.u - 1, self._before)
        return [old, self._delta]

    def restart(self, kind: str = "snapshot") -> bytes:
        """Begin again at `u` = 1 with the whole book."""
        self.market.origins[self._depth] = 1 - self.market.steps // self._every
        self.u = 1
        self._delta = None
        return self.snapshot(kind)

    def crossed(self) -> bytes:
        """Return a delta that puts a bid above all asks; the true book stays as it is.

        Just above the best ask the market would soon rise over it, and no reader could tell any
        more that the bid is none of the book's.
        """
        self.market.origins[self._depth] += 1
        self.u += 1
        self._delta = None
        key = -max(self._asks.held) - 1
        bid = (key, self.market.instrument.size)
        return self._message("delta", [bid], [], self.u, self._moment)

    def state(self) -> dict[str, object]:
        return {
            "b": self._levels(self._bids.levels()),
            "a": self._levels(self._asks.levels()),
            "u": self.u,
            "seq": self._moment.seq,
        }


class LevelOneView(_BookView):
    """The best bid and ask: always snapshots, said again after three quiet seconds."""

    def __init__(self, topic: Topic, market: SymbolMarket) -> None:
        super().__init__(topic, market)
        self._pushed = market.best_changed.ts
        self._u = market.best_u

    def _best(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        bids, asks = self.market.bids, self.market.asks
        bid, ask = bids.keys[0], asks.keys[0]
        return [(bid, bids.sizes[bid])], [(ask, asks.sizes[ask])]

    def _write(self, moment: Moment, ts: int | None = None) -> bytes:
        return self._message("snapshot", *self._best(), self.market.best_u, moment, ts=ts)

    def advance(self) -> bytes | None:
        if self.market.best_u == self._u:
            return None
        self._u = self.market.best_u
        self._pushed = self.market.now.ts
        return self._write(self.market.now)

    def greeting(self) -> list[bytes]:
        """Return the last push as it was, however old."""
        return [self._write(self.market.best_changed)]

    def repush(self, now_ms: int) -> bytes | None:
        """Return the same state with the same `u` if it has been quiet for long enough."""
        if now_ms - self._pushed < REPUSH_AFTER:
            return None
        self._pushed = now_ms
        return self._write(self.market.now, now_ms)

    def restart(self) -> bytes:
        self.market.best_u = self._u = 1
        return self._write(self.market.now)

    def state(self) -> dict[str, object]:
        bids, asks = self._best()
        return {
            "b": self._levels(bids),
            "a": self._levels(asks),
            "u": self.market.best_u,
            "seq": self.market.best_changed.seq,
        }
