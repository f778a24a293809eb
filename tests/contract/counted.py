"""Run a server as usual, but without the garbage collector, and count its objects on SIGUSR1.

    python counted.py FILE daphne ARGUMENT...
    python counted.py FILE uvicorn ARGUMENT...

Each signal writes to FILE how many objects of each type are alive, as JSON.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType


def count(number: int, frame: FrameType | None) -> None:
    counts: Counter[str] = Counter()
    for found in gc.get_objects():
        kind = type(found)
        counts[f"{kind.__module__}.{kind.__qualname__}"] += 1
    whole = target.with_suffix(".new")
    whole.write_text(json.dumps(counts))
    whole.rename(target)


def never(*thresholds: int) -> None:
    """Stand in for `gc.set_threshold` and `gc.collect`, which the relay may call."""


target = Path(sys.argv[1])
sys.argv = sys.argv[2:]
gc.disable()
gc.enable = never
gc.collect = never  # type: ignore[assignment]
gc.freeze = never  # frozen objects would not be counted
signal.signal(signal.SIGUSR1, count)
sys.path.insert(0, os.getcwd())
runpy.run_module({"daphne": "daphne", "uvicorn": "uvicorn"}[sys.argv[0]], run_name="__main__")
