"""Options that several `roas` commands have, and what they mean together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from models.failures import BadInputError
from models.settings import current_settings

Command = TypeVar("Command", bound=Callable[..., Any])

as_json = click.option("--json", "json_wanted", is_flag=True, help="Print one JSON document, for programs.")
of_environment = click.argument("environment", required=False, metavar="[ENV]")


def _with_records(_context: click.Context, _parameter: click.Parameter, name: str | None) -> str | None:
    """The name of an environment that has a file or has left a record: bare Compose files have no file."""
    if name is None:
        return None
    from adapters.environment_files import environment_names
    from tasks.reading import environments_on_record

    known = {*environment_names(current_settings().environments_dir), *environments_on_record()}
    if name not in known:
        folder = current_settings().environments_dir
        raise BadInputError(
            f"There is no environment {name!r} in {folder}, and nothing is recorded of one;",
            advice=f"known are: {', '.join(sorted(known)) or 'none'}.",
        )
    return name


of_records = click.argument("environment", required=False, metavar="[ENV]", callback=_with_records)
of_its_records = click.argument("environment", metavar="ENV", callback=_with_records)
in_environment = click.option("--env", "environment", help="Only in this environment.", callback=_with_records)
waiting = click.option(
    "--wait",
    "wait_seconds",
    type=click.FloatRange(0, 86_400),
    default=0.0,
    metavar="SECONDS",
    help="Wait so long for another operation on the environment to end, instead of being refused.",
)


def bare_compose(command: Command) -> Command:
    """Options that stand in for an environment file."""
    files = click.option(
        *("-f", "--file", "files"),
        multiple=True,
        type=click.Path(dir_okay=False, path_type=Path),
        help="A Compose file, for an application without an environment file; may be repeated.",
    )
    project = click.option("-p", "--project", help="Project name for -f; by default the folder's name.")
    return files(project(command))


def named(environment: str | None, files: tuple[Path, ...], project: str | None) -> tuple[str, list[str] | None]:
    """The environment's name, and the Compose files where there is no environment file."""
    if environment is None and not files:
        raise BadInputError("Which environment?", advice="Name one (roas start dev), or a Compose file (-f).")
    if environment is not None and files:
        raise BadInputError("Give an environment or -f, not both.")
    if environment is not None:
        if project is not None:
            raise BadInputError("-p goes with -f: an environment's file names its own project.")
        from adapters.environment_files import environment_names

        known = environment_names(current_settings().environments_dir)
        if environment not in known:
            raise BadInputError(
                f"There is no environment {environment!r} in {current_settings().environments_dir};",
                advice=f"known are: {', '.join(known) or 'none'}.",
            )
        return environment, None
    from adapters.environment_files import environment_for_compose_files

    made_up = environment_for_compose_files(list(files), project=project, cwd=Path.cwd())
    return made_up.name, [str(path.absolute()) for path in files]
