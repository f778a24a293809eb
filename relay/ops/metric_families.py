"""Families of metrics, as prometheus_client wants them, under the relay's prefix."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from relay.telemetry.counters import Counters, Histogram, UpstreamCounters, named_counters

PREFIX: Final = "marketfeed_"


def counted(
    owners: Sequence[tuple[list[str], Counters | UpstreamCounters]],
    labels: tuple[str, ...] = (),
    *,
    only: Collection[str] = (),
    without: Collection[str] = (),
    shown: Mapping[str, Iterable[Any]] = {},
) -> Iterator[Metric]:
    """Yield a family for each counter, named as `relay.telemetry.counters` says.

    Args:
        owners: What counted, each with its values of `labels`.
        only: The attributes that are shown; all where this is empty.
        without: The attributes that are not.
        shown: Values of a counter's own label that are shown before the first of a kind, so that
            the first is an increase.
    """
    for attribute, named in named_counters(owners[0][1]):
        if attribute in without or (only and attribute not in only):
            continue
        values = [(of, getattr(owner, attribute)) for of, owner in owners]
        if isinstance(values[0][1], Histogram):
            yield histograms(named.name, named.help, labels, values)
            continue
        if named.label:
            values = [
                ([*of, str(kind)], by[kind])
                for of, by in values
                for kind in sorted({*shown.get(attribute, ()), *list(by)})
            ]
        own = (named.label,) if named.label else ()
        family = CounterMetricFamily(PREFIX + named.name, named.help, labels=(*labels, *own))
        for of, value in values:
            family.add_metric(of, value)
        yield family


def count(name: str, words: str, value: float) -> Metric:
    """Return a count that only grows; `_total` is appended to its name."""
    return CounterMetricFamily(PREFIX + name, words, value=value)


def gauge(name: str, words: str, value: float) -> Metric:
    """Return a value that comes and goes."""
    return GaugeMetricFamily(PREFIX + name, words, value=value)


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
