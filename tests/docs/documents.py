"""The documents as data: their fenced blocks, tables and links.

A block is found by the file, the heading above it and, from the second below a heading on, its
number: `docs/servers.md: One process 2`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.processes import ROOT

PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
_PARSER = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True, slots=True)
class Block:
    """One block of code."""

    name: str
    language: str
    """Empty for a block that is indented instead of fenced, or that does not say."""
    text: str

    def __str__(self) -> str:
        return self.name


def name_of(page: Path) -> str:
    """Return a page's path as the documents write it."""
    return str(page.relative_to(ROOT))


def blocks(*languages: str) -> dict[str, Block]:
    """Return the blocks of all pages by name, or those of some languages."""
    found = (block for page in PAGES for block in _blocks(page))
    return {b.name: b for b in found if not languages or b.language in languages}


def table(page: Path, heading: str) -> list[list[str]]:
    """Return the rows of the first table below a heading, without its head."""
    return next(rows for name, rows in tables(page) if name == heading)[1:]


def tables(page: Path) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield every table of a page, each with the heading above it; cells are Markdown."""
    heading, rows = "", list[list[str]]()
    tokens = _tokens(page)
    for before, token in pairwise(tokens):
        if before.type == "heading_open":
            heading = token.content
        elif before.type == "table_open":
            rows = []
        elif before.type == "tr_open":
            rows.append([])
        elif before.type in ("td_open", "th_open"):
            rows[-1].append(token.content)
        elif token.type == "table_close":
            yield heading, rows


def links(page: Path) -> list[str]:
    """Return where a page's links and pictures lead."""
    inner = [child for token in _tokens(page) for child in token.children or ()]
    found = [token.attrGet("href") or token.attrGet("src") for token in inner]
    return [str(link) for link in found if link]


def headings(page: Path) -> list[str]:
    """Return a page's headings."""
    tokens = _tokens(page)
    return [token.content for before, token in pairwise(tokens) if before.type == "heading_open"]


def _blocks(page: Path) -> Iterator[Block]:
    heading, number = "", 0
    tokens = _tokens(page)
    for before, token in zip([None, *tokens], tokens, strict=False):
        if before is not None and before.type == "heading_open":
            heading, number = token.content, 0
        elif token.type in ("fence", "code_block"):
            number += 1
            name = f"{name_of(page)}: {heading}" + (f" {number}" if number > 1 else "")
            yield Block(name, token.info.strip(), token.content)


@cache
def _tokens(page: Path) -> list[Token]:
    return _PARSER.parse(page.read_text())
