"""What `/metrics` says, from the counts to the text that Prometheus reads."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families

from relay.bybit.errors import Code
from relay.ops.metric_families import histograms
from relay.telemetry.counters import Counters, Histogram
from relay.web import metrics as web

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
# What a label may be: each has a handful of values, whatever clients and symbols there are.
LABELS = {"category", "code", "door", "le", "outbound", "state", "worker"}


def samples() -> dict[str, float]:
    """Return everything of the relay's own, by name and labels as Prometheus writes them."""
    text = web.render("")[0].decode()
    lines = [line for line in text.splitlines() if line.startswith("marketfeed_")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_every_name_has_the_prefix_and_words_and_no_label_for_a_client_or_a_symbol() -> None:
    families = list(text_string_to_metric_families(web.render("")[0].decode()))
    ours = [family for family in families if not family.name.startswith(("process_", "python_"))]
    assert len(ours) > 10
    for family in ours:
        assert family.name.startswith("marketfeed_")
        assert family.documentation
        assert all(set(sample.labels) <= LABELS for sample in family.samples)


def test_the_counts_are_those_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = Counters()
    monkeypatch.setattr(web, "_counters", lambda: counters)
    counters.deliveries = 7
    counters.bytes_out = 700
    counters.refusals[Code.BAD_JSON] += 2
    counters.closes[4108] += 1
    counters.closes[1002] += 3
    found = samples()
    assert found["marketfeed_deliveries_total"] == 7
    assert found["marketfeed_sent_bytes_total"] == 700
    assert found['marketfeed_refusals_total{code="bad_json"}'] == 2
    assert found['marketfeed_refusals_total{code="rate_limited"}'] == 0
    assert found['marketfeed_closes_total{code="4108"}'] == 1
    assert found['marketfeed_closes_total{code="1002"}'] == 3
    assert found['marketfeed_closes_total{code="4200"}'] == 0


def test_the_buckets_of_a_histogram_add_up() -> None:
    histogram = Histogram((0.5, 1.0))
    for value in (0.1, 0.7, 0.8, 9.0):
        histogram.observe(value)
    family = histograms("x_seconds", "words", ("category",), [(["spot"], histogram)])
    found = [(s.name, s.labels.get("le", ""), s.value) for s in family.samples]
    assert found == [
        ("marketfeed_x_seconds_bucket", "0.5", 1),
        ("marketfeed_x_seconds_bucket", "1.0", 3),
        ("marketfeed_x_seconds_bucket", "+Inf", 4),
        ("marketfeed_x_seconds_count", "", 4),
        ("marketfeed_x_seconds_sum", "", pytest.approx(10.6)),
    ]
    assert all(sample.labels["category"] == "spot" for sample in family.samples)


def test_the_newer_format_is_there_for_who_asks() -> None:
    text, content_type = web.render(OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    names = {family.name for family in read_openmetrics(text.decode())}
    assert {"marketfeed_deliveries", "process_resident_memory_bytes"} <= names
