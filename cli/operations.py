"""`roas` commands that change an environment, and those that check and plan a change."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from cli.options import as_json, bare_compose, named, of_environment, of_its_records, waiting
from cli.run_flow import run_flow, show_answer, show_operation


def register(group: click.Group) -> None:
    """Add the commands of this module to `roas`."""
    for command in (start, stop, restart, health, rollback, releases, validate, plan, drift):
        group.add_command(command)


@click.command()
@of_environment
@bare_compose
@click.option("--plan", "plan_id", metavar="ID", help="Do exactly what `roas plan` printed under this id, or nothing.")
@waiting
@as_json
def start(
    environment: str | None,
    files: tuple[Path, ...],
    project: str | None,
    plan_id: str | None,
    wait_seconds: float,
    json_wanted: bool,
) -> None:
    """Validate, start in dependency order, verify health, record everything; roll back on failure."""
    _operate("start", environment, files, project, json_wanted, plan=plan_id, wait_seconds=wait_seconds)


@click.command()
@of_environment
@bare_compose
@waiting
@as_json
def stop(
    environment: str | None, files: tuple[Path, ...], project: str | None, wait_seconds: float, json_wanted: bool
) -> None:
    """Stop in reverse order, honouring each service's grace period."""
    _operate("stop", environment, files, project, json_wanted, wait_seconds=wait_seconds)


@click.command()
@of_environment
@click.argument("services", nargs=-1)
@bare_compose
@waiting
@as_json
def restart(
    environment: str | None,
    services: tuple[str, ...],
    files: tuple[Path, ...],
    project: str | None,
    wait_seconds: float,
    json_wanted: bool,
) -> None:
    """Restart all services, or the named ones, in dependency order."""
    _operate(
        "restart", environment, files, project, json_wanted, services=list(services) or None, wait_seconds=wait_seconds
    )


@click.command()
@of_environment
@bare_compose
@as_json
def health(environment: str | None, files: tuple[Path, ...], project: str | None, json_wanted: bool) -> None:
    """Probe every service and record the result."""
    _operate("health", environment, files, project, json_wanted)


@click.command()
@click.argument("environment")
@click.argument("release", required=False)
@waiting
@as_json
def rollback(environment: str, release: str | None, wait_seconds: float, json_wanted: bool) -> None:
    """Return to an earlier release: RELEASE (a prefix is enough), or the latest that differs."""
    _operate("rollback", environment, (), None, json_wanted, release=release, wait_seconds=wait_seconds)


@click.command()
@of_its_records
@as_json
def releases(environment: str, json_wanted: bool) -> None:
    """List releases, newest first, with the changes between them."""
    from cli.rendering.releases import show_releases
    from tasks.reporting.read import read_releases

    show_answer(read_releases(environment), json_wanted, show_releases)


@click.command()
@of_environment
@bare_compose
@as_json
def drift(environment: str | None, files: tuple[Path, ...], project: str | None, json_wanted: bool) -> None:
    """Compare running with declared services. Exit code 1 if they differ."""
    from cli.rendering.releases import show_drift

    name, compose = named(environment, files, project)

    async def run() -> Any:
        from flows.deployment.drift import drift as flow

        return await flow(name, compose_files=compose)

    report = run_flow(run, quiet=True)
    show_answer(report, json_wanted, show_drift)
    if not report.clean:
        sys.exit(1)


@click.command()
@of_environment
@bare_compose
@as_json
def validate(environment: str | None, files: tuple[Path, ...], project: str | None, json_wanted: bool) -> None:
    """Run the checks of a start and change nothing. Exit code 1 if a finding would stop the start."""
    import asyncio

    from adapters.preflight import gather_facts
    from cli.rendering.results import show_validation
    from core.deployment.validate import validate as judge
    from tasks.deployment.operations import held_by
    from tasks.runtime.clients import find_environment, redactor_of

    name, compose = named(environment, files, project)
    declared = find_environment(name, tuple(compose or ()))
    facts = asyncio.run(gather_facts(declared, held_by=held_by(name)))
    result = judge(facts, datetime.now(UTC), redactor_of(declared).text)
    show_answer(result, json_wanted, show_validation)
    if not result.passed:
        sys.exit(1)


@click.command()
@of_environment
@bare_compose
@as_json
def plan(environment: str | None, files: tuple[Path, ...], project: str | None, json_wanted: bool) -> None:
    """Show what a start would do with each service, and because of which change; change nothing."""
    from cli.rendering.releases import show_plan
    from tasks.deployment.services import read_plan
    from tasks.runtime.clients import find_environment

    name, compose = named(environment, files, project)
    show_answer(read_plan(find_environment(name, tuple(compose or ()))), json_wanted, show_plan)


def _operate(
    kind: str,
    environment: str | None,
    files: tuple[Path, ...],
    project: str | None,
    json_wanted: bool,
    **parameters: Any,
) -> None:
    """Run one operation's flow and show its stored record."""
    name, compose = named(environment, files, project)

    async def run() -> Any:
        from flows.runtime.registry import FLOWS

        flow: Callable[..., Any] = FLOWS[kind]
        return await flow(
            name,
            asked_by=f"roas {kind}",
            compose_files=compose,
            return_state=True,
            **parameters,
        )

    state = run_flow(run, quiet=json_wanted)
    from tasks.reporting.read import operation_of_run

    show_operation(operation_of_run(name, str(state.state_details.flow_run_id)), json_wanted)
    if not state.is_completed():
        sys.exit(1)
