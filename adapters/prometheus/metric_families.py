"""Constructors of Prometheus metric families."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from adapters.prometheus.counters import DURATIONS_SECONDS, Count

Labels = tuple[str, ...]
Samples = Iterable[tuple[Sequence[str], float]]
"""Label values, in the order of a family's labels, with a value."""


def gauge(name: str, about: str, *labels: str, samples: Samples = ()) -> GaugeMetricFamily:
    """A gauge family with its samples."""
    family = GaugeMetricFamily(name, about, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def counter(name: str, about: str, *labels: str, samples: Samples = ()) -> CounterMetricFamily:
    """A counter family with its samples; Prometheus's client appends `_total` to its name."""
    family = CounterMetricFamily(name, about, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def one_value(name: str, about: str, value: float) -> Metric:
    """A gauge without labels."""
    return GaugeMetricFamily(name, about, value=value)


def filled(
    name: str, about: str, labels: Sequence[str], counts: Mapping[Any, int], *values: Iterable[str]
) -> GaugeMetricFamily:
    """A gauge of counts for every combination of label values, with 0 for those without a count."""
    return gauge(name, about, *labels, samples=((kind, counts.get(kind, 0)) for kind in product(*values)))


def durations(
    name: str, about: str, labels: Sequence[str], counts: Mapping[Labels, Count], kinds: Iterable[Labels]
) -> HistogramMetricFamily:
    """A histogram of durations for each kind, with 0 for kinds without a count."""
    family = HistogramMetricFamily(name, about, labels=labels)
    for kind in kinds:
        count = counts.get(kind) or Count()
        family.add_metric(kind, _buckets(count.by_duration), count.seconds)
    return family


def _buckets(by_duration: Sequence[int]) -> list[tuple[str, float]]:
    buckets, within = [], 0
    for end, number in zip((*DURATIONS_SECONDS, float("inf")), by_duration, strict=True):
        within += number
        buckets.append(("+Inf" if end == float("inf") else str(end), float(within)))
    return buckets
