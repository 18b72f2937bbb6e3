"""Find the operations whose process ended, and describe the interruption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from models.operations import LeaseResult, Operation, OperationStep, Runner

GRACE = timedelta(seconds=60)
"""A runner that cannot be asked is taken for gone if it held no lease for this long: a lease's own time."""

_WORDS = {
    "validated": "the environment was validated",
    "found": "what was there before was written down",
    "release notes": "what the new images change was written down",
    "judged": "its gate had let it go on",
    "changing": "it was decided which services change",
    "created": "the containers were created",
    "undoing": "its rollback had begun",
    "release": "the release to go back to was chosen",
    "ran before": "the release that ran was written down",
    "before the pin": "its checkout was written down",
    "data of": "the snapshot of its data was chosen",
    "snapshot": "the snapshot was chosen",
    "safety snapshot": "the data that was there was saved",
    "over half restored data": "it was written down that the data was half restored",
    "data touched": "its data was about to be replaced",
    "data settled": "the data was whole",
    "prepared": "the new password was made",
    "told": "the servers took the new password",
    "written": "the new password was written",
    "replacing": "the services were about to be replaced",
}
"""How the steps of the whole operation are said; a step of a service is said as its name."""


def find_orphans(
    operations: Sequence[Operation], leases: Sequence[LeaseResult], alive: Mapping[Runner, bool | None], now: datetime
) -> list[Operation]:
    """Return the unfinished operations whose process has ended.

    `leases` are those not expired. `alive` says of each process whether it still runs, None if that is unknown from
    here: such a process counts as running while it holds its lease, and before that while it may still wait for it.
    """
    holders = {(lease.holder, lease.runner) for lease in leases}
    orphans = []
    for operation in operations:
        runner = operation.record.runner
        lives = alive.get(runner) if runner is not None else None
        silent = (operation.deployment_id, runner) not in holders and now >= _may_wait_until(operation) + GRACE
        if lives is False or (lives is None and silent):
            orphans.append(operation)
    return orphans


def interruption(operation: Operation, steps: Sequence[OperationStep]) -> str:
    """How an operation was interrupted, in one sentence: the last step it finished, and who is gone."""
    runner = operation.record.runner
    who = f"its runner ({runner}) is gone" if runner is not None else "its runner is gone"
    if not steps:
        return f"interrupted before its first step was finished; {who}"
    last = max(reversed(steps), key=lambda step: step.finished_at)
    whole = _WORDS.get(last.step, f"it was {last.step}")
    return f"interrupted after {f'{last.service} was {last.step}' if last.service else whole}; {who}"


def _may_wait_until(operation: Operation) -> datetime:
    record = operation.record
    moments = (operation.started_at, record.waits_until, *(resumption.at for resumption in record.resumed))
    return max(moment for moment in moments if moment is not None)
