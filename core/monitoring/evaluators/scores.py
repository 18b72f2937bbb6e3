"""Score the services and decide which scores to store."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from core.monitoring import budgets
from core.monitoring.scores import hold_grade, score_service
from core.monitoring.snapshot import BUDGET_STATE, Memory, MonitoringSnapshot, MonitoringState
from models.analysis import Grade, ServiceScore

SCORES_EVERY = timedelta(minutes=5)
"""How often unchanged scores are stored: one row a collection would be most of the store."""

_SCORES_HELD = 3
_SCORE_MOVES = 5.0
"""A score this many points from the last stored one is stored at once; so is another grade."""


def score_services(snapshot: MonitoringSnapshot, state: MonitoringState) -> list[ServiceScore]:
    """Score each service over the last three days, except those that are down on purpose."""
    scored = [name for name in snapshot.verdicts if not (snapshot.is_unhealthy(name) and snapshot.may_be_down(name))]
    return [_held(_score(name, snapshot, state), state.memory) for name in scored]


def scores_to_store(scores: Sequence[ServiceScore], snapshot: MonitoringSnapshot, memory: Memory) -> list[ServiceScore]:
    """Return the scores that are due or have moved, and remember them as stored."""
    now = snapshot.at.timestamp()
    due = now - memory.scored_at >= SCORES_EVERY.total_seconds()
    kept = [one for one in scores if one.score is not None and (due or _moved(one, memory))]
    memory.kept_scores |= {one.service: _points_and_grade(one) for one in kept}
    if due:
        memory.scored_at = now
    return kept


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


def _held(score: ServiceScore, memory: Memory) -> ServiceScore:
    """Return the score with a grade that does not flicker between two letters."""
    if score.score is None:
        return score
    recent = [*memory.scores.get(score.service, []), round(score.score, 2)][-_SCORES_HELD:]
    before = memory.grades.get(score.service)
    shown = hold_grade(Grade(before) if before else None, recent)
    memory.scores[score.service] = recent
    if shown is not None:
        memory.grades[score.service] = shown.value
    return replace(score, grade=shown)


def _moved(score: ServiceScore, memory: Memory) -> bool:
    points, letter = _points_and_grade(score)
    kept_points, kept_letter = memory.kept_scores.get(score.service, (math.inf, None))
    return abs(points - kept_points) >= _SCORE_MOVES or letter != kept_letter


def _points_and_grade(score: ServiceScore) -> tuple[float, str | None]:
    return score.score or 0.0, None if score.grade is None else score.grade.value
