"""`roas history`: recorded operations, one of them in detail, and verification of the audit log."""

from __future__ import annotations

import re
import sys

import click

from cli import completers
from cli.options import as_json, is_environment
from cli.run_flow import opened_stores, show_answer
from models.failures import BadInputError

_HASH = re.compile(r"[0-9a-f]{64}")


@click.command()
@click.argument("about", required=False, metavar="[ENV|ID]", shell_complete=completers.operations_or_environments)
@click.option("--last", is_flag=True, help="Show the last operation, of ENV or of all, in detail.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000), help="How many.")
@click.option("--verify", is_flag=True, help="Verify the audit log instead; exit code 1 if the record was changed.")
@click.option(
    "--expect",
    "expected",
    multiple=True,
    metavar="HASH",
    help="With --verify: a hash that it printed earlier must still be in the log; may be repeated.",
)
@as_json
def history(
    about: str | None, last: bool, limit: int, verify: bool, expected: tuple[str, ...], json_wanted: bool
) -> None:
    """List deployment operations, newest first, or show the one of ID; with --verify, check the audit log.

    One is shown with its validation, services, health and errors. A prefix of its id is enough.
    """
    from cli.rendering.results import show_deployment, show_history

    if verify:
        _verify(about, expected, json_wanted)
        return
    if expected:
        raise BadInputError("--expect goes with --verify.")
    if last or not is_environment(about, opened_stores().operations.get):
        from tasks.reporting.read import read_deployment

        show_answer(read_deployment(about), json_wanted, show_deployment)
        return
    show_answer(opened_stores().operations.history(environment=about, limit=limit), json_wanted, show_history)


def _verify(environment: str | None, expected: tuple[str, ...], json_wanted: bool) -> None:
    from adapters.stores.audit_check import verify
    from cli.rendering.audit import show_audit

    if environment is not None:
        raise BadInputError("--verify reads the whole record;", advice="leave the environment out.")
    for digest in expected:
        if not _HASH.fullmatch(digest):
            raise BadInputError(
                f"{digest!r} is no hash;", advice="give the 64 digits that `roas history --verify` printed."
            )
    reports = verify(opened_stores(), expected)
    show_answer(reports, json_wanted, show_audit)
    if any(report.findings for report in reports):
        sys.exit(1)
