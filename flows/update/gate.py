"""Let the gate of an environment decide whether the images that an update fetched may run."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from core.common.safe_text import printable, shorten
from core.deployment.gate import advice, changed_services, record_gate, refusal, warnings, without_secrets
from flows.common.requester import requester
from flows.operation.recorder import OperationRecorder
from flows.update.context import Update
from models.failures import BadInputError, GateRefusedError
from models.gates import GateOutcome, GateReport
from models.operations.record import GateOverride, GateRecord
from models.records import Release
from tasks.deployment.gate import gather_document, judge_policies, scan_images
from tasks.recovery.notify import announce

log = logging.getLogger("roas")

GATE_REFUSED = "roas.gate.refused"
"""The gate of an environment refused the images of an update."""

JUDGED = "judged"
"""Step of an update: its gate let it go on; its detail is what the record keeps of that."""

_LONGEST_REASON = 300


async def check_gate(update: Update) -> str | None:
    """Judge policies and scan images; returns the detail of its step, None where nothing new was decided.

    Raises:
        GateRefusedError: The gate refuses the update.
    """
    recorder, environment, release = update.recorder, update.environment, update.release
    gate = environment.gate
    if gate is None:
        if update.override_gate is not None:
            log.warning("%s has no gate, so there is nothing to override", environment.name)
        return None
    if (detail := recorder.step_detail(JUDGED)) is not None:
        recorder.record.gate = GateRecord.model_validate_json(detail)
        return None
    document = await gather_document(update.project, update.application, update.plan)
    policies = await judge_policies(environment, document) if gate.policies else ()
    images = _images(document, release)
    scans = await scan_images(environment, gate.scan, images) if gate.scan is not None and images else ()
    report = without_secrets(
        GateReport(environment=environment.name, policies=policies, scans=scans), recorder.redactor
    )
    recorder.record.gate = record = record_gate(report, datetime.now(UTC))
    for warning in warnings(report):
        log.warning("gate: %s", warning)
    if report.outcome is GateOutcome.REFUSED:
        recorder.record.gate = record = _refuse_or_override(recorder, report, record, update.override_gate)
    else:
        log.info("the gate let %s images go on: %s", len(images), record.outcome)
    return record.model_dump_json()


def override_reason(text: str | None) -> str | None:
    """The reason of an override as it is recorded.

    Raises:
        BadInputError: It says nothing.
    """
    if text is None:
        return None
    reason = shorten(printable(text), _LONGEST_REASON)
    if not reason:
        raise BadInputError(
            "An override of the gate needs a reason;", advice="say why the update may run all the same."
        )
    return reason


def _refuse_or_override(
    recorder: OperationRecorder, report: GateReport, record: GateRecord, override: str | None
) -> GateRecord:
    why = refusal(report)
    if override is None:
        command = "update" if recorder.record.source is None else "sync"
        announce(GATE_REFUSED, recorder.name, deployment_id=recorder.deployment_id, text=why)
        raise GateRefusedError(why, advice=advice(report, f"roas {command} --override-gate REASON {recorder.name}"))
    by, _ = requester(None)
    by_person = GateOverride(by=by, reason=recorder.redactor.text(override))
    log.warning("%s overrides the gate (%s): %s", by, by_person.reason, why)
    return record.model_copy(update={"outcome": str(GateOutcome.OVERRIDDEN), "override": by_person})


def _images(document: dict[str, Any], release: Release | None) -> dict[str, tuple[str, str | None]]:
    """The ids of the new image and of the one before, of each service whose image changes."""
    changed, images = set(changed_services(document)), {}
    for service in document["services"]:
        new, running = service.get("new"), service["running"]
        before = (release.images.get(service["name"]) if release else None) or (running["id"] if running else None)
        if service["name"] in changed and new is not None and new["id"] != before:
            images[service["name"]] = (new["id"], before)
    return images
