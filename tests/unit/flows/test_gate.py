"""The gate of an update that is taken up again, and the reason of an override."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.operation.recorder import OperationRecorder
from flows.update.context import Update
from flows.update.gate import JUDGED, check_gate, override_reason
from models.compose import Application, Plan
from models.environments import Environment
from models.failures import BadInputError
from models.gates import UpdateGate
from models.operations import OperationStep, OperationType
from models.operations.record import GateRecord, OperationRecord
from tasks.runtime.project import Project

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def context(gate: UpdateGate | None, steps: tuple[OperationStep, ...] = ()) -> Update:
    environment = Environment(
        name="shop",
        project="shop",
        compose_files=(Path("/nowhere/compose.yaml"),),
        engine="unix:///nowhere/docker.sock",
        gate=gate,
    )
    update = Update()
    update.recorder = OperationRecorder(
        deployment_id="shop-1",
        operation_type=OperationType.START,
        name="shop",
        started_at=NOW,
        opened=Project(environment),
        steps=steps,
    )
    update.plan = Plan(project="shop", services=(), waves=())
    update.application = Application(project="shop", services={})
    return update


async def test_what_was_judged_before_an_interruption_is_not_judged_again() -> None:
    # Its policy would refuse, and its engine does not answer.
    gate = UpdateGate.model_validate({"policies": [{"name": "never", "expression": "false"}]})
    facts = {"outcome": "overridden", "policies": [], "scans": []}
    step = OperationStep(deployment_id="shop-1", step=JUDGED, service=None, finished_at=NOW, detail=json.dumps(facts))
    update = context(gate, (step,))

    await check_gate(update)

    assert update.recorder.record.gate == GateRecord(outcome="overridden")


async def test_an_environment_without_a_gate_is_asked_nothing() -> None:
    update = context(None)
    await check_gate(update)
    assert update.recorder.record == OperationRecord()


def test_an_override_has_a_reason_on_one_line() -> None:
    assert override_reason(None) is None
    assert override_reason("  repairs\n the outage \x1b[2J") == r"repairs the outage \x1b[2J"
    assert len(override_reason("x" * 1000) or "") == 300
    with pytest.raises(BadInputError, match="needs a reason"):
        override_reason(" \n ")
