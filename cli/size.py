"""`roas size`: memory and processors of services, proposed by what they used."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from cli import completers
from cli.options import application_options, as_json
from cli.run_flow import show_answer


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
    from adapters.config.environments import declared_environment, environment_for_compose_files
    from cli.rendering.sizes import show_sizes
    from models.settings import current_settings
    from tasks.reporting.sizes import read_sizes

    # Not by `find_environment`, which imports Prefect.
    if compose:
        environment = environment_for_compose_files([Path(file) for file in compose], project=name, cwd=Path.cwd())
    else:
        environment = declared_environment(name, current_settings())
    show_answer(read_sizes(environment, services, datetime.now(UTC), write=write), json_wanted, show_sizes)
