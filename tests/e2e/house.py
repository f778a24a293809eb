"""Several processes of one relay over a real Redis."""

from __future__ import annotations

from dataclasses import dataclass

from tests.processes import Program, WebServer


@dataclass
class House:
    """One upstream worker and two web processes."""

    worker: Program
    webs: list[WebServer]
