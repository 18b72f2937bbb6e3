"""The sources of environments as metrics: what became of the latest revision, from recorded operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prometheus_client.core import Metric

from adapters.prometheus import metric_families as families
from models.operations import Operation, OperationStatus

_BEHIND = frozenset({"failed", "held_back", "pinned"})
_NONE = ("", "")
_SOURCE = ("environment", "revision", "outcome")


def source_figures(recorded: Mapping[str, Sequence[Operation]]) -> list[Metric]:
    """The latest revision of each environment with a source and its outcome, from operations, newest first.

    The outcome is running, proven, failed (it was rolled back), held_back (no sync takes it again), or pinned (a
    rollback went there, and syncs stay). An environment is behind where its latest revision is failed or held back,
    or where it is pinned.
    """
    revisions: list[tuple[tuple[str, ...], float]] = []
    behind, synced = [], []
    for environment, operations in sorted(recorded.items()):
        outcomes = (outcome for operation in operations if (outcome := _outcome(operation)) is not None)
        for outcome in [latest for latest in [next(outcomes, None)] if latest is not None]:
            revisions.append(((environment, *outcome), 1.0))
            behind.append(((environment,), float(outcome[1] in _BEHIND)))
        proven = (operation.ended_at for operation in operations if (_outcome(operation) or _NONE)[1] == "proven")
        synced += [((environment,), at.timestamp()) for at in [next(proven, None)] if at is not None]
    about = "1 for the latest revision of an environment's source, with what became of it."
    return [
        families.gauge("roas_source_revision_info", about, *_SOURCE, samples=revisions),
        families.gauge(
            "roas_source_behind",
            "Whether an environment runs another revision than the latest one of its source that a sync tried.",
            "environment",
            samples=behind,
        ),
        families.gauge(
            "roas_source_synced_timestamp_seconds",
            "When a revision of an environment's source was proven last, in Unix time.",
            "environment",
            samples=synced,
        ),
    ]


def _outcome(operation: Operation) -> tuple[str, str] | None:
    record = operation.record
    if record.pinned is not None and operation.status is OperationStatus.SUCCESS:
        return record.pinned[:12], "pinned"
    if record.source is None:
        return None
    revision = record.source.brief
    if operation.status is OperationStatus.SUCCESS:
        return revision, "proven"
    if operation.status is OperationStatus.FAILED:
        return revision, "held_back" if record.revision_held_back else "failed"
    return revision, "running"
