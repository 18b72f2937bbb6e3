"""Decide during a canary whether a new release is worse than usual: its memory, its answers, its errors, its health."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from core.common.dependencies import dependants_of
from models.compose import Application
from models.environments import Limits
from models.hooks import CanarySample, UsualErrors
from models.metrics import Baseline, Dependency

MEMORY, ANSWERS = "memory_usage", "response_time"
"""The metrics of a collection whose learnt baselines are the bounds of a canary: percent, and milliseconds."""

IN_A_ROW = 3
"""So many observations in a row outside of a bound end a canary; one alone may be chance."""

UNHEALTHY_IN_A_ROW = 2
_SMALLEST_CHANGE = {MEMORY: 2.0, ANSWERS: 50.0}
"""How far above the usual a value must be, in its unit: as for the alerts of collections."""

_LEAST_ERRORS = 5
_CHANCE = 0.01
_UNITS = {MEMORY: "%", ANSWERS: "ms"}
_WORDS = {MEMORY: "memory", ANSWERS: "answers"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a canary holds a service against: what was learnt of it, its limits, and its errors before the update.

    `usual` has baselines by metric; one without thresholds is not learnt yet. `errors` is None where the log before the
    update could not be read.
    """

    usual: Mapping[str, Baseline]
    limits: Limits = field(default_factory=Limits)
    errors: UsualErrors | None = None

    def most(self, metric: str) -> tuple[float | None, str]:
        """The highest good value of a metric, and what it comes from; None where nothing bounds it."""
        baseline = self.usual.get(metric)
        limit = self.limits.memory_percent if metric == MEMORY else self.limits.response_time_ms
        learnt = None
        if baseline is not None and baseline.warning is not None:
            learnt = max(baseline.warning, baseline.value + _SMALLEST_CHANGE[metric])
        if learnt is not None and (limit is None or learnt <= limit):
            return learnt, f"at most {_figure(metric, learnt)} by what was learnt of it"
        return limit, "" if limit is None else f"its limit is {_figure(metric, limit)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryVerdict:
    """How a canary stands. `passed` is None while it goes on. `service` is the one that is worse than usual.

    `why` says in one sentence what is worse, or what was found. `figures` are the figures by service.
    """

    passed: bool | None
    why: str
    service: str | None
    figures: dict[str, dict[str, Any]]


def observed_services(
    application: Application, dependencies: Sequence[Dependency], changed: Collection[str]
) -> tuple[str, ...]:
    """Return the services that a canary observes: those that the update changed, and all that need them."""
    names = {*changed, *dependants_of(changed, dependencies)} & application.services.keys()
    return tuple(sorted(name for name in names if not application.services[name].one_shot))


def judge_canary(
    samples: Sequence[CanarySample], bounds: Mapping[str, Bounds], *, words: str, over: bool
) -> CanaryVerdict:
    """Judge a canary by its observations so far, in order of time; `over`: there will be no more.

    `words` say how long it lasts. It ends early where a service was restarted, where an error of it was recorded, where
    its log matches an error pattern that it did not match before, where it is unhealthy twice in a row, where memory or
    answers are outside of their bounds three times in a row, or where its log tells of failures more often than before
    beyond chance. At its end a value that was outside in more than half of the observations counts as well.
    """
    by_service = {name: [sample for sample in samples if sample.service == name] for name in bounds}
    figures = {name: _figures(service_samples, bounds[name]) for name, service_samples in by_service.items()}
    for name, service_samples in by_service.items():
        if (worse := _worse(name, service_samples, bounds[name], over=over)) is not None:
            return CanaryVerdict(passed=False, why=worse, service=name, figures=figures)
    if not over:
        return CanaryVerdict(passed=None, why=_summary(by_service, bounds), service=None, figures=figures)
    blind = sorted(name for name, service_samples in by_service.items() if not service_samples)
    if blind:
        why = f"{', '.join(blind)} could not be observed once in {words}"
        return CanaryVerdict(passed=False, why=why, service=blind[0], figures=figures)
    why = f"nothing was worse than usual in {words}: {_summary(by_service, bounds)}{_not_learnt(bounds)}"
    return CanaryVerdict(passed=True, why=why, service=None, figures=figures)


def more_errors(now: int, seconds: float, usual: UsualErrors) -> bool:
    """Whether a log tells of failures more often than before, beyond chance: at least five, and twice as often."""
    before_seconds = max(usual.over.total_seconds(), 1.0)
    if now < _LEAST_ERRORS or seconds <= 0 or now / seconds <= 2 * usual.lines / before_seconds:
        return False
    # Of two Poisson counts, given their sum, the one is binomial with the share of its time.
    return _probability_of_at_least(now, now + usual.lines, seconds / (seconds + before_seconds)) < _CHANCE


