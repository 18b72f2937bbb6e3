"""`roas gate`: judge the policies that an update has to meet, without an update."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from cli.options import application_options, as_json

if TYPE_CHECKING:
    from models.compose import Plan
    from tasks.runtime.project import Project


@click.command()
@application_options
@click.option("--try", "expression", metavar="EXPRESSION", help="Judge this CEL expression instead of the policies.")
@click.option("--document", "document_wanted", is_flag=True, help="Print what policies judge, as JSON.")
@as_json
def gate(
    name: str, compose: list[str] | None, expression: str | None, document_wanted: bool, json_wanted: bool
) -> None:
    """Check the images that the engine has now against the policies of the gate; change nothing.

    Exit code 1 if they would refuse an update.
    """
    from cli.rendering.gate import show_gate_report
    from cli.rendering.results import print_json
    from core.deployment.gate import record_gate
    from models.gates import GateOutcome
    from tasks.deployment.gate import policies_to_judge, read_trial, try_gate
    from tasks.runtime.project import open_project

    project = open_project(name, tuple(compose or ()))
    policies = policies_to_judge(project.environment, expression)
    document = read_trial(project)
    if document_wanted:
        print_json(document)
        return
    report = try_gate(project, document, policies)
    if json_wanted:
        print_json(record_gate(report))
    else:
        show_gate_report(report)
    if report.outcome is GateOutcome.REFUSED:
        sys.exit(1)


def show_gated_plan(project: Project, plan: Plan, json_wanted: bool) -> None:
    """Print the plan of an update with what its gate says before the images are fetched."""
    from cli.rendering.gate import show_gate_report
    from cli.rendering.releases import show_plan
    from cli.rendering.results import print_json
    from core.deployment.gate import record_gate
    from core.deployment.plan import plan_id
    from tasks.deployment.gate import preview_gate

    report = preview_gate(project, plan)
    if json_wanted:
        print_json(plan, plan_id=plan_id(plan), gate=record_gate(report).model_dump(mode="json"))
        return
    show_plan(plan, project.environment.name, "update")
    show_gate_report(report)
