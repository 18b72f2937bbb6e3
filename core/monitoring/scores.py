"""Score the health of a service and grade the score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.common.intervals import wilson
from models.analysis import Grade, ServiceScore, Share
from models.failures import BadInputError
from models.metrics import Dependency, DependencyStatus, HealthImpact

WEIGHTS = {"uptime": 0.30, "performance": 0.25, "errors": 0.25, "dependencies": 0.20}
"""Weight of each part of a score."""

CAP_DOWN = 40.0
CAP_DEPENDENCY_DOWN = 60.0
"""Without a cap, a stopped service would still score 70 points."""

_GRADES = ((90.0, Grade.A), (80.0, Grade.B), (70.0, Grade.C), (60.0, Grade.D), (0.0, Grade.F))
_GRADE_MARGIN = 5.0
_GRADE_ROWS = 3
_BUDGETS_TO_ZERO = 10.0
_THIN = 30


def score_service(
    service: str,
    *,
    uptime: Share | None = None,
    surprise: float | None = None,
    requests: Share | None = None,
    dependencies: Sequence[Dependency] | None = None,
    down: bool = False,
    objective: float = 0.999,
) -> ServiceScore:
    """The health score of a service: 0.30 uptime, 0.25 performance, 0.25 error rate, 0.20 dependencies.

    `uptime` counts checks, `requests` counts requests or probes, each over the objective's period;
    `objective` is the share of each that must be good, 0-1: at the whole budget spent a part has 90
    points, at ten budgets none. `surprise` is how unusual the worst metric is, 0-1. A part without data
    is left out, the rest weighs more, and the coverage says so. Raises BadInputError for an impossible share.
    """
    if not 0 < objective < 1:
        raise BadInputError(f"An objective of {objective} is none;", advice="give a share like 0.999.")
    if surprise is not None and not 0 <= surprise <= 1:
        raise BadInputError(f"A surprise of {surprise} is none;", advice="give a share between 0 and 1.")
    parts: dict[str, float | None] = {
        "uptime": _budget_points(_value(uptime), objective),
        "performance": None if surprise is None else 100 * (1 - surprise),
        "errors": _budget_points(_value(requests), objective),
        "dependencies": None if not dependencies else _dependency_points(dependencies),
    }
    cap, why = _cap(down, dependencies or ())
    score = _weighted(parts, cap)
    bounds = [
        _weighted(
            parts
            | {
                "uptime": _budget_points(_bound(uptime, side), objective),
                "errors": _budget_points(_bound(requests, side), objective),
            },
            cap,
        )
        for side in (0, 1)
    ]
    return ServiceScore(
        service=service,
        score=score,
        low=bounds[0],
        high=bounds[1],
        grade=None if score is None else grade(score),
        coverage=sum(WEIGHTS[name] for name, points in parts.items() if points is not None),
        parts=parts,
        cap=why,
        suggestions=_suggestions(parts, uptime, requests, dependencies or (), why),
    )


def grade(score: float) -> Grade:
    """The letter of a score of 0-100 points."""
    return next(letter for least, letter in _GRADES if score >= least or letter is Grade.F)


def hold_grade(previous: Grade | None, scores: Sequence[float]) -> Grade | None:
    """The grade to show, oldest score first: it changes after three rows five points past a border."""
    if not scores:
        return previous
    if previous is None:
        return grade(scores[-1])
    recent = scores[-_GRADE_ROWS:]
    if len(recent) < _GRADE_ROWS:
        return previous
    letters = list(Grade)
    at_best = grade(max(recent) + _GRADE_MARGIN)
    at_worst = grade(min(recent) - _GRADE_MARGIN)
    if letters.index(at_best) > letters.index(previous):
        return at_best
    if letters.index(at_worst) < letters.index(previous):
        return at_worst
    return previous


def _value(share: Share | None) -> float | None:
    return None if share is None else share.value


def _bound(share: Share | None, side: int) -> float | None:
    return None if share is None or not share.total else wilson(share.good, share.total)[side]


def _budget_points(share: float | None, objective: float) -> float | None:
    if share is None:
        return None
    budgets_spent = (1 - share) / (1 - objective)
    return 100 * max(0.0, 1 - budgets_spent / _BUDGETS_TO_ZERO)


def _dependency_points(needs: Sequence[Dependency]) -> float:
    weights = {HealthImpact.CRITICAL: 3.0, HealthImpact.MODERATE: 2.0, HealthImpact.LOW: 1.0}
    worth = {DependencyStatus.ACTIVE: 1.0, DependencyStatus.INACTIVE: 0.5, DependencyStatus.FAILED: 0.0}
    total = sum(weights[need.health_impact] for need in needs)
    return 100 * sum(weights[need.health_impact] * worth[need.status] for need in needs) / total


def _cap(down: bool, needs: Sequence[Dependency]) -> tuple[float, str]:
    if down:
        return CAP_DOWN, f"the service is down: at most {CAP_DOWN:.0f} points"
    lost = [need.depends_on for need in needs if need.is_critical and need.status is DependencyStatus.FAILED]
    if lost:
        return (
            CAP_DEPENDENCY_DOWN,
            f"{', '.join(lost)}, which it needs, is down: at most {CAP_DEPENDENCY_DOWN:.0f} points",
        )
    return 100.0, ""


def _weighted(parts: Mapping[str, float | None], cap: float) -> float | None:
    known = {name: points for name, points in parts.items() if points is not None}
    if not known:
        return None
    weight = sum(WEIGHTS[name] for name in known)
    return min(cap, sum(WEIGHTS[name] * points for name, points in known.items()) / weight)


def _suggestions(
    parts: Mapping[str, float | None],
    uptime: Share | None,
    requests: Share | None,
    needs: Sequence[Dependency],
    cap: str,
) -> tuple[str, ...]:
    advice = {
        "uptime": "look at the errors of its last outages: what ended it, and would it end it again?",
        "performance": "compare its metrics with their baselines; the alert names the one that stands out.",
        "errors": "read its logs around the failed requests; a recent deployment is the first suspect.",
        "dependencies": "mend what it needs first: "
        + ", ".join(sorted({need.depends_on for need in needs if need.status is not DependencyStatus.ACTIVE})),
    }
    lost = {name: WEIGHTS[name] * (100 - points) for name, points in parts.items() if points is not None}
    reported = [cap] if cap else []
    reported += [
        f"{name} costs {lost[name]:.0f} points: {advice[name]}"
        for name in sorted(lost, key=lost.__getitem__, reverse=True)
        if lost[name] >= 1
    ]
    missing = [name for name, points in parts.items() if points is None]
    if missing:
        reported.append(f"no data for {', '.join(missing)}: the score says nothing about it")
    if any(share is not None and 0 < share.total < _THIN for share in (uptime, requests)):
        reported.append(f"fewer than {_THIN} checks: read the score with its bounds")
    return tuple(reported)
