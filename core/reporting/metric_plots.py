"""Plot the metrics of services over time, with their learnt band and their limit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import fmean

from models.environment_view import MetricPlot, MetricRecords
from models.metrics import Baseline, Metric
from models.pages import Plot, PlotLine

PLOTTED = {
    "cpu_usage": ("processor", "% of one"),
    "memory_usage": ("memory", "% of its limit"),
    "response_time": ("response time", "ms"),
}
"""The metrics that have a plot, each with its name and its unit."""

_POINTS = 120
_SHOWN_UP_TO = 4
"""A limit so many times above every value would flatten the line; it is said in words then."""


def metric_plots(records: MetricRecords) -> tuple[MetricPlot, ...]:
    """A plot of each metric that has a value, by service and in the order of `PLOTTED`."""
    by_series: dict[tuple[str, str], list[Metric]] = defaultdict(list)
    for sample in records.samples:
        by_series[sample.service, sample.name].append(sample)
    baselines = {(baseline.service, baseline.metric): baseline for baseline in records.baselines}
    services = sorted({service for service, _ in by_series})
    return tuple(
        _plot(series, by_series[series], records, baselines.get(series))
        for series in ((service, metric) for service in services for metric in PLOTTED)
        if by_series.get(series)
    )


def _plot(
    series: tuple[str, str], samples: Sequence[Metric], records: MetricRecords, baseline: Baseline | None
) -> MetricPlot:
    service, metric = series
    name, unit = PLOTTED[metric]
    moments = _moments(records.since, records.until)
    values = _means(samples, moments)
    limit, band = records.limits.get(series), _band(baseline)
    highest = max(value for value in (*values, *(band or ())) if value is not None)
    is_drawn = limit is not None and limit <= _SHOWN_UP_TO * highest
    stamp = "%H:%M" if records.until - records.since <= timedelta(days=1) else "%d %b %H:%M"
    return MetricPlot(
        service=service,
        metric=metric,
        plot=Plot(
            title=f"{service}: {name}",
            unit=unit,
            labels=tuple(f"{moment:{stamp}}" for moment in moments[:-1]),
            lines=(PlotLine(name=name, values=values),),
            limit=limit if is_drawn else None,
            band=band,
        ),
        note=_note(band, limit, is_drawn=is_drawn),
    )


def _note(band: tuple[float, float] | None, limit: float | None, *, is_drawn: bool) -> str:
    parts = []
    if band is not None:
        parts.append("Shaded: from the learnt usual value to where it warns.")
    if limit is not None:
        parts.append(f"Limit {limit:g}{', dotted' if is_drawn else ', far above'}.")
    return " ".join(parts)


def _band(baseline: Baseline | None) -> tuple[float, float] | None:
    if baseline is None or baseline.warning is None or baseline.warning <= baseline.value:
        return None
    return (baseline.value, baseline.warning)


def _moments(since: datetime, until: datetime) -> list[datetime]:
    """The ends of equal parts of the time, the first and the last moment included."""
    part = (until - since) / _POINTS
    return [since + place * part for place in range(_POINTS + 1)]


def _means(samples: Sequence[Metric], moments: Sequence[datetime]) -> tuple[float | None, ...]:
    """The mean of each part of the time, None where nothing was measured in it."""
    part, since = moments[1] - moments[0], moments[0]
    parts: dict[int, list[float]] = defaultdict(list)
    for sample in samples:
        parts[min(int((sample.sampled_at - since) / part), _POINTS - 1)].append(sample.value)
    means = [fmean(parts[place]) if parts.get(place) else None for place in range(len(moments) - 1)]
    return _bridge(means)


def _bridge(values: list[float | None]) -> tuple[float | None, ...]:
    """Where measurements are rarer than parts, parts between two of them have the mean of both.

    A gap of more than three times what is usual stays a gap: then nothing was measured.
    """
    places = [place for place, value in enumerate(values) if value is not None]
    gaps = sorted(after - before for before, after in pairwise(places))
    usual = gaps[len(gaps) // 2] if gaps else 1
    for before, after in pairwise(places):
        if 1 < after - before <= 3 * usual:
            first, last = values[before] or 0.0, values[after] or 0.0
            for place in range(before + 1, after):
                values[place] = first + (last - first) * (place - before) / (after - before)
    return tuple(values)
