"""The documents build as a site without a warning, and the site has what they show."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import PATIENCE, ROOT

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    if importlib.util.find_spec("sphinx") is None:
        reason = "Sphinx is not installed (make docs does), so the site is not tested"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("site")
    options = ("--fail-on-warning", "--keep-going", "--quiet", "-d", str(folder / "doctrees"))
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, "-b", "html", str(DOCS), str(folder / "html")],
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert (built.returncode, built.stderr) == (0, "")
    return folder / "html"


def test_each_document_is_a_page_of_the_contents(site: Path) -> None:
    contents = (site / "index.html").read_text()
    for document in DOCS.glob("*.md"):
        assert f'href="{document.stem}.html"' in contents or document.stem == "index"
    for decision in (DOCS / "decisions").glob("*.md"):
        assert (site / "decisions" / f"{decision.stem}.html").exists()


def test_each_picture_and_file_that_a_page_names_is_there(site: Path) -> None:
    for page in site.rglob("*.html"):
        named = re.findall(r'(?:src|srcset|href)="([^":#?]+)[^":]*"', page.read_text())
        missing = [name for name in named if not (page.parent / name).exists()]
        assert missing == [], page.name
