"""Read what the records say of a cause that is reported: its first cause, its decisive lines, who is affected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adapters.pattern_files import described_patterns, shipped_set
from core.common.stamps import without_stamp
from core.errors.evidence import failure_lines, shows_failure
from core.notifications.message import MOST_LINES
from models.evidence import EvidenceBundle, EvidenceOccasion
from models.notifications import NewsDetails, ReportedError
from models.operations.record import OperationRecord
from tasks.runtime.stores import open_stores

_BUNDLES = 5
"""So many of the newest bundles are read: each may have 256 KiB."""


def details_of(cause: ReportedError) -> NewsDetails:
    """Return the details of a cause from the stores.

    Raises:
        StoreError: They cannot be read.
    """
    stores, error, ticket = open_stores(), cause.error, cause.ticket
    bundles = stores.evidence.find(error_id=error.error_id, limit=_BUNDLES)
    failures = [bundle for bundle in bundles if bundle.occasion is EvidenceOccasion.FAILURE and shows_failure(bundle)]
    bundle = failures[-1] if failures else None
    impacts = stores.errors.impacts(error.error_id)
    affected = ticket.affected_services if ticket else ()
    operation = stores.operations.find(error.deployment_id) if error.deployment_id is not None else None
    record = operation.record if operation else OperationRecord()
    run = (ticket.flow_run_id if ticket else None) or record.flow_run_id
    return NewsDetails(
        first_cause=bundle.first_cause if bundle else "",
        means=_meaning(error.verdict.pattern_name),
        lines=_decisive_lines(bundle, error.evidence),
        affected=affected or (impacts[-1].affected_services if impacts else ()),
        flow_run_id=run,
        rollback=record.undone,
    )


def _meaning(pattern: str | None) -> str:
    return (
        next((description.means for description in described_patterns() if description.pattern.name == pattern), "")
        if pattern
        else ""
    )


def _decisive_lines(bundle: EvidenceBundle | None, evidence: dict[str, Any]) -> tuple[str, ...]:
    """Return the log lines that show the failure best; without a log, the last answers of its checks."""
    lines: Sequence[str] = [str(line) for line in evidence.get("logs") or ()]
    answers: Sequence[str] = [str(answer) for answer in evidence.get("probe_outputs") or ()]
    if bundle is not None:
        logs = [log for log in bundle.logs if log.service == bundle.cause_service]
        lines = logs[0].lines if logs else lines
        failed = [probe for probe in bundle.probes if probe.service == bundle.cause_service and not probe.ok]
        answers = [probe.output for probe in failed] or answers
    if any(line.strip() for line in lines):
        places = failure_lines(lines, MOST_LINES, shipped_set())
        return tuple(without_stamp(lines[place]).strip() for place in places)
    return tuple(" ".join(answer.split()) for answer in answers[-1:])
