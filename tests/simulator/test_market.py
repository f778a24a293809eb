"""The seeded market: it repeats itself, stays uncrossed, deep enough and near its start."""

from __future__ import annotations

import pytest

from relay.simulator.instruments import catalogue, padded, stripped
from relay.simulator.market import SymbolMarket
from relay.simulator.topics import Category

START = 1_700_000_000_000
EVERY_CATEGORY = pytest.mark.parametrize("category", Category)


def market(category: Category, seed: int = 1, symbol: str | None = None) -> SymbolMarket:
    instruments = catalogue(category, 40)
    return SymbolMarket(instruments[symbol or next(iter(instruments))], seed, START)


def history(one: SymbolMarket, steps: int) -> list[object]:
    seen: list[object] = []
    for n in range(steps):
        one.step(START + 100 * n)
        seen.append((one.now, one.best_u, list(one.trades), dict(one.bids.sizes)))
    return seen


@EVERY_CATEGORY
def test_the_same_seed_gives_the_same_market(category: Category) -> None:
    assert history(market(category), 200) == history(market(category), 200)


def test_another_seed_gives_another_market() -> None:
    linear = Category.LINEAR
    assert history(market(linear, seed=1), 5) != history(market(linear, seed=2), 5)


def test_symbols_and_categories_move_apart() -> None:
    sizes = {
        tuple(market(category, symbol=symbol).bids.sizes.values())
        for category, symbol in [
            (Category.SPOT, "SIM0001USDT"),
            (Category.LINEAR, "SIM0001USDT"),
            (Category.LINEAR, "SIM0002USDT"),
        ]
    }
    assert len(sizes) == 3


@EVERY_CATEGORY
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_book_is_never_crossed_and_always_deep(category: Category, seed: int) -> None:
    one = market(category, seed)
    for n in range(3000):
        one.step(START + n)
        for side in (one.bids, one.asks):
            assert one.instrument.levels <= len(side.keys) == len(side.sizes)
        assert -one.bids.keys[0] < one.asks.keys[0]
    for side in (one.bids, one.asks):
        assert side.keys == sorted(side.sizes)
        assert min(side.sizes.values()) > 0
    assert -one.bids.keys[-1] > 0, "a price below zero"
    assert abs(one.asks.keys[0] / one.instrument.price - 1) < 0.05


@EVERY_CATEGORY
def test_a_taker_eats_the_best_levels_of_the_book_before_it(category: Category) -> None:
    one = market(category)
    swept = 0
    for n in range(500):
        best = {1: list(one.asks.keys[:8]), -1: list(one.bids.keys[:8])}
        there = {1: dict(one.asks.sizes), -1: dict(one.bids.sizes)}
        one.step(START + n)
        signs = [1 if trade.buys else -1 for trade in one.trades]
        assert len(set(signs)) <= 1
        for rank, (sign, trade) in enumerate(zip(signs, one.trades, strict=True)):
            key = best[sign][rank]
            assert trade.price == sign * key * one.instrument.tick
            assert 0 < trade.size <= there[sign][key]
            assert trade.size == there[sign][key] or rank == len(signs) - 1
            assert key in (one.asks if trade.buys else one.bids).before
        swept += len(signs) > 1
    assert swept > 20


def test_the_earlier_side_is_the_side_before_the_step() -> None:
    one = market(Category.LINEAR)
    for n in range(300):
        before = {key: one.bids.sizes[key] for key in one.bids.keys[:50]}
        one.step(START + n)
        assert one.bids.earlier(50) == before


def test_time_and_sequence_never_go_back() -> None:
    one = market(Category.SPOT)
    for n in range(500):
        one.step(START + n)
        assert one.now.seq > one.earlier.seq
        assert one.earlier.cts <= one.now.cts <= one.now.ts


@EVERY_CATEGORY
def test_any_number_of_symbols_can_be_listed(category: Category) -> None:
    assert len(catalogue(category, 2)) == 2
    listed = catalogue(category, 700)
    assert len(listed) == 700
    assert set(catalogue(category)) <= set(listed)


def test_numbers_are_written_padded_or_stripped() -> None:
    assert [padded(2)(480), padded(2)(5), padded(0)(480)] == ["4.80", "0.05", "480"]
    assert [stripped(2)(480), stripped(2)(100), stripped(0)(480)] == ["4.8", "1", "480"]
