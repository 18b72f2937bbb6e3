"""When a canary says that a new release is worse than usual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.common.dependencies import dependencies_of
from core.deployment.canary import (
    ANSWERS,
    MEMORY,
    Bounds,
    CanaryVerdict,
    judge_canary,
    more_errors,
    observed_services,
)
from models.environments import Environment, Limits
from models.hooks import CanarySample, UsualErrors
from models.metrics import Baseline
from tests.unit.core.deployment.test_plan import application, service

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def learnt(metric: str, value: float, warning: float | None) -> Baseline:
    return Baseline(
        service="web",
        metric=metric,
        value=value,
        warning=warning,
        critical=warning,
        created_at=NOON,
        updated_at=NOON,
        samples=500,
    )


USUAL = {MEMORY: learnt(MEMORY, 20, 25), ANSWERS: learnt(ANSWERS, 10, 40)}
BOUNDS = Bounds(usual=USUAL, errors=UsualErrors(lines=6, over=timedelta(hours=1)))
WELL = CanarySample(service="web", at=NOON, seconds=15, memory_percent=21, response_ms=12, error_lines=0)
FAT = replace(WELL, memory_percent=31.0)


def judged(samples: Sequence[CanarySample], bounds: Bounds = BOUNDS, *, over: bool = False) -> CanaryVerdict:
    return judge_canary(samples, {"web": bounds}, words="10 min", over=over)


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        ({"restarted": "the engine restarted shop-web-1 once"}, "web was restarted during the canary: the engine"),
        ({"recorded": "err-1, oom_killed: killed"}, "an error of web was recorded during the canary: err-1"),
        (
            {"patterns": {"new": "FATAL: no"}},
            'web logs what it did not log before the update: "FATAL: no" (pattern new)',
        ),
    ],
)
def test_what_a_service_does_once_ends_a_canary(sample: dict[str, Any], said: str) -> None:
    bounds = replace(BOUNDS, errors=UsualErrors(lines=1, over=timedelta(hours=1), patterns=frozenset({"old"})))

    verdict = judged([WELL, replace(WELL, **sample)], bounds)

    assert (verdict.passed, verdict.service) == (False, "web")
    assert verdict.why.startswith(said)


def test_a_pattern_that_the_log_matched_before_is_as_usual() -> None:
    before = UsualErrors(lines=1, over=timedelta(hours=1), patterns=frozenset({"old"}))
    seen = replace(WELL, patterns={"old": "FATAL: again"})
    assert judged([seen], replace(BOUNDS, errors=before)).passed is None
    assert judged([seen], replace(BOUNDS, errors=replace(before, patterns=None))).passed is None
    assert judged([seen], replace(BOUNDS, errors=None)).passed is None


def test_a_release_as_usual_passes_with_its_figures() -> None:
    verdict = judged([WELL] * 10, over=True)
    assert verdict.passed is True
    assert "web memory 21 % (bound 25 %), answers 12 ms (bound 60 ms), 0.0 error lines a minute" in verdict.why
    assert "nothing is learnt" not in verdict.why
    assert verdict.figures["web"][MEMORY] == {
        "median": 21, "highest": 21, "usual": 20, "bound": 25, "learnt": True
    }  # fmt: skip


def test_one_value_outside_is_chance_and_three_in_a_row_are_not() -> None:
    assert judged([WELL, FAT, FAT, WELL]).passed is None
    verdict = judged([WELL, FAT, FAT, FAT])
    assert (verdict.passed, verdict.service) == (False, "web")
    assert verdict.why == (
        "memory of web: 31 %, above its bound 3 times in a row (at most 25 % by what was learnt of it, usual 20 %)"
    )


def test_at_the_end_a_majority_outside_counts() -> None:
    up_and_down = [FAT, FAT, WELL, FAT, FAT, WELL]
    assert judged(up_and_down).passed is None
    assert "in 4 of 6 observations" in judged(up_and_down, over=True).why


def test_slow_answers_count_from_fifty_milliseconds_above_the_usual() -> None:
    assert judged([replace(WELL, response_ms=59.0)] * 5, over=True).passed is True
    assert "answers of web" in judged([replace(WELL, response_ms=61.0)] * 3).why


def test_an_unhealthy_service_ends_it_at_the_second_observation() -> None:
    ill = replace(WELL, problem="its health check fails")
    assert judged([WELL, ill]).passed is None
    assert judged([WELL, ill, ill]).why == "web is unhealthy: its health check fails"


def test_without_a_learnt_baseline_limits_decide_and_the_verdict_says_so() -> None:
    still_learning = {MEMORY: learnt(MEMORY, 20, None)}
    bounds = Bounds(usual=still_learning, limits=Limits(memory_percent=80))
    verdict = judged([FAT] * 5, bounds, over=True)
    assert verdict.passed is True
    assert "nothing is learnt yet of the memory of web, the answers of web" in verdict.why
    assert "(its limit is 80 %)" in judged([replace(WELL, memory_percent=90)] * 3, bounds).why


def test_the_lower_of_limit_and_baseline_is_the_bound() -> None:
    assert Bounds(usual=USUAL, limits=Limits(memory_percent=22)).most(MEMORY) == (22, "its limit is 22 %")
    assert Bounds(usual=USUAL, limits=Limits(memory_percent=90)).most(MEMORY)[0] == 25
    assert Bounds(usual={}).most(ANSWERS) == (None, "")


@pytest.mark.parametrize(
    ("now", "seconds", "lines", "minutes", "more"),
    [
        (4, 60, 0, 60, False),
        (5, 60, 0, 60, True),
        (12, 600, 60, 60, False),
        (19, 600, 60, 60, False),
        (40, 600, 60, 60, True),
        # Little was seen before, so little is certain.
        (6, 60, 1, 1, False),
        (30, 60, 3, 1, True),
        (0, 0, 0, 0, False),
    ],
)
def test_more_errors_than_before_beyond_chance(now: int, seconds: float, lines: int, minutes: int, more: bool) -> None:
    assert more_errors(now, seconds, UsualErrors(lines=lines, over=timedelta(minutes=minutes))) is more


def test_a_log_that_tells_of_failures_ends_it() -> None:
    verdict = judged([replace(WELL, error_lines=3)] * 4)
    assert verdict.why == "web writes 12.0 lines a minute that tell of failures, 0.1 before the update"


def test_errors_are_not_judged_where_the_log_before_is_not_known() -> None:
    assert judged([replace(WELL, error_lines=30)] * 4, replace(BOUNDS, errors=None)).passed is None


def test_a_service_that_could_not_be_observed_is_not_proven() -> None:
    assert judged([], over=True).why == "web could not be observed once in 10 min"


def test_changed_services_and_all_that_depend_on_them_are_observed() -> None:
    app = application(
        service("db"), service("api", "db"), service("web", "api"), service("mail"), service("job", "db", one_shot=True)
    )
    shop = {"name": "shop", "project": "shop", "compose_files": ["/c.yaml"]}
    needs = dependencies_of(Environment.model_validate(shop), app)
    assert observed_services(app, needs, {"db"}) == ("api", "db", "web")
    assert observed_services(app, needs, {"web", "gone"}) == ("web",)
    services = {"mail": {"dependencies": [{"service": "web"}]}}
    needs = dependencies_of(Environment.model_validate(shop | {"services": services}), app)
    assert observed_services(app, needs, {"api"}) == ("api", "mail", "web")
