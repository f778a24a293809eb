"""Reads a relay's metrics as Prometheus does."""

from __future__ import annotations

import asyncio
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tests.processes import PATIENCE

Labels = frozenset[tuple[str, str]]
Samples = dict[tuple[str, Labels], float]


async def scrape(host: str) -> Samples:
    """Ask as Prometheus does, by address."""

    def ask() -> str:
        with urllib.request.urlopen(f"http://{host}/metrics", timeout=PATIENCE) as response:
            assert response.headers["Content-Type"].startswith("text/plain")
            return str(response.read(), "utf-8")

    text = await asyncio.to_thread(ask)
    families = text_string_to_metric_families(text)
    samples = [sample for family in families for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples), "a series is there twice"
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"marketfeed_{name}", frozenset(labels.items())]
