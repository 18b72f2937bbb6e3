"""The page of operations: the steps of each, forward and back, as the program runs them."""

from __future__ import annotations

from typing import Any

from deployments.docs.reference.markdown import page, summary, table
from flows.deployment.restart import RESTART
from flows.deployment.rollback import ROLLBACK, ROLLBACK_BACK
from flows.deployment.startup import START
from flows.deployment.stop import STOP
from flows.deployment.sync import SYNC, SYNC_BACK
from flows.deployment.update import UPDATE, UPDATE_BACK
from flows.execution.going_back import START_BACK
from flows.operation.steps import Steps
from flows.storage.restore import RESTORE, RESTORE_BACK
from flows.storage.snapshot import SNAPSHOT, SNAPSHOT_BACK

OPERATIONS: dict[str, tuple[Steps[Any], Steps[Any]]] = {
    "Start": (START, START_BACK),
    "Update": (UPDATE, UPDATE_BACK),
    "Sync": (SYNC, SYNC_BACK),
    "Roll back": (ROLLBACK, ROLLBACK_BACK),
    "Restore": (RESTORE, RESTORE_BACK),
    "Snapshot": (SNAPSHOT, SNAPSHOT_BACK),
    "Restart": (RESTART, ()),
    "Stop": (STOP, ()),
}


def operations_page() -> str:
    """Every operation with its steps."""
    return page(
        "Operations",
        "The steps of each operation, in the order in which they run. Where one fails, the operation is rolled back by "
        "the steps of its second table, and only so from then on, also after a kill. `looks`: the step changes nothing "
        "that was not half done, and runs also where an operation that was rolled back is resumed. A snapshot that is "
        "killed is taken anew.",
        *(part for name, lists in OPERATIONS.items() for part in _operation(name, *lists)),
    )


def _operation(name: str, forward: Steps[Any], back: Steps[Any]) -> list[str]:
    return [f"## {name}", _table(forward), *(["Back:", _table(back)] if back else [])]


def _table(steps: Steps[Any]) -> str:
    rows = [(step.name, "looks" if step.looks else "", summary(step.run)) for step in steps]
    return table(("step", "", "what it does"), rows)
