from __future__ import annotations

from datetime import UTC, datetime, timedelta

from core.reporting.waterfall import bars_of, place_bars
from models.operation_view import WaterfallBar
from models.operations import Operation, OperationStatus, OperationStep, OperationType, StateChange
from models.overview import VerdictLevel

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
OPERATION = Operation(
    deployment_id="shop-1",
    operation_type=OperationType.START,
    environment="shop",
    status=OperationStatus.SUCCESS,
    started_at=NOW,
    ended_at=NOW + timedelta(seconds=10),
    details={
        "hooks": [
            {
                "name": "migrate",
                "when": "before",
                "does": "migrates",
                "service": None,
                "began_at": (NOW + timedelta(seconds=3)).isoformat(),
                "took_seconds": 2.0,
                "ok": False,
            }
        ]
    },
)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def step(name: str, seconds: float, service: str | None = None) -> OperationStep:
    return OperationStep(deployment_id="shop-1", step=name, finished_at=at(seconds), service=service)


def change(service: str, state: str, seconds: float, took: float | None) -> StateChange:
    details = {} if took is None else {"took_seconds": took}
    return StateChange(
        deployment_id="shop-1",
        service=service,
        previous_state=None,
        new_state=state,
        changed_at=at(seconds),
        details=details,
    )


def test_each_bar_begins_and_ends_where_the_record_says() -> None:
    steps = [step("validate", 1), step("start", 2, "db"), step("create", 3)]
    changes = [change("db", "healthy", 7, 2.5), change("web", "failed", 9, 1), change("old", "removed", 9, None)]

    bars = bars_of(OPERATION, steps, changes)

    assert [(bar.name, bar.begins, bar.ends, bar.level) for bar in bars] == [
        ("validate", at(0), at(1), VerdictLevel.GOOD),
        ("create", at(2), at(3), VerdictLevel.GOOD),
        ("hook migrate", at(3), at(5), VerdictLevel.BAD),
        ("db", at(4.5), at(7), VerdictLevel.GOOD),
        ("web", at(8), at(9), VerdictLevel.BAD),
    ]


def test_bars_lie_within_the_time_of_the_operation_however_clocks_differ() -> None:
    bars = [
        WaterfallBar(name="early", kind="step", begins=at(-60), ends=at(-50), level=VerdictLevel.GOOD),
        WaterfallBar(name="half", kind="step", begins=at(5), ends=at(10), level=VerdictLevel.GOOD),
        WaterfallBar(name="late", kind="step", begins=at(50), ends=at(500), level=VerdictLevel.GOOD),
    ]

    early, half, late = place_bars(bars, NOW, at(10))

    assert (early.left, early.after_seconds, early.took_seconds) == (0, 0.0, 10.0)
    assert (half.left, half.width) == (498, 500)
    assert (late.left + late.width, late.after_seconds) == (1000, 50.0)
    assert place_bars((), NOW, NOW) == ()
