"""Metric families as Prometheus wants them, made in one line each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from adapters.prometheus.counters import DURATIONS_SECONDS, Count

Labels = tuple[str, ...]


def gauge(name: str, about: str, *labels: str) -> GaugeMetricFamily:
    """A family of values that go up and down."""
    return GaugeMetricFamily(name, about, labels=labels)


def counter(name: str, about: str, *labels: str) -> CounterMetricFamily:
    """A family of values that only grow; `_total` is put behind its name."""
    return CounterMetricFamily(name, about, labels=labels)


def one_value(name: str, about: str, value: float) -> Metric:
    """A gauge without labels."""
    return GaugeMetricFamily(name, about, value=value)


def one_total(name: str, about: str, value: float) -> Metric:
    """A counter without labels."""
    return CounterMetricFamily(name, about, value=value)


def filled(
    name: str, about: str, labels: Sequence[str], counts: Mapping[Labels, int], *words: Iterable[str]
) -> GaugeMetricFamily:
    """How many there are of each combination of words, at 0 where there is none: what vanishes looks like a gap."""
    family = gauge(name, about, *labels)
    for combined in product(*words):
        family.add_metric(combined, counts.get(combined, 0))
    return family


def durations(
    name: str, about: str, labels: Sequence[str], counts: Mapping[Labels, Count], kinds: Iterable[Labels]
) -> HistogramMetricFamily:
    """How long things of each kind took; kinds that have not been yet are there from 0 on."""
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
