"""Metrics of the hooks that updates ran."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from adapters.prometheus.hook_figures import hook_figures
from models.operations import Operation, OperationStatus, OperationType
from models.operations.record import HookRun

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RUN = HookRun(name="migrate", when="before", does="a job", service="job", began_at=NOON, took_seconds=3, ok=True)


def update(*runs: HookRun) -> Operation:
    return Operation(
        deployment_id="shop-1",
        operation_type=OperationType.START,
        environment="shop",
        status=OperationStatus.SUCCESS,
        started_at=NOON,
        details={"hooks": [one.model_dump(mode="json") for one in runs]},
    )


def test_the_latest_run_of_each_hook_is_shown_with_its_outcome() -> None:
    smoke = RUN.model_copy(update={"name": "smoke", "when": "after", "took_seconds": 1, "ok": False})
    latest = update(RUN, smoke.model_copy(update={"warns": True}))
    earlier = update(RUN.model_copy(update={"ok": False, "took_seconds": 9}), smoke)

    ended, took = hook_figures({"shop": [latest, earlier]})

    assert [(tuple(one.labels.values()), one.value) for one in took.samples] == [
        (("shop", "migrate", "before", "success"), 3),
        (("shop", "smoke", "after", "warned"), 1),
    ]
    assert ended.samples[0].value == NOON.timestamp() + 3


def test_operations_without_hooks_show_nothing() -> None:
    operation = replace(update(), details={})
    assert [family.samples for family in hook_figures({"shop": [operation]})] == [[], []]
