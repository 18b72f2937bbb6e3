"""`roas doctor`: what works on this machine, and the command that fixes what does not."""

from __future__ import annotations

import sys

import click

from cli import completers
from cli.options import as_json
from cli.run_flow import show_answer


@click.command()
@click.argument("environment", required=False, metavar="[ENV]", shell_complete=completers.environments)
@as_json
def doctor(environment: str | None, json_wanted: bool) -> None:
    """Check this machine: engine, Compose, Prefect, worker, watch, clock, disk, permissions.

    With ENV its engine, secrets and watch; without, the watch and secrets of every environment.
    It changes nothing. Exit code 1 if something is wrong; each wrong line names what fixes it.
    """
    from cli.rendering.doctor import show_diagnoses
    from models.doctor import FindingLevel
    from tasks.reporting.doctor import read_diagnoses

    diagnoses = read_diagnoses(environment)
    show_answer(diagnoses, json_wanted, show_diagnoses)
    if any(line.verdict is FindingLevel.WRONG for line in diagnoses):
        sys.exit(1)
