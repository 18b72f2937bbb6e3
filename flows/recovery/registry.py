"""Operations that recovery can run as an action, by their entry points: recovery imports no flow of deployment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module

from models.recovery import StepSpec
from models.results import OperationResult

OperationFlow = Callable[..., Awaitable[OperationResult]]

OPERATIONS: Mapping[StepSpec, str] = {StepSpec.ROLL_BACK: "flows.deployment.rollback.rollback"}
"""Entry points as in prefect.yaml."""


def registered_operation(step: StepSpec) -> OperationFlow:
    """Load the operation that is registered for a step."""
    module, _, name = OPERATIONS[step].rpartition(".")
    operation: OperationFlow = getattr(import_module(module), name)
    return operation
