"""How Sphinx builds the documents as a site: `make docs`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

HERE = Path(__file__).parent

project = "marketfeed"
author = "the authors of marketfeed"
project_copyright = f"%Y, {author}"
_source = (HERE.parent / "marketfeed" / "__init__.py").read_text()
release = re.search(r'(?m)^__version__ = "(.+)"$', _source)[1]

extensions = ["myst_parser"]
myst_heading_anchors = 3
exclude_patterns = [".build"]
nitpicky = True
html_theme = "furo"
html_title = f"marketfeed {release}"
html_show_sphinx = False


def adapt(app: Sphinx, document: str, source: list[str]) -> None:
    """Make Markdown for readers of the repository into what Sphinx understands.

    The pages that list others get a table of contents in the same order. Markdown outside this
    folder is not on the site, so links to it become text; other files become downloads.
    """
    text = re.sub(r"\[([^]]*)\]\(\.\./[^)]*\.md(#[^)]*)?\)", r"\1", source[0])
    if document == "index":
        listed = re.findall(r"\]\(([a-z-]+)\.md\)", text)
        forgotten = {path.stem for path in HERE.glob("*.md")} - {"index", *listed}
        text += contents(*listed, *sorted(forgotten))
    elif document == "decisions":
        text += contents("decisions/*")
    source[0] = text


def contents(*pages: str) -> str:
    """Return a table of contents for the sidebar alone."""
    return "\n```{toctree}\n:hidden:\n:glob:\n\n" + "\n".join(pages) + "\n```\n"


def copy_pictures(app: Sphinx, exception: Exception | None) -> None:
    """Copy the screenshots, which raw HTML names and Sphinx does not see."""
    if exception is None:
        shutil.copytree(HERE / "screenshots", app.outdir / "screenshots", dirs_exist_ok=True)


def setup(app: Sphinx) -> None:
    """Connect the functions above to Sphinx's events."""
    app.add_lexer("conf", TextLexer)
    app.connect("source-read", adapt)
    app.connect("build-finished", copy_pictures)
