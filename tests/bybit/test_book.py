"""relay/bybit/book.py: Bybit's rules, against twenty lines that know nothing of it."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.bybit.book import OrderBook
from relay.bybit.errors import BadFrame, SequenceGap
from tests.bybit.reference import Reference, Rows


@st.composite
def prices(draw: st.DrawFn) -> str:
    """Few values in many spellings: 9, 9.0, 9.00, 9.50, 10.5, 100."""
    whole = draw(st.sampled_from(["0", "9", "10", "99", "100"]))
    fraction = draw(st.sampled_from(["", "0", "00", "5", "50", "500", "05", "050", "0000001"]))
    return f"{whole}.{fraction}" if fraction else whole


SIZES = st.sampled_from(["0", "0", "0.0", "0.000", "1", "1.0", "0.001", "10", "100"])
ROWS = st.lists(st.tuples(prices(), SIZES), max_size=6)
MESSAGES = st.lists(
    st.tuples(st.sampled_from(["snapshot", "delta", "delta", "delta"]), ROWS, ROWS), max_size=12
)


@given(ROWS, ROWS, MESSAGES)
def test_after_any_messages_the_book_is_that_of_the_reference(
    bids: Rows, asks: Rows, messages: list[tuple[str, Rows, Rows]]
) -> None:
    book, reference = OrderBook(), Reference()
    for update_id, (kind, more_bids, more_asks) in enumerate(
        [("snapshot", bids, asks), *messages], start=1
    ):
        if kind == "snapshot":
            book.replace(more_bids, more_asks, update_id)
        else:
            book.amend(more_bids, more_asks, update_id)
        reference.apply(kind, more_bids, more_asks)
        assert book.is_crossed() is reference.is_crossed()
        assert book.levels(1_000) == reference.levels(1_000)
        assert book.levels(3) == reference.levels(3)
        assert book.update_id == update_id


def started(bids: Rows, asks: Rows) -> OrderBook:
    book = OrderBook()
    book.replace(bids, asks, 10)
    return book


def test_one_price_in_two_spellings_is_one_level_with_the_last_spelling() -> None:
    book = started([("80682", "1")], [("80683.0", "1")])
    book.amend([("80682.00", "4.80")], [("80683", "0")], 11)
    assert book.levels(50) == ([("80682.00", "4.80")], [])


def test_prices_that_are_one_float_are_two_levels() -> None:
    near, nearer = "0.12345678901234567891", "0.12345678901234567892"
    assert float(near) == float(nearer)
    book = started([(near, "1"), (nearer, "2")], [])
    assert book.levels(50) == ([(nearer, "2"), (near, "1")], [])


def test_whole_numbers_keep_their_zeros() -> None:
    book = started([("100", "1"), ("10", "2"), ("1", "3")], [])
    book.amend([("10.0", "0")], [], 11)
    assert book.levels(50) == ([("100", "1"), ("1", "3")], [])


def test_a_zero_with_a_minus_removes_the_level_at_zero() -> None:
    book = started([("0", "1")], [])
    book.amend([("-0", "0")], [], 11)
    assert book.levels(50) == ([], [])


def test_levels_that_are_gone_leave_nothing_behind() -> None:
    """A book of whole and broken prices that moves on for ever needs no more memory for it."""
    book = started([("10.0", "1"), ("9", "1")], [])
    tracemalloc.start()
    try:
        for number in range(11, 20_011):
            gone = (f"{number - 1}.0" if number % 2 else str(number - 1), "0")
            new = (f"{number}.0" if number % 2 == 0 else str(number), "1")
            book.amend([gone, new], [], number)
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert book.levels(50) == ([("20010.0", "1"), ("9", "1")], [])
    assert used < 100_000


def test_zero_is_one_level_whatever_its_sign() -> None:
    """Prices of spreads are near zero, on both sides of it."""
    book = started([("0.0", "1"), ("-0.1", "2")], [])
    book.amend([("-0.0", "0")], [], 11)
    assert book.levels(50) == ([("-0.1", "2")], [])
    book.amend([("-0.0", "3")], [("-0.05", "1"), ("0.2", "1"), ("-0.07", "1")], 12)
    assert book.is_crossed()
    assert book.levels(50) == (
        [("-0.0", "3"), ("-0.1", "2")],
        [("-0.07", "1"), ("-0.05", "1"), ("0.2", "1")],
    )


@pytest.mark.parametrize("received", [0, 9, 10, 12, 11_000])
def test_only_the_next_update_id_continues_a_book(received: int) -> None:
    book = started([("1", "1")], [])
    with pytest.raises(SequenceGap) as caught:
        book.amend([("1", "2")], [], received)
    assert (caught.value.expected, caught.value.received) == (11, received)
    assert str(caught.value) == f"expected u 11, received {received}"
    assert (book.levels(50), book.update_id) == (([("1", "1")], []), 10)


def test_a_book_whose_best_prices_touch_is_crossed() -> None:
    assert started([("10.0", "1")], [("10", "1")]).is_crossed()
    assert not started([("9.9", "1")], [("10", "1")]).is_crossed()


@pytest.mark.parametrize(("bids", "asks"), [([], []), ([("9", "1")], []), ([], [("9", "1")])])
def test_a_book_with_an_empty_side_is_not_crossed(bids: Rows, asks: Rows) -> None:
    assert not started(bids, asks).is_crossed()


def test_the_best_price_is_found_again_when_it_goes() -> None:
    book = started([("9", "1"), ("8", "1")], [("10", "1"), ("11", "1")])
    assert not book.is_crossed()
    book.amend([("9.0", "0")], [("8.5", "1")], 11)
    assert not book.is_crossed()
    book.amend([("8.50", "1")], [], 12)
    assert book.is_crossed()


@pytest.mark.parametrize(
    "price",
    [
        *("", "abc", "NaN", "-Infinity", "1,5", "0x10", "a" * 10_000, "1e5", "1.50e10", "1_0"),
        *(" 1", "1\n", "+1", "01", "1.", ".5", "-", "--1", "٣"),
    ],
)
def test_a_price_that_is_no_number_makes_no_book(price: str) -> None:
    with pytest.raises(BadFrame, match="expected a decimal price") as caught:
        started([(price, "1")], [("10", "1")]).is_crossed()
    assert len(str(caught.value)) < 150

    book = started([("9", "1")], [("10", "1")])
    assert not book.is_crossed()
    with pytest.raises(BadFrame):
        book.amend([(price, "1")], [], 11)
