"""Decide whether fetched images may run: the document that policies judge, and what their answers mean."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from core.common.safe_text import printable, shorten
from core.deployment.plan import plan_id
from models.compose import Application, ImageFact, Plan, PlannedAction, PlannedService, ServiceDeclaration
from models.gates import GateOutcome, GatePolicy, GateReport, ImageFinding, PolicyAnswer, PolicyResult, ScanDifference
from models.operations.record import GateRecord, ScanRecord


class TextRedactor(Protocol):
    """Removes secrets from a text."""

    def text(self, text: str) -> str:
        """The text without secrets."""


DOCUMENT_VERSION = 1
"""It grows when a field changes its meaning or goes away, not when one is added."""

CHANGED = (PlannedAction.CREATE, PlannedAction.RECREATE)
"""Actions that make containers, and so take a new image where there is one."""

_OF_IMAGES = ("new", "user")
"""Fields of a service that are not known before its image is fetched."""

_ASKS_WHETHER = re.compile(r"\bhas\s*\(")
_USES_THEM = re.compile(rf"\.\s*(?:{'|'.join(_OF_IMAGES)})\b")
_SHOWN_FINDINGS = 3
_KEPT_FINDINGS = 50
_DAY = 86_400.0
_MIB = 1024 * 1024


def gate_document(
    environment: str,
    application: Application,
    plan: Plan,
    *,
    new: Mapping[str, ImageFact | None],
    running: Mapping[str, ImageFact | None],
    now: datetime,
    pending: Collection[str] = (),
) -> dict[str, Any]:
    """Return the document that policies judge, as JSON values.

    `new` are the images that the services' containers have after the update, `running` those of the containers that are
    there. The services of `pending` have no field `new`, and `user` only where it is declared: their images are not
    fetched yet.
    """
    services = []
    for line in plan.services:
        name, images = line.service, (new.get(line.service), running.get(line.service))
        services.append(_service(application.services[name], line, *images, now, pending=name in pending))
    return {
        "version": DOCUMENT_VERSION,
        "now": _moment(now),
        "environment": {"name": environment, "project": application.project},
        "plan": {"id": plan_id(plan), "changes": [line.service for line in plan.changes]},
        "services": services,
    }


def not_fetched(plan: Plan) -> frozenset[str]:
    """Return the services whose image is not known before the fetch, because it may become another one."""
    return frozenset(
        fetch.service for fetch in plan.fetches if not fetch.held_back and (fetch.changes or not fetch.settled)
    )


def changed_services(document: Mapping[str, Any]) -> list[str]:
    """Return the services of the document whose containers the update makes."""
    return [service["name"] for service in document["services"] if service["action"] in CHANGED]


def is_about_one_service(expression: str) -> bool:
    """Whether an expression speaks of `service`, and so is asked of each changed service by itself."""
    without_texts = re.sub(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'", "''", expression)
    is_bound = re.search(r"\(\s*service\s*,", without_texts) is not None
    return not is_bound and re.search(r"(?<![.\w])service\b(?!\s*\()", without_texts) is not None


def outcomes_of_policies(
    policies: Sequence[GatePolicy], answers: Mapping[str, PolicyAnswer], *, pending: Collection[str] = ()
) -> tuple[PolicyResult, ...]:
    """Return the outcome of each policy. One that was not or could not be judged is not met.

    With `pending` services, a policy that needs their images waits for them.
    """
    nothing = PolicyAnswer(met=None, reason="it was not judged")
    return tuple(_result(policy, answers.get(policy.name, nothing), pending) for policy in policies)


def waits_for_images(policy: GatePolicy, pending: Collection[str]) -> bool:
    """Whether a policy cannot be judged before the fetch at all: a command, or one that asks whether a field exists."""
    if not pending:
        return False
    if policy.expression is None:
        return True
    return bool(_ASKS_WHETHER.search(policy.expression) and _USES_THEM.search(policy.expression))


def without_secrets(report: GateReport, redactor: TextRedactor) -> GateReport:
    """Return the report as it may be recorded and shown: commands and scanners print what they like."""
    return replace(
        report,
        policies=tuple(replace(result, reason=redactor.text(result.reason)) for result in report.policies),
        scans=tuple(replace(scan, problem=redactor.text(scan.problem)) for scan in report.scans),
    )


def refusal(report: GateReport) -> str:
    """Return in one sentence why the gate refuses the update; empty where it does not."""
    policies, scans = _select_by_outcome(report, GateOutcome.REFUSED)
    reasons = [*(f"policy {result.policy}: {result.reason}" for result in policies), *map(scan_text, scans)]
    if not reasons:
        return ""
    return f"The gate of {report.environment} refused the update: {'; '.join(reasons)}."


def advice(report: GateReport, override: str) -> str:
    """Return what to do about a refusal: what its policies and scans ask for, or the command that overrides it."""
    policies, scans = _select_by_outcome(report, GateOutcome.REFUSED)
    sentences = ["No container was touched."]
    if policies:
        which = f"{'policy' if len(policies) == 1 else 'policies'} {', '.join(result.policy for result in policies)}"
        sentences.append(f"Change what {which} names, in the Compose files or the image, or the policy itself.")
    if scans:
        sentences.append("Publish an image without these vulnerabilities.")
    return " ".join([*sentences, f"Or go on all the same: `{override}`."])


def warnings(report: GateReport) -> tuple[str, ...]:
    """Return what the gate warns of, a sentence each."""
    policies, scans = _select_by_outcome(report, GateOutcome.WARNED)
    return (*(f"policy {result.policy} is not met: {result.reason}" for result in policies), *map(scan_text, scans))


def _select_by_outcome(report: GateReport, outcome: GateOutcome) -> tuple[list[PolicyResult], list[ScanDifference]]:
    policies = [result for result in report.policies if result.outcome is outcome]
    return policies, [scan for scan in report.scans if scan.outcome is outcome]


def scan_text(scan: ScanDifference) -> str:
    """Return what a scan found, as text: web: 3 fixed, 1 new: CVE-2024-12345 (high) in openssl 3.0.1."""
    if scan.problem:
        return f"{scan.service}: its image was not scanned: {scan.problem}"
    if not scan.compared:
        return f"{scan.service}: {scan.appeared} known vulnerabilities, and no earlier image to compare with"
    shown = ", ".join(_finding_text(finding) for finding in scan.counting[:_SHOWN_FINDINGS])
    more = len(scan.counting) - _SHOWN_FINDINGS
    beyond = f" and {more} more" if more > 0 else ""
    counting = f", of which count: {shown}{beyond}" if shown and scan.appeared > len(scan.counting) else ""
    exact = f": {shown}{beyond}" if shown and not counting else ""
    return f"{scan.service}: {scan.fixed} fixed, {scan.appeared} new{exact}{counting}"


def record_gate(report: GateReport, at: datetime | None = None) -> GateRecord:
    """Return what the record of an update keeps of its gate; `at` is when it was asked."""
    scans = tuple(
        ScanRecord(
            service=scan.service,
            outcome=str(scan.outcome),
            program=scan.program,
            text=scan_text(scan),
            fixed=scan.fixed,
            new=scan.appeared,
            counting=tuple(_finding_facts(finding) for finding in scan.counting[:_KEPT_FINDINGS]),
        )
        for scan in report.scans
    )
    text = refusal(report) or "; ".join(warnings(report))
    record = GateRecord(outcome=str(report.outcome), text=text, policies=report.policies, scans=scans)
    return record if at is None else record.model_copy(update={"judged_at": at})


def _service(
    declaration: ServiceDeclaration,
    line: PlannedService,
    new: ImageFact | None,
    running: ImageFact | None,
    now: datetime,
    *,
    pending: bool,
) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": declaration.name,
        "action": str(line.action),
        "reason": line.because,
        "interruption": str(line.interruption),
        "image": declaration.image,
        "privileged": declaration.privileged,
        "read_only": declaration.read_only,
        "host_network": declaration.host_network,
        "capabilities": {
            "added": list(declaration.capabilities_added),
            "dropped": list(declaration.capabilities_dropped),
        },
        "ports": [
            {"target": port.target, "published": port.published, "host_ip": port.host_ip, "protocol": port.protocol}
            for port in declaration.ports
        ],
        "mounts": [
            {"kind": str(mount.kind), "source": mount.source, "target": mount.target, "read_only": mount.read_only}
            for mount in declaration.mounts
        ],
        "running": _image(running, declaration.image, now),
    }
    if declaration.user:
        fields["user"] = declaration.user
    if pending:
        return fields
    return {"user": "" if new is None else new.user} | fields | {"new": _image(new, declaration.image, now)}


def _image(fact: ImageFact | None, name: str, now: datetime) -> dict[str, Any] | None:
    if fact is None:
        return None
    return {
        "id": fact.image_id,
        "digest": fact.digest_under(name).rpartition("@")[2],
        "platform": fact.platform,
        "created_at": None if fact.created_at is None else _moment(fact.created_at),
        "age_days": None if fact.created_at is None else (now - fact.created_at).total_seconds() / _DAY,
        "size_mib": fact.size_bytes / _MIB,
        "user": fact.user,
        "health_check": fact.checked,
        "labels": dict(fact.label_values),
    }


def _moment(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _result(policy: GatePolicy, answer: PolicyAnswer, pending: Collection[str]) -> PolicyResult:
    if answer.met:
        return PolicyResult(policy=policy.name, outcome=GateOutcome.PASSED)
    if waits_for_images(policy, pending) or (pending and answer.missing in _OF_IMAGES):
        of = ", ".join(sorted(pending))
        return PolicyResult(policy=policy.name, outcome=GateOutcome.WAITS, reason=f"it needs the new image of {of}")
    outcome = GateOutcome.REFUSED if policy.failure == "refuse" else GateOutcome.WARNED
    return PolicyResult(policy=policy.name, outcome=outcome, reason=shorten(printable(_reason(policy, answer))))


def _reason(policy: GatePolicy, answer: PolicyAnswer) -> str:
    named = f"{', '.join(answer.services)}: " if answer.services else ""
    if answer.met is None:
        return f"{named}it could not be judged: {answer.reason}"
    reason = ": ".join(part for part in (policy.message, answer.reason) if part)
    return f"{named}{reason or f'{shorten(policy.expression or str(policy.name), 200)} is false'}"


def _finding_text(finding: ImageFinding) -> str:
    fixed = f", fixed in {finding.fixed_in}" if finding.fixed_in else ""
    return printable(
        f"{finding.finding_id} ({finding.severity}) in {finding.package} {finding.version}{fixed}".replace("  ", " ")
    )


def _finding_facts(finding: ImageFinding) -> dict[str, str]:
    named = {name: getattr(finding, name) for name in ("severity", "package", "version", "fixed_in")}
    return {"id": finding.finding_id, **named}
