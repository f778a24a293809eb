"""The path of a request below the one at which the server is mounted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def below_root(scope: Mapping[str, Any]) -> str:
    """Return the path without `root_path` (Daphne's and uvicorn's `--root-path`).

    A proxy may cut the prefix off itself: then there is nothing to remove.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(f"{root}/")):
        return path[len(root) :] or "/"
    return path
