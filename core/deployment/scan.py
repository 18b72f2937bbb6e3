"""Read the reports of vulnerability scanners, and decide on the difference between two images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from models.gates import GateOutcome, ImageFinding, ImageScan, ImageScanResult, ScanDifference

SEVERITIES = ("critical", "high", "medium", "low")
"""Severities that may decide, the highest first. `negligible` and `unknown` never do."""

_LONGEST = 200


def read_trivy(report: Any) -> tuple[ImageFinding, ...]:
    """Return the findings of `trivy image --format json`.

    Raises:
        ValueError: It is no such report.
    """
    if not isinstance(report, Mapping) or not isinstance(report.get("Results", []), list | None):
        raise ValueError("it is no report of trivy")
    return _unique(
        _finding(
            vulnerability,
            "VulnerabilityID",
            "PkgName",
            "InstalledVersion",
            "Severity",
            vulnerability.get("FixedVersion"),
        )
        for target in report.get("Results") or ()
        for vulnerability in _mapping(target).get("Vulnerabilities") or ()
        if isinstance(vulnerability, Mapping)
    )


def read_grype(report: Any) -> tuple[ImageFinding, ...]:
    """Return the findings of `grype -o json`.

    Raises:
        ValueError: It is no such report.
    """
    if not isinstance(report, Mapping) or not isinstance(report.get("matches"), list):
        raise ValueError("it is no report of grype")
    return _unique(_grype_findings(report["matches"]))


def difference(
    service: str, settings: ImageScan, new: ImageScanResult, before: ImageScanResult | None
) -> ScanDifference:
    """Decide on what the new image brings: findings whose id and package the image before did not have.

    A first image has nothing to be compared with: it is reported, and refused never.
    """
    findings = {(finding.finding_id, finding.package): finding for finding in new.findings}
    keys_before = (
        {(finding.finding_id, finding.package) for finding in before.findings} if before is not None else set()
    )
    appeared = [finding for key, finding in findings.items() if key not in keys_before]
    counting = tuple(
        sorted(
            (finding for finding in appeared if _counts(finding, settings)),
            key=lambda finding: (SEVERITIES.index(finding.severity), finding.finding_id, finding.package),
        )
    )
    scan_difference = ScanDifference(
        service=service,
        outcome=GateOutcome.PASSED,
        program=new.program,
        counting=counting,
        appeared=len(appeared),
        fixed=len(keys_before - findings.keys()),
        compared=before is not None,
    )
    if before is None:
        return replace(scan_difference, outcome=GateOutcome.WARNED if counting else GateOutcome.PASSED)
    return replace(scan_difference, outcome=_outcome_of(settings.failure)) if counting else scan_difference


def not_scanned(service: str, settings: ImageScan, problem: str) -> ScanDifference:
    """Return what follows where a service's image could not be scanned."""
    outcome, why = _outcome_of(settings.unavailable), problem or "no reason was given"
    return ScanDifference(service=service, outcome=outcome, compared=False, problem=why)


def scan_waits(service: str) -> ScanDifference:
    """Return that a service's new image can be scanned only once it is fetched."""
    return ScanDifference(service=service, outcome=GateOutcome.WAITS, problem="it is not fetched yet", compared=False)


def _outcome_of(failure: str) -> GateOutcome:
    return GateOutcome.REFUSED if failure == "refuse" else GateOutcome.WARNED


def _counts(finding: ImageFinding, settings: ImageScan) -> bool:
    counting = SEVERITIES[: SEVERITIES.index(settings.fail_on) + 1]
    return finding.severity in counting and finding.finding_id not in settings.accepted


def _grype_findings(matches: Iterable[Any]) -> Iterator[ImageFinding]:
    for match in matches:
        vulnerability, package = (
            _mapping(_mapping(match).get("vulnerability")),
            _mapping(_mapping(match).get("artifact")),
        )
        versions = _mapping(vulnerability.get("fix")).get("versions")
        fixed = ", ".join(map(str, versions)) if isinstance(versions, list) else ""
        both = {"id": vulnerability.get("id"), "severity": vulnerability.get("severity"), **_name_fields(package)}
        yield _finding(both, "id", "name", "version", "severity", fixed)


def _name_fields(package: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": package.get("name"), "version": package.get("version")}


def _finding(
    entry: Mapping[str, Any], finding_id: str, package: str, version: str, severity: str, fixed: Any
) -> ImageFinding:
    return ImageFinding(
        finding_id=_text(entry.get(finding_id)),
        package=_text(entry.get(package)),
        version=_text(entry.get(version)),
        severity=_text(entry.get(severity)).lower() or "unknown",
        fixed_in=_text(fixed),
    )


def _unique(findings: Iterable[ImageFinding]) -> tuple[ImageFinding, ...]:
    """A package may be found at several places of an image."""
    return tuple(
        sorted({(finding.finding_id, finding.package): finding for finding in findings if finding.finding_id}.values())
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return str(value)[:_LONGEST] if isinstance(value, str | int | float) else ""
