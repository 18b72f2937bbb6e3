"""Deployment operations, their steps, what is recorded of them, and who holds an environment."""

from models.operations.operation import (
    COMMANDS,
    DATA_SAVED,
    FOUND,
    HOOK_BEGUN,
    INTERRUPTION_SECONDS,
    OWN_KINDS,
    PROVEN,
    RECOVERY_OF,
    SERVING,
    LeaseResult,
    Operation,
    OperationStatus,
    OperationStep,
    OperationType,
    StateChange,
)
from models.operations.record import Runner

__all__ = [
    "COMMANDS",
    "DATA_SAVED",
    "FOUND",
    "HOOK_BEGUN",
    "INTERRUPTION_SECONDS",
    "OWN_KINDS",
    "PROVEN",
    "RECOVERY_OF",
    "SERVING",
    "LeaseResult",
    "Operation",
    "OperationStatus",
    "OperationStep",
    "OperationType",
    "Runner",
    "StateChange",
]
