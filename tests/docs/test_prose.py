"""The words that the prose must avoid are found there, and nowhere else; the glossary is true."""

from __future__ import annotations

import pytest

from tests.docs.documents import name_of, tables
from tests.docs.prose import check, files
from tests.processes import ROOT

GLOSSARY = ROOT / "docs" / "glossary.md"


def found(path: str, text: str) -> list[tuple[int, str]]:
    return [(each.line, each.word) for each in check(path, text)]


def test_the_project_says_what_the_glossary_says() -> None:
    assert [str(each) for path in files() for each in check(path, (ROOT / path).read_text())] == []


def test_words_are_found_in_docstrings_comments_and_texts_of_python() -> None:
    text = '''"""Nobody knows.

Whoever asks."""
x = 1  # for ever
raise Fault("it is made anew here")
'''
    assert sorted(found("a.py", text)) == [
        (1, "Nobody"),
        (3, "Whoever"),
        (4, "for ever"),
        (5, "anew"),
    ]


def test_words_are_found_in_comments_and_texts_of_javascript() -> None:
    text = '/** Nobody. */\nconst a = "whoever that is";\nf(a); // for\n// ever, anew\n'
    assert found("a.js", text) == [(1, "Nobody"), (2, "whoever"), (4, "anew")]


def test_a_phrase_is_found_over_the_end_of_a_line() -> None:
    assert found("a.py", '"""It goes on for\n    ever."""\n') == [(1, "for\n    ever")]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.py", "nobody = {'whoever': anew}\n"),
        ("a.py", '"""Calls `nobody` and says "anew"."""\n'),
        ("a.py", '"""Where there is no topic."""\n'),
        ("a.js", 'nobody("anew", whoever);\n'),
        ("a.md", "`anew`\n\n```sh\nwhoever\n```\n\n    nobody\n"),
        ("a.md", "See [there](https://example.com/for/whoever)\n"),
    ],
)
def test_code_and_quoted_words_are_exempt(path: str, text: str) -> None:
    assert found(path, text) == []


def test_every_term_of_the_glossary_has_its_file() -> None:
    rows = [row for _, table in tables(GLOSSARY) for row in table[1:]]
    assert len(rows) > 50
    assert [row for row in rows if not (ROOT / row[2].strip("`")).is_file()] == []
    terms = [row[0] for row in rows]
    assert len(terms) == len(set(terms)), name_of(GLOSSARY)
