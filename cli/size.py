"""`roas size`: memory and processors of services, proposed by what they used."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import completers
from cli.options import application_options, as_json
from cli.run_flow import show_answer

if TYPE_CHECKING:
    from models.environments import Environment


@click.command()
@application_options
@click.argument("services", nargs=-1, metavar="[SERVICE]...", shell_complete=completers.services)
@click.option("--write", is_flag=True, help="Change the Compose files; `roas update` then applies them.")
@as_json
def size(name: str, compose: list[str] | None, services: tuple[str, ...], write: bool, json_wanted: bool) -> None:
    """Propose limits and reservations of memory and processors, by two weeks of samples and kills for memory.

    It prints a change of the Compose files that Compose has read, with the risk of each, and changes nothing without
    --write.
    """
    from cli.rendering.sizes import show_sizes
    from tasks.reporting.sizes import read_sizes

    report = read_sizes(environment_of(name, compose), services, datetime.now(UTC), write=write)
    show_answer(report, json_wanted, show_sizes)


def environment_of(name: str, compose: list[str] | None) -> Environment:
    """Load an environment as `resolve_names` named it, without what a run of a flow needs."""
    from adapters.config.environments import declared_environment, environment_for_compose_files
    from models.settings import current_settings

    if compose:
        return environment_for_compose_files([Path(file) for file in compose], project=name, cwd=Path.cwd())
    return declared_environment(name, current_settings())
