"""Constructors of Prometheus metric families."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from adapters.prometheus.counters import DURATIONS_SECONDS, Count

Labels = tuple[str, ...]


def gauge(name: str, about: str, *labels: str) -> GaugeMetricFamily:
    """A gauge family."""
    return GaugeMetricFamily(name, about, labels=labels)


def counter(name: str, about: str, *labels: str) -> CounterMetricFamily:
    """A counter family; Prometheus's client appends `_total` to its name."""
    return CounterMetricFamily(name, about, labels=labels)


def one_value(name: str, about: str, value: float) -> Metric:
    """A gauge without labels."""
    return GaugeMetricFamily(name, about, value=value)


def one_total(name: str, about: str, value: float) -> Metric:
    """A counter without labels."""
    return CounterMetricFamily(name, about, value=value)


def filled(
    name: str, about: str, labels: Sequence[str], counts: Mapping[Labels, int], *values: Iterable[str]
) -> GaugeMetricFamily:
    """A gauge of counts for every combination of label values, with 0 for those without a count."""
    family = gauge(name, about, *labels)
    for combined in product(*values):
        family.add_metric(combined, counts.get(combined, 0))
    return family


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
