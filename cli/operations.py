"""`roas` commands that change an environment, and those that check and plan a change."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from cli import completers
from cli.exit_codes import BAD_INPUT, FAILED
from cli.gate import show_gated_plan
from cli.options import (
    application_options,
    as_json,
    by_exit_code,
    leaves_environment_out,
    of_its_records,
    quiet,
    resolve_names,
    waiting,
)
from cli.run_flow import ask_the_record, ended_run, flow_run, run_flow, show_answer, show_operation
from models.failures import BadInputError, NotFoundError
from models.health import Health
from models.operations import COMMANDS, OWN_KINDS
from models.settings import current_settings

if TYPE_CHECKING:
    from flows.common.phases import PhaseClock


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a command prints of its operation."""

    json: bool
    only_outcome: bool = False
    timing: bool = False
    live: bool = False

    def start_clock(self) -> PhaseClock | None:
        """A clock that measures phases from now on, where they are to be printed."""
        if not self.timing:
            return None
        from flows.common.phases import measure_phases

        return measure_phases()


def with_output(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of what a command prints of its operation, as `output`."""

    @functools.wraps(command)
    def run(*, json_wanted: bool, only_outcome: bool, timing_wanted: bool | None = None, **params: Any) -> Any:
        live = timing_wanted is not None
        output = Output(json=json_wanted, only_outcome=only_outcome, timing=bool(timing_wanted), live=live)
        return command(output=output, **params)

    return quiet(as_json(run))


def with_live_output(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `with_output` to a command that shows its operation live, and --timing."""
    timing = click.option("--timing", "timing_wanted", is_flag=True, help="Print how long each phase took.")
    return timing(with_output(command))


@click.command()
@application_options
@click.option("--plan", "plan_id", metavar="ID", help="Do exactly what `roas plan` printed under this id, or nothing.")
@click.option("--pull", is_flag=True, help="Pull all images first, whatever their pull policy, except never.")
@click.option("--build", is_flag=True, help="Build all images that have a build section first.")
@waiting
@with_live_output
def start(
    name: str,
    compose: list[str] | None,
    plan_id: str | None,
    pull: bool,
    build: bool,
    wait_seconds: float,
    output: Output,
) -> None:
    """Validate, start in dependency order, verify health, record everything; roll back on failure.

    The place of a roas.yaml is remembered, so that later commands and `roas serve` find it from any folder.
    """
    if compose is None:
        from adapters.config.environment_files import remember_environment

        remember_environment(name, current_settings())
    operate("start", name, compose, output, plan=plan_id, wait_seconds=wait_seconds, pull=pull, build=build)


confirming = click.option(
    "--confirm", default="", metavar="NAME", help="The environment's name, where it is locked or others need it."
)


@click.command()
@application_options
@confirming
@waiting
@with_output
def stop(name: str, compose: list[str] | None, confirm: str, wait_seconds: float, output: Output) -> None:
    """Stop in reverse order, honouring each service's grace period."""
    operate("stop", name, compose, output, wait_seconds=wait_seconds, **confirmed(name, "stop", confirm))


def confirmed(name: str, kind: str, confirm: str, services: tuple[str, ...] = ()) -> dict[str, str]:
    """The parameter by which an operation is confirmed, where it has to be."""
    from cli.confirmation import confirm_by_name

    confirm = confirm_by_name(name, kind, confirm, services)
    return {"confirm": confirm} if confirm else {}


@click.command()
@application_options
@click.argument("services", nargs=-1, shell_complete=completers.services)
@confirming
@waiting
@with_output
def restart(
    name: str, compose: list[str] | None, services: tuple[str, ...], confirm: str, wait_seconds: float, output: Output
) -> None:
    """Restart all services, or the named ones, in dependency order."""
    more = confirmed(name, "restart", confirm, services)
    operate("restart", name, compose, output, services=list(services) or None, wait_seconds=wait_seconds, **more)


@click.command()
@application_options
@with_output
def health(name: str, compose: list[str] | None, output: Output) -> None:
    """Probe every service and record the result. Exit code 1 if a service is not well."""
    if operate("health", name, compose, output).health.overall is not Health.HEALTHY:
        sys.exit(FAILED)


@click.command()
@click.argument("environment", required=False, metavar="[ENV]", shell_complete=completers.environments)
@click.argument("release", required=False, shell_complete=completers.releases)
@click.option("--with-data", is_flag=True, help="Also put back its data; what was written since is lost.")
@click.option("--yes", is_flag=True, help="With --with-data: do not ask.")
@click.option("--dry-run", is_flag=True, help="Only show what would be brought back, undone and lost.")
@confirming
@waiting
@with_output
def rollback(
    environment: str | None,
    release: str | None,
    with_data: bool,
    yes: bool,
    dry_run: bool,
    confirm: str,
    wait_seconds: float,
    output: Output,
) -> None:
    """Return to an earlier release: RELEASE (a prefix is enough), or the latest that differs."""
    if release is None and leaves_environment_out(environment):
        environment, release = None, environment
    name, compose = resolve_names(environment, (), None)
    if dry_run:
        _preview_rollback(name, compose, release, with_data, json_wanted=output.json)
        return
    more: dict[str, Any] = confirmed(name, "rollback", confirm)
    if with_data:
        from cli.confirmation import confirm_rollback

        release = confirm_rollback(name, release, yes=yes)
        more["with_data"] = True
    operate("rollback", name, compose, output, release=release, wait_seconds=wait_seconds, **more)


def _preview_rollback(
    name: str, compose: list[str] | None, release: str | None, with_data: bool, *, json_wanted: bool
) -> None:
    import asyncio

    from cli.confirmation import show_rollback_preview
    from tasks.runtime.project import open_project
    from tasks.storage.previews import preview_rollback

    project = open_project(name, tuple(compose or ()))
    preview = asyncio.run(preview_rollback(project, release, with_data=with_data))
    show_answer(preview, json_wanted, show_rollback_preview)


@click.command()
@of_its_records
@as_json
def releases(environment: str, json_wanted: bool) -> None:
    """List releases, newest first, with the changes between them."""
    from cli.rendering.releases import show_releases
    from tasks.reporting.read import read_releases

    show_answer(read_releases(environment), json_wanted, show_releases)


@click.command()
@application_options
@by_exit_code
@as_json
def drift(name: str, compose: list[str] | None, differs_is_failure: bool, json_wanted: bool) -> None:
    """Compare running with declared services. With --exit-code, exit code 1 if they differ."""
    from cli.rendering.releases import show_drift

    report = run_flow(flow_run("drift", name, compose_files=compose), quiet=True)
    show_answer(report, json_wanted, show_drift)
    if differs_is_failure and not report.clean:
        sys.exit(1)


@click.command()
@application_options
@as_json
def validate(name: str, compose: list[str] | None, json_wanted: bool) -> None:
    """Run the checks of a start and change nothing. Exit code 1 if a finding would stop the start."""
    import asyncio

    from adapters.preflight import gather_facts
    from cli.rendering.results import show_engine
    from core.deployment.validate import validate as judge
    from tasks.deployment.lease import holder_of
    from tasks.runtime.project import open_project

    project = open_project(name, tuple(compose or ()))
    facts = asyncio.run(gather_facts(project.environment, held_by=holder_of(name)))
    result = judge(facts, datetime.now(UTC), project.redactor().text)
    show_answer(result, json_wanted, show_engine)
    if not result.passed:
        sys.exit(1)


@click.command()
@application_options
@click.option("--update", "of_update", is_flag=True, help="Show what `roas update` would do: new images too.")
@by_exit_code
@as_json
def plan(name: str, compose: list[str] | None, of_update: bool, differs_is_failure: bool, json_wanted: bool) -> None:
    """Show what a start would do with each service, and because of which change; change nothing."""
    from cli.rendering.console import say
    from cli.rendering.releases import show_checkout, show_plan
    from cli.rendering.results import print_json
    from core.deployment.plan import plan_id
    from core.deployment.update_policy import outside_of_windows
    from models.compose import OF_UPDATE, FetchOptions
    from tasks.deployment.services import read_plan
    from tasks.runtime.project import open_project

    options = OF_UPDATE if of_update else FetchOptions()
    project = open_project(name, tuple(compose or ()))
    environment, deployment_plan = project.environment, read_plan(project, options)
    if of_update and environment.gate is not None and deployment_plan.changes:
        show_gated_plan(project, deployment_plan, json_wanted)
    else:
        # Before its first start an application without an environment's file is known by its Compose files alone.
        known_as = shlex.join(part for file in compose or () for part in ("-f", file)) or name
        command = "update" if of_update else "start"
        if json_wanted:
            print_json(deployment_plan, plan_id=plan_id(deployment_plan))
        else:
            show_plan(deployment_plan, known_as, command)
    if of_update and not json_wanted and (outside := outside_of_windows(name, environment.update, datetime.now(UTC))):
        say(outside.rstrip(";"))
    if environment.source is not None and not json_wanted:
        from tasks.deployment.source import source_of_checkout

        show_checkout(source_of_checkout(environment))
    if differs_is_failure and deployment_plan.changes:
        sys.exit(1)


def operate(kind: str, name: str, compose: list[str] | None, output: Output, **parameters: Any) -> Any:
    """Run one operation's flow, show its stored record, and return the flow's result."""
    clock, program = output.start_clock(), current_settings().asked_by

    # A warm process has imported it; for another one a server starts while it imports.
    if looked := "tasks.deployment.ahead" in sys.modules:
        _look_ahead(kind, name, compose, parameters)

    async def run() -> Any:
        if not looked:
            _look_ahead(kind, name, compose, parameters)
        asked_by = f"roas {COMMANDS.get(OWN_KINDS.get(kind, kind), kind)}{f', asked by {program}' if program else ''}"
        return await ended_run(kind, name, asked_by=asked_by, compose_files=compose, **parameters)()

    with ask_the_record(name, output.json, only_outcome=output.only_outcome):
        state, result = run_flow(run, quiet=output.json, only_errors=output.only_outcome, live=output.live)
    from tasks.reporting.read import operation_of_run

    try:
        operation = operation_of_run(name, str(state.state_details.flow_run_id))
    except NotFoundError:
        if isinstance(result, BadInputError):
            raise result from None
        raise
    show_operation(operation, output.json, only_outcome=output.only_outcome, clock=clock)
    if not state.is_completed():
        sys.exit(BAD_INPUT if isinstance(result, BadInputError) else FAILED)
    return result


def _look_ahead(kind: str, name: str, compose: list[str] | None, parameters: Mapping[str, Any]) -> None:
    if kind in ("start", "update"):
        from tasks.deployment.ahead import look_ahead

        look_ahead(name, tuple(compose or ()), kind, parameters)
