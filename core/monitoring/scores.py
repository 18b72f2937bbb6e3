"""Score the health of services, grade the scores and decide which to store."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from core.common.significance import wilson
from core.monitoring import budgets
from core.monitoring.snapshot import BUDGET_STATE, Memory, MonitoringSnapshot, MonitoringState
from models.analysis import Grade, ServiceScore, Share
from models.health import CERTAIN_CHECKS, FEW_CHECKS
from models.metrics import Dependency, DependencyStatus, HealthImpact

WEIGHTS = {"uptime": 0.30, "performance": 0.25, "errors": 0.25, "dependencies": 0.20}
"""Weight of each part of a score."""

CAP_DOWN = 40.0
CAP_DEPENDENCY_DOWN = 60.0
"""Without a cap, a stopped service would still score 70 points."""

_GRADES = ((90.0, Grade.A), (80.0, Grade.B), (70.0, Grade.C), (60.0, Grade.D), (0.0, Grade.F))
_GRADE_MARGIN = 5.0
_GRADE_ROWS = 3
_SCORE_MOVES = 5.0
"""A score this many points from the last stored one is stored at once; so is another grade."""

_SCORES_EVERY = timedelta(minutes=5)
"""How often unchanged scores are stored: one row a collection would be most of the store."""

_BUDGETS_TO_ZERO = 10.0


def score_services(snapshot: MonitoringSnapshot, state: MonitoringState) -> list[ServiceScore]:
    """Score each service over the last three days, except those that are down on purpose."""
    scored = [name for name in snapshot.verdicts if not (snapshot.is_unhealthy(name) and snapshot.may_be_down(name))]
    return [_hold_grade(_score(name, snapshot, state), state.memory) for name in scored]


def scores_to_store(scores: Sequence[ServiceScore], snapshot: MonitoringSnapshot, memory: Memory) -> list[ServiceScore]:
    """Return the scores that are due or have moved, and remember them as stored."""
    now = snapshot.at.timestamp()
    is_due = now - memory.scored_at >= _SCORES_EVERY.total_seconds()
    to_store = [score for score in scores if score.score is not None and (is_due or _has_moved(score, memory))]
    memory.kept_scores |= {score.service: _points_and_grade(score) for score in to_store}
    if is_due:
        memory.scored_at = now
    return to_store


def _score(name: str, snapshot: MonitoringSnapshot, state: MonitoringState) -> ServiceScore:
    ((up, answers),) = budgets.shares(state.kept[name, BUDGET_STATE], snapshot.at, (budgets.KEPT,))
    return score_service(
        name,
        uptime=up if up.total else None,
        surprise=state.surprises.get(name),
        requests=answers if answers.total else None,
        dependencies=[need for need in snapshot.observation.dependencies if need.service == name],
        down=snapshot.is_unhealthy(name),
        objective=snapshot.environment.objective_percent / 100,
    )


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
    is left out, the rest weighs more, and the coverage says so.
    """
    counted = {"uptime": uptime, "errors": requests}
    # Of uptime and errors: the share as it was seen, and the ends of its interval.
    estimates, *ends = (
        {name: _budget_points(share, side, objective) for name, share in counted.items()} for side in (None, 0, 1)
    )
    parts: dict[str, float | None] = {
        "uptime": estimates["uptime"],
        "performance": None if surprise is None else 100 * (1 - surprise),
        "errors": estimates["errors"],
        "dependencies": None if not dependencies else _dependency_points(dependencies),
    }
    cap, why = _cap(down, dependencies or ())
    score = _weigh(parts, cap)
    low, high = (_weigh(parts | bounds, cap) for bounds in ends)
    return ServiceScore(
        service=service,
        score=score,
        low=low,
        high=high,
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
    """The grade to show, oldest score first: it changes after three rows five points past a border, and at once where
    the score is more than one letter away, so that no row says "100, F"."""
    recent, letters = scores[-_GRADE_ROWS:], list(Grade)
    if previous is None and scores:
        return grade(scores[-1])
    if previous is not None and scores and abs(letters.index(grade(scores[-1])) - letters.index(previous)) > 1:
        return grade(scores[-1])
    if previous is None or len(recent) < _GRADE_ROWS:
        return previous
    at_best = grade(max(recent) + _GRADE_MARGIN)
    at_worst = grade(min(recent) - _GRADE_MARGIN)
    if letters.index(at_best) > letters.index(previous):
        return at_best
    if letters.index(at_worst) < letters.index(previous):
        return at_worst
    return previous


def _budget_points(share: Share | None, side: int | None, objective: float) -> float | None:
    if share is None or share.value is None:
        return None
    good = share.value if side is None else wilson(share.good, share.total)[side]
    budgets_spent = (1 - good) / (1 - objective)
    return 100 * max(0.0, 1 - budgets_spent / _BUDGETS_TO_ZERO)


def _dependency_points(needs: Sequence[Dependency]) -> float:
    weights = {HealthImpact.CRITICAL: 3.0, HealthImpact.MODERATE: 2.0, HealthImpact.LOW: 1.0}
    worth = {DependencyStatus.ACTIVE: 1.0, DependencyStatus.INACTIVE: 0.5, DependencyStatus.FAILED: 0.0}
    total = sum(weights[need.health_impact] for need in needs)
    return 100 * sum(weights[need.health_impact] * worth[need.status] for need in needs) / total


def _cap(down: bool, needs: Sequence[Dependency]) -> tuple[float, str]:
    if down:
        return CAP_DOWN, f"the service is down: at most {CAP_DOWN:.0f} points"
    dependencies = [need.depends_on for need in needs if need.is_critical and need.status is DependencyStatus.FAILED]
    why = f"{', '.join(dependencies)}, which it needs, is down: at most {CAP_DEPENDENCY_DOWN:.0f} points"
    return (CAP_DEPENDENCY_DOWN, why) if dependencies else (100.0, "")


def _weigh(parts: Mapping[str, float | None], cap: float) -> float | None:
    points_by_part = {name: points for name, points in parts.items() if points is not None}
    if not points_by_part:
        return None
    weight = sum(WEIGHTS[name] for name in points_by_part)
    return min(cap, sum(WEIGHTS[name] * points for name, points in points_by_part.items()) / weight)


def _suggestions(
    parts: Mapping[str, float | None],
    uptime: Share | None,
    requests: Share | None,
    needs: Sequence[Dependency],
    cap: str,
) -> tuple[str, ...]:
    advice = {
        "uptime": "find out what ended it in its last outages, and prevent that.",
        "performance": "compare its metrics with their baselines; the alert names the one that stands out.",
        "errors": "read its logs around the failed requests; a recent deployment is the first suspect.",
        "dependencies": "repair what it depends on first: "
        + ", ".join(sorted({need.depends_on for need in needs if need.status is not DependencyStatus.ACTIVE})),
    }
    losses = {name: WEIGHTS[name] * (100 - points) for name, points in parts.items() if points is not None}
    reported = [cap] if cap else []
    costs = sorted(((name, loss) for name, loss in losses.items() if loss >= 1), key=lambda cost: cost[1], reverse=True)
    reported += [f"{name} costs {loss:.0f} points: {advice[name]}" for name, loss in costs]
    missing = [name for name, points in parts.items() if points is None]
    if missing:
        reported.append(f"no data for {', '.join(missing)}, so the score leaves it out")
    if any(share is not None and 0 < share.total < CERTAIN_CHECKS for share in (uptime, requests)):
        reported.append(f"{FEW_CHECKS} so far, so the score is uncertain within its bounds")
    return tuple(reported)


def _hold_grade(score: ServiceScore, memory: Memory) -> ServiceScore:
    """Return the score with a grade that does not flicker between two letters.

    Where a service is down, or what it needs, the grade of its limited score is shown at once.
    """
    if score.score is None:
        return score
    recent = [*memory.scores.get(score.service, []), round(score.score, 2)][-_GRADE_ROWS:]
    before = memory.grades.get(score.service)
    shown = grade(score.score) if score.cap else hold_grade(Grade(before) if before else None, recent)
    memory.scores[score.service] = recent
    if shown is not None:
        memory.grades[score.service] = shown.value
    return replace(score, grade=shown)


def _has_moved(score: ServiceScore, memory: Memory) -> bool:
    points, letter = _points_and_grade(score)
    kept_points, kept_letter = memory.kept_scores.get(score.service, (math.inf, None))
    return abs(points - kept_points) >= _SCORE_MOVES or letter != kept_letter


def _points_and_grade(score: ServiceScore) -> tuple[float, str | None]:
    return score.score or 0.0, None if score.grade is None else score.grade.value
