"""How hooks are printed, in a plan and in a record."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cli.rendering.hooks import show_hooks
from cli.rendering.releases import show_plan
from core.deployment.hooks import planned_hooks
from models.compose import Plan
from models.hooks import Hooks
from models.operations.record import CanaryRecord, HookRun, OperationRecord

RUN = HookRun(
    name="migrate",
    when="before",
    does="one-off container of migrate",
    service="migrate",
    began_at=datetime(2026, 1, 1, tzinfo=UTC),
    took_seconds=2,
    ok=False,
    exit_code=3,
    lines=("reading schema", "[bold]relation orders is missing"),
)


def test_a_record_shows_each_hook_and_the_last_lines_of_a_failed_one(capsys: pytest.CaptureFixture[str]) -> None:
    canary = CanaryRecord(minutes=5, passed=True, verdict="nothing was worse than usual")

    show_hooks(OperationRecord(hooks=(RUN,), canary=canary))

    printed = " ".join(capsys.readouterr().out.split())
    assert "migrate before one-off container of migrate 2.0 s ended with exit code 3" in printed
    assert "migrate [bold]relation orders is missing" in printed
    assert "canary: nothing was worse than usual" in printed


def test_an_operation_without_hooks_shows_none(capsys: pytest.CaptureFixture[str]) -> None:
    show_hooks(OperationRecord(kept=("web",)))
    assert capsys.readouterr().out == ""


def test_a_plan_names_its_hooks(capsys: pytest.CaptureFixture[str]) -> None:
    hooks = Hooks.model_validate(
        {
            "before": [{"name": "migrate", "service": "migrate"}],
            "after": [{"name": "canary", "canary": {"minutes": 5}}],
        }
    )

    show_plan(Plan(project="shop", services=(), waves=(), hooks=planned_hooks(hooks)), "shop", "update")

    printed = capsys.readouterr().out
    assert "hook before the change: migrate, one-off container of migrate" in printed
    assert "hook after the change: canary, canary of 5 min" in printed
    assert "roas update shop --plan " in printed
