"""Text output of `roas history --verify`."""

from __future__ import annotations

from collections.abc import Sequence

from flows.common.terminal import echo
from models.audit import AuditReport


def show_audit(reports: Sequence[AuditReport]) -> None:
    """Print each finding on a line, then the numbers compared and the hashes to note."""
    findings = [finding for report in reports for finding in report.findings]
    for finding in findings:
        echo(str(finding))
    for report in reports:
        for file in report.missing_archives:
            echo(f"{report.store}: archive {file} is gone, so its rows were not compared")
        counts = f"{report.entries:,} entries, {report.rows:,} rows and {report.archives:,} archives compared"
        echo(f"{report.store}: {counts}; head {report.head}")
    if findings:
        echo(f"{len(findings)} findings: the record was changed")
        return
    heads = " ".join(f"--expect {report.head}" for report in reports)
    echo("The record is unchanged. Note these hashes elsewhere; later they prove that nothing was removed:")
    echo(f"  roas history --verify {heads}")
