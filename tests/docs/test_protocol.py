"""docs/protocol.md names every code of a refusal, and what a request may hold."""

from __future__ import annotations

import re

import pytest

from relay.bybit.errors import Code
from relay.bybit.topics import FEEDS, Category, FeedSpec
from relay.downstream.native_dialect import Method
from tests.docs.documents import table
from tests.processes import ROOT

PAGE = ROOT / "docs" / "protocol.md"
KEYS = {key.strip("`"): values for key, values in table(PAGE, "Requests")}
RETIRED = {"500"}  # named in words beside the others


def quoted(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def test_each_code_of_a_refusal_has_a_reason() -> None:
    rows = table(PAGE, "Refusals")
    assert {code for codes, _ in rows for code in quoted(codes)} == set(Code)
    assert all(reason for _, reason in rows)


def test_the_table_of_requests_has_each_method_category_and_feed() -> None:
    assert quoted(KEYS["method"]) == set(Method)
    assert quoted(KEYS["category"]) == set(Category)
    assert set(FEEDS) <= quoted(KEYS["topic"])


@pytest.mark.parametrize(
    "feed", [feed for feed in FEEDS.values() if feed.key], ids=lambda feed: feed.name
)
def test_the_table_of_requests_has_each_parameter(feed: FeedSpec) -> None:
    words = set(re.findall(r"\w+", KEYS[feed.key]))
    for parameters in feed.parameters.values():
        assert set(parameters) - RETIRED <= words
    assert set(feed.defaults.values()) <= words
