"""Holds the project's prose to its glossary: `python -m tests.docs.prose`, part of `make check`.

Prose is what people read: docstrings, comments, texts of more than two words in Python and
JavaScript, and Markdown outside of code. Names in code are exempt, and so is what stands in
backticks. `docs/glossary.md` says which words to use; `AVOIDED` says which words not to.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.processes import ROOT

AVOIDED = {
    "whoever|whomever": "name the actor: the client, the hub, the worker, the operator",
    "nobody|somebody|anybody|everybody": "name the actor: no client, an operator, every reader",
    "for ever": "until cancelled; without end",
    "anew": "again",
    "the own": "its own, our own",
    r"(?<!there\s)(?:is|are|was|were) no (?:topic|json|fault|choice|answer)": "is not a",
    "short dialect": "native dialect",
    "ledgers?": "subscriptions",
    "suppl(?:y|ies)": "the category's upstream",
    "wish(?:es|ed)?": "request",
    "newcomers?": "new client",
    "live pictures?": "overview",
    "holes?": "gap",
    "in vain": "without success",
    "hears?|heard": "receive, know",
}
"""Regular expressions, each with what to write instead."""

# What others wrote, and data.
EXEMPT = ("relay/static/relay/vendor/", "tests/")
_PATTERN = re.compile(
    "|".join(rf"\b({word})\b".replace(" ", r"\s+") for word in AVOIDED), re.IGNORECASE
)
_INSTEAD = tuple(AVOIDED.values())
_QUOTED = re.compile(r"``?[^`]+``?|\"[^\"\n]*\"|https?://\S+")
_JS = re.compile(
    r"(?P<comment>/\*.*?\*/|(?<![:\"'`])//[^\n]*)|(?P<text>\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A word to avoid, and where it stands."""

    path: str
    line: int
    word: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.word!r}: {self.instead}"


def check(path: str, text: str) -> Iterator[Finding]:
    """Yield the words to avoid in the prose of a file."""
    prose = {".py": _python, ".js": _javascript, ".mjs": _javascript, ".md": _markdown}
    for line, part in prose[Path(path).suffix](text):
        without_code = _QUOTED.sub(lambda quoted: " " * len(quoted[0]), part)
        for found in _PATTERN.finditer(without_code):
            at = line + without_code.count("\n", 0, found.start())
            assert found.lastindex is not None
            yield Finding(path, at, found[0], _INSTEAD[found.lastindex - 1])


def _python(text: str) -> Iterator[tuple[int, str]]:
    """Yield each comment, docstring and text of a module, with its line."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _is_prose(node.value):
            yield node.lineno, node.value


def _javascript(text: str) -> Iterator[tuple[int, str]]:
    for found in _JS.finditer(text):
        if found["comment"] or _is_prose(found["text"]):
            yield text.count("\n", 0, found.start()) + 1, found[0].strip("\"'")


def _markdown(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines outside of code."""
    is_code = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            is_code = not is_code
        elif not is_code and not line.startswith("    "):
            yield number, line


def _is_prose(text: str) -> bool:
    return text.count(" ") > 1


def files() -> list[str]:
    """Return the files of the repository that have prose."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "*.py", "*.js", "*.mjs", "*.md"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [path for path in listed.stdout.split("\0") if path and not path.startswith(EXEMPT)]


def main() -> int:
    """Print what is found; return the exit status."""
    found = [each for path in files() for each in check(path, (ROOT / path).read_text())]
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
