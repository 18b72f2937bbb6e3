"""Reports of scanners, and the difference between two images. The reports have the shapes of the programs' own."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from core.deployment.scan import difference, not_scanned, read_grype, read_trivy
from models.gates import GateOutcome, ImageFinding, ImageScan, ImageScanResult

TRIVY: dict[str, Any] = {
    "SchemaVersion": 2,
    "ArtifactName": "shop/web:1",
    "ArtifactType": "container_image",
    "Results": [
        {
            "Target": "shop/web:1 (debian 13.1)",
            "Class": "os-pkgs",
            "Type": "debian",
            "Vulnerabilities": [
                {
                    "VulnerabilityID": "CVE-2026-1",
                    "PkgID": "openssl@3.0.1",
                    "PkgName": "openssl",
                    "InstalledVersion": "3.0.1",
                    "FixedVersion": "3.0.2",
                    "Severity": "CRITICAL",
                }
            ],
        },
        {"Target": "app/package-lock.json", "Class": "lang-pkgs", "Type": "npm"},
    ],
}
GRYPE: dict[str, Any] = {
    "matches": [
        {
            "vulnerability": {
                "id": "CVE-2026-1",
                "severity": "Critical",
                "fix": {"versions": ["3.0.2"], "state": "fixed"},
            },
            "artifact": {"name": "openssl", "version": "3.0.1", "type": "deb"},
        }
    ]
}
FINDING = ImageFinding(
    finding_id="CVE-2026-1", package="openssl", version="3.0.1", severity="critical", fixed_in="3.0.2"
)
WANTED = ImageScan()


def scan(*findings: ImageFinding) -> ImageScanResult:
    return ImageScanResult(image_id="sha256:1", program="trivy", scanned_at=datetime.now(UTC), findings=findings)


def test_reports_of_both_scanners_are_read() -> None:
    assert read_trivy(TRIVY) == read_grype(GRYPE) == (FINDING,)
    assert read_trivy({"SchemaVersion": 2}) == read_trivy({"Results": None}) == read_grype({"matches": []}) == ()


@pytest.mark.parametrize("report", [[], None, "x", {"Results": "x"}, {"Results": {}}, {"matches": None}])
def test_what_is_no_report_is_refused(report: Any) -> None:
    for read in (read_trivy, read_grype):
        if not (read is read_trivy and isinstance(report, dict) and "Results" not in report):
            with pytest.raises(ValueError, match="no report"):
                read(report)


def test_a_report_with_wrong_fields_gives_what_can_be_read() -> None:
    odd = {"Results": [3, {"Vulnerabilities": [None, {"VulnerabilityID": ["x"]}, {"VulnerabilityID": "CVE-2026-2"}]}]}
    assert read_trivy(odd) == (ImageFinding(finding_id="CVE-2026-2", package=""),)
    assert read_grype({"matches": [None, {"vulnerability": 3, "artifact": []}]}) == ()


def test_a_new_finding_refuses_and_an_old_one_does_not() -> None:
    assert difference("web", WANTED, scan(FINDING), scan(FINDING)).outcome is GateOutcome.PASSED
    found = difference("web", WANTED, scan(FINDING), scan())
    assert (found.outcome, found.counting, found.appeared) == (GateOutcome.REFUSED, (FINDING,), 1)


def test_the_same_finding_in_another_version_of_the_package_is_not_new() -> None:
    older = replace(FINDING, version="3.0.0")
    assert difference("web", WANTED, scan(FINDING), scan(older)).outcome is GateOutcome.PASSED


def test_fixed_findings_are_counted() -> None:
    others = [replace(FINDING, finding_id=f"CVE-2025-{number}") for number in range(3)]
    found = difference("web", WANTED, scan(FINDING), scan(*others))
    assert (found.fixed, found.appeared) == (3, 1)


@pytest.mark.parametrize(
    ("severity", "fail_on", "counts"),
    [
        ("critical", "high", True),
        ("high", "high", True),
        ("medium", "high", False),
        ("high", "critical", False),
        ("low", "low", True),
        ("negligible", "low", False),
        ("unknown", "low", False),
    ],
)
def test_only_findings_of_a_severity_count(severity: str, fail_on: Any, counts: bool) -> None:
    found = difference("web", ImageScan(fail_on=fail_on), scan(replace(FINDING, severity=severity)), scan())
    assert bool(found.counting) is counts
    assert found.appeared == 1


def test_accepted_findings_never_count() -> None:
    assert difference("web", ImageScan(accepted=("CVE-2026-1",)), scan(FINDING), scan()).outcome is GateOutcome.PASSED


def test_a_first_image_is_reported_and_never_refused() -> None:
    assert difference("web", WANTED, scan(FINDING), None).outcome is GateOutcome.WARNED


def test_settings_say_what_follows() -> None:
    warns = ImageScan(failure="warn", unavailable="refuse")
    assert difference("web", warns, scan(FINDING), scan()).outcome is GateOutcome.WARNED
    assert not_scanned("web", warns, "no database").outcome is GateOutcome.REFUSED
    assert not_scanned("web", WANTED, "").problem == "no reason was given"