def _worse(name: str, samples: Sequence[CanarySample], bounds: Bounds, *, over: bool) -> str | None:
    if (reason := _failure_at_once(name, samples, bounds)) is not None:
        return reason
    last = samples[-UNHEALTHY_IN_A_ROW:]
    if len(last) == UNHEALTHY_IN_A_ROW and all(sample.problem for sample in last):
        return f"{name} is unhealthy: {last[-1].problem}"
    for metric in (MEMORY, ANSWERS):
        most, source = bounds.most(metric)
        values = _values(samples, metric)
        if most is None or not values:
            continue
        outside = [value > most for value in values]
        in_a_row = len(outside) >= IN_A_ROW and all(outside[-IN_A_ROW:])
        if in_a_row or (over and 2 * sum(outside) > len(outside)):
            how = f"{IN_A_ROW} times in a row" if in_a_row else f"in {sum(outside)} of {len(outside)} observations"
            now = f"{_WORDS[metric]} of {name}: {_figure(metric, values[-1])}"
            return f"{now}, above its bound {how} ({source}{_usual_in_words(bounds, metric)})"
    counted = [sample for sample in samples if sample.error_lines is not None]
    lines, seconds = sum(sample.error_lines or 0 for sample in counted), sum(sample.seconds for sample in counted)
    if bounds.errors is not None and more_errors(lines, seconds, bounds.errors):
        return (
            f"{name} writes {_rate(lines, seconds)} lines a minute that tell of failures, "
            f"{_rate(bounds.errors.lines, bounds.errors.over.total_seconds())} before the update"
        )
    return None


def _failure_at_once(name: str, samples: Sequence[CanarySample], bounds: Bounds) -> str | None:
    """What ends a canary when it is seen once."""
    for sample in samples:
        if sample.restarted:
            return f"{name} was restarted during the canary: {sample.restarted}"
        if sample.recorded:
            return f"an error of {name} was recorded during the canary: {sample.recorded}"
        usual_patterns = bounds.errors.patterns if bounds.errors is not None else None
        new = sorted(sample.patterns.keys() - usual_patterns) if usual_patterns is not None else []
        if new:
            return f'{name} logs what it did not log before the update: "{sample.patterns[new[0]]}" (pattern {new[0]})'
    return None


def _values(samples: Sequence[CanarySample], metric: str) -> list[float]:
    measurements = [sample.memory_percent if metric == MEMORY else sample.response_ms for sample in samples]
    return [value for value in measurements if value is not None]


def _figures(samples: Sequence[CanarySample], bounds: Bounds) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "observations": len(samples),
        "unhealthy": sum(bool(sample.problem) for sample in samples),
    }
    for metric in (MEMORY, ANSWERS):
        values, (most, _) = _values(samples, metric), bounds.most(metric)
        baseline = bounds.usual.get(metric)
        learnt = baseline is not None and baseline.warning is not None
        figures[metric] = {
            "median": round(median(values), 3) if values else None,
            "highest": round(max(values), 3) if values else None,
            "usual": round(baseline.value, 3) if baseline is not None and learnt else None,
            "bound": None if most is None else round(most, 3),
            "learnt": learnt,
        }
    counted = [sample for sample in samples if sample.error_lines is not None]
    before = bounds.errors
    figures["error_lines"] = {
        "lines": sum(sample.error_lines or 0 for sample in counted),
        "seconds": round(sum(sample.seconds for sample in counted), 1),
        "lines_before": None if before is None else before.lines,
        "seconds_before": None if before is None else round(before.over.total_seconds(), 1),
    }
    return figures


def _summary(by_service: Mapping[str, Sequence[CanarySample]], bounds: Mapping[str, Bounds]) -> str:
    return "; ".join(f"{name} {_describe(samples, bounds[name])}" for name, samples in by_service.items() if samples)


def _describe(samples: Sequence[CanarySample], bounds: Bounds) -> str:
    parts = []
    for metric in (MEMORY, ANSWERS):
        if values := _values(samples, metric):
            most = bounds.most(metric)[0]
            bound = "" if most is None else f" (bound {_figure(metric, most)})"
            parts.append(f"{_WORDS[metric]} {_figure(metric, median(values))}{bound}")
    counted = [sample for sample in samples if sample.error_lines is not None]
    if counted:
        rate = _rate(sum(sample.error_lines or 0 for sample in counted), sum(sample.seconds for sample in counted))
        parts.append(f"{rate} error lines a minute")
    return ", ".join(parts) or "healthy"


def _not_learnt(bounds: Mapping[str, Bounds]) -> str:
    missing = [
        f"{_WORDS[metric]} of {name}"
        for name, service_bounds in bounds.items()
        for metric in (MEMORY, ANSWERS)
        if (baseline := service_bounds.usual.get(metric)) is None or baseline.warning is None
    ]
    if not missing:
        return ""
    return f"; nothing is learnt yet of the {', the '.join(missing)}, so limits and health decided on that"


def _usual_in_words(bounds: Bounds, metric: str) -> str:
    baseline = bounds.usual.get(metric)
    return "" if baseline is None or baseline.warning is None else f", usual {_figure(metric, baseline.value)}"


def _figure(metric: str, value: float) -> str:
    return f"{round(value, 2):.3g} {_UNITS[metric]}" if value < 1000 else f"{value:.0f} {_UNITS[metric]}"


def _rate(lines: int, seconds: float) -> str:
    return f"{60 * lines / seconds:.1f}" if seconds > 0 else "0.0"


def _probability_of_at_least(count: int, of: int, share: float) -> float:
    """The probability that at least `count` of a number are of one kind, where each is with probability `share`."""
    logs = [
        math.lgamma(of + 1)
        - math.lgamma(k + 1)
        - math.lgamma(of - k + 1)
        + k * math.log(share)
        + (of - k) * math.log1p(-share)
        for k in range(count, of + 1)
    ]
    highest = max(logs)
    return min(1.0, math.exp(highest) * sum(math.exp(log - highest) for log in logs))
