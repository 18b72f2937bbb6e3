"""`roas logs`: what services wrote, also those whose containers are removed."""

from __future__ import annotations

import click

from cli import completers
from cli.options import as_json, leaves_environment_out, resolve_names
from cli.run_flow import show_answer
from models.failures import NotFoundError


@click.command()
@click.argument("environment", required=False, metavar="[ENV]", shell_complete=completers.environments)
@click.argument("service", required=False, shell_complete=completers.services)
@click.option("--tail", default=100, show_default=True, type=click.IntRange(1, 10_000), help="So many lines of each.")
@as_json
def logs(environment: str | None, service: str | None, tail: int, json_wanted: bool) -> None:
    """Print the last log lines of all services, or of SERVICE.

    Those of a removed container come from the evidence that was kept when it failed.
    """
    from cli.rendering.logs import show_logs
    from tasks.reporting.logs import read_logs
    from tasks.runtime.project import open_project

    if service is None and leaves_environment_out(environment):
        environment, service = None, environment
    name, compose = resolve_names(environment, (), None)
    container_logs = read_logs(open_project(name, tuple(compose or ())), service, tail)
    if not container_logs:
        about = f"service {service} of {name}" if service else name
        raise NotFoundError(
            f"There is no log of {about}: it has no container, and no evidence of it was kept;",
            advice=f"`roas status {name}` shows what is known of {name}.",
        )
    show_answer(container_logs, json_wanted, show_logs)
