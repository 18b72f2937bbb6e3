"""The hooks of updates as metrics: of each hook its latest run among the recorded operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from prometheus_client.core import Metric

from adapters.prometheus import metric_families as families
from core.deployment.hooks import AFTER_ROLLBACK
from models.operations import Operation
from models.operations.record import HookRun

_HOOK = ("environment", "hook", "when", "outcome")


def hook_figures(recorded: Mapping[str, Sequence[Operation]]) -> list[Metric]:
    """When the latest run of each hook ended, how it ended and how long it took, from operations, newest first.

    The outcome is success, failed, or warned where a failure did not end the update.
    """
    latest: dict[tuple[str, str], HookRun] = {}
    for environment, operations in recorded.items():
        for operation in operations:
            for run in reversed(operation.record.hooks):
                if run.when == AFTER_ROLLBACK:
                    continue
                latest.setdefault((environment, run.name), run)
    ends, took = [], []
    for (environment, _), run in sorted(latest.items()):
        outcome = "success" if run.ok else "warned" if run.warns else "failed"
        labels = (environment, run.name, run.when, outcome)
        ends.append((labels, (run.began_at + timedelta(seconds=run.took_seconds)).timestamp()))
        took.append((labels, run.took_seconds))
    about = "When the latest run of a hook ended, in Unix time."
    return [
        families.gauge("roas_hook_ended_timestamp_seconds", about, *_HOOK, samples=ends),
        families.gauge("roas_hook_took_seconds", "How long that run took.", *_HOOK, samples=took),
    ]
