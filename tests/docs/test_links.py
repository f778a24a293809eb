"""Links of the documents lead somewhere, and every document is found from the index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.documents import PAGES, headings, links, name_of
from tests.processes import ROOT

DOCS = ROOT / "docs"
EVERY_PAGE = (*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "benchmarks" / "README.md")


def anchor(heading: str) -> str:
    """Return the anchor that GitHub, and MyST, make of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def local(page: Path) -> list[tuple[Path, str]]:
    """Return the files that a page links to, each with an anchor or nothing."""
    parts = [link.partition("#") for link in links(page) if "://" not in link]
    return [
        ((page.parent / path).resolve() if path else page, fragment) for path, _, fragment in parts
    ]


@pytest.mark.parametrize("page", EVERY_PAGE, ids=name_of)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for target, fragment in local(page):
        assert target.exists(), f"{name_of(page)}: {target}"
        if fragment:
            assert fragment in map(anchor, headings(target)), f"{target}#{fragment}"


@pytest.mark.parametrize("page", EVERY_PAGE, ids=name_of)
def test_pictures_in_html_exist(page: Path) -> None:
    for source in re.findall(r'(?:src|srcset)="([^"]+)"', page.read_text()):
        assert (page.parent / source).exists(), source


def test_every_document_is_found_from_the_index() -> None:
    found: set[Path] = set()
    to_read = [DOCS / "index.md"]
    while to_read:
        page = to_read.pop()
        if page not in found and DOCS in page.parents and page.suffix == ".md":
            found.add(page)
            to_read += [target for target, _ in local(page)]
    assert found == {page for page in PAGES if DOCS in page.parents}


def test_the_readme_leads_to_the_index() -> None:
    assert DOCS / "index.md" in [target for target, _ in local(ROOT / "README.md")]
