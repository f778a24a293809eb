"""Families of metrics, as prometheus_client wants them, under the relay's prefix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from relay.telemetry.counters import Histogram

PREFIX: Final = "marketfeed_"


def count(name: str, words: str, value: float) -> Metric:
    """Return a count that only grows; `_total` is appended to its name."""
    return CounterMetricFamily(PREFIX + name, words, value=value)


def gauge(name: str, words: str, value: float) -> Metric:
    """Return a value that comes and goes."""
    return GaugeMetricFamily(PREFIX + name, words, value=value)


def counts(
    name: str, words: str, label: str, values: Iterable[tuple[object, float]]
) -> CounterMetricFamily:
    """Return a count for each value of a label."""
    family = CounterMetricFamily(PREFIX + name, words, labels=[label])
    for of, value in values:
        family.add_metric([str(of)], value)
    return family


def gauges(
    name: str, words: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    """Return a value for each combination of labels."""
    family = GaugeMetricFamily(PREFIX + name, words, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family


def histograms(
    name: str, words: str, labels: tuple[str, ...], values: Iterable[tuple[list[str], Histogram]]
) -> HistogramMetricFamily:
    """Return a histogram for each combination of labels."""
    family = HistogramMetricFamily(PREFIX + name, words, labels=labels)
    for of, histogram in values:
        total, buckets = 0, []
        for bound, number in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
            total += number
            buckets.append((str(bound), float(total)))
        family.add_metric(of, buckets, sum_value=histogram.total)
    return family
