"""relay/downstream/close_codes.py, and the documents that list the codes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from relay.downstream.close_codes import (
    LIVE_PAGE_CODES,
    CloseCode,
    Retry,
    code_of_client,
    retry_policy,
)
from tests.processes import ROOT

ROW = re.compile(r"^\| (\d{4}(?:, \d{4})*) \| (.+) \|$", re.MULTILINE)


def documented() -> Iterator[tuple[int, str]]:
    """Yield each code in the first column of a table of the documents, with the last column."""
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for codes, words in ROW.findall(path.read_text()):
            for code in codes.split(", "):
                yield int(code), words


@pytest.mark.parametrize(
    ("code", "policy"),
    [
        (0, Retry.GROWING),
        (1000, Retry.GROWING),
        (1009, Retry.GROWING),
        (1011, Retry.GROWING),
        (3999, Retry.GROWING),
        (4000, Retry.NEVER),
        (4099, Retry.NEVER),
        (4100, Retry.BACK_OFF),
        (4199, Retry.BACK_OFF),
        (4200, Retry.AT_ONCE),
        (4299, Retry.AT_ONCE),
        (4300, Retry.GROWING),
    ],
)
def test_the_hundred_says_what_to_do(code: int, policy: Retry) -> None:
    assert retry_policy(code) is policy


def test_each_code_has_words_of_its_own() -> None:
    assert len({code.word for code in CloseCode}) == len(CloseCode)
    assert len({code.meaning for code in CloseCode}) == len(CloseCode)
    assert all(re.fullmatch("[a-z_]+", code.word) for code in CloseCode)
    assert all(str(code) == str(code.value) for code in CloseCode)  # as a metric's label


def test_the_table_for_clients_is_complete_and_names_the_policy() -> None:
    rows = dict(documented())
    assert set(rows) == set(CloseCode) - LIVE_PAGE_CODES
    for code, words in rows.items():
        assert words.endswith(f": {CloseCode(code).retry.value}"), code


def test_the_codes_of_the_live_page_are_documented() -> None:
    page = (ROOT / "docs" / "live-page.md").read_text()
    assert all(re.search(rf"\b{code}\b", page) for code in LIVE_PAGE_CODES)


@pytest.mark.parametrize(
    ("sent", "counted"), [(None, 1005), (1000, 1000), (1015, 1015), (1016, 0), (4100, 0), (-1, 0)]
)
def test_clients_cannot_make_up_codes(sent: int | None, counted: int) -> None:
    assert code_of_client(sent) == counted
