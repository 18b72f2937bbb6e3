"""`roas init` and `roas adopt`: an environment file for an application of one's own."""

from __future__ import annotations

import re
from pathlib import Path

import click

from adapters.config.environment_files import FILE
from cli.options import as_json
from models.environments import Environment
from models.failures import BadInputError
from models.settings import current_settings

_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

_output = click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The file to write; its name is the environment's. By default roas.yaml beside the Compose file.",
)
_force = click.option("--force", is_flag=True, help="Write in place of an existing file.")


@click.command()
@click.argument("folder", default=".", type=click.Path(path_type=Path))
@click.option(
    *("-f", "--file", "files"),
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="A Compose file; may be repeated. By default those of the folder, as Compose chooses them.",
)
@click.option("-p", "--project", help="Project name; by default as Compose chooses it.")
@_output
@_force
@as_json
def init(
    folder: Path, files: tuple[Path, ...], project: str | None, output: Path | None, force: bool, json_wanted: bool
) -> None:
    """Write an environment file for the Compose application in FOLDER.

    Recognises the programs, and proposes probes, limits and dependencies. It changes nothing that
    runs and writes no secret's value. The file is roas.yaml beside the Compose file, which is
    searched for in parent folders too; in a checkout, or with ROAS_ENVIRONMENTS_DIR, it is
    NAME.yaml in the folder of environments.
    """
    from adapters.config.compose_files import compose_files_of, nearest_compose_folder, project_name_of
    from adapters.config.environments import environment_for_compose_files

    chosen = files or compose_files_of(nearest_compose_folder(folder))
    named = project or project_name_of(chosen[0].parent)
    _propose(environment_for_compose_files(chosen, named, cwd=Path.cwd()), output, force, json_wanted)


@click.command()
@click.argument("project")
@_output
@_force
@as_json
def adopt(project: str, output: Path | None, force: bool, json_wanted: bool) -> None:
    """Write an environment file for a Compose PROJECT that runs already, as `roas init` does.

    Its Compose files are found by the labels of its containers; nothing that runs is changed.
    """
    import os
    from contextlib import closing

    from adapters.adoption import running_application
    from adapters.config.environments import environment_for_compose_files
    from adapters.docker.engine import DockerEngine

    if not _PROJECT.fullmatch(project):
        raise BadInputError(
            f"{project!r} cannot be the name of a Compose project;", advice="`docker compose ls --all` lists them."
        )
    address = os.environ.get("DOCKER_HOST") or str(Environment.model_fields["engine"].default)
    with closing(DockerEngine(address)) as engine:
        files, env_files = running_application(project, engine)
    environment = environment_for_compose_files(files, project, cwd=Path.cwd())
    if env_files and env_files != (files[0].parent / ".env",):
        environment = environment.model_copy(update={"env_files": env_files})
    _propose(environment, output, force, json_wanted)


def _propose(environment: Environment, output: Path | None, force: bool, json_wanted: bool) -> None:
    import asyncio

    from adapters.adoption import gather_application, try_probes
    from adapters.config.environment_files import chosen_folder, environment_files, refuse_taken_name, remember_file
    from adapters.config.environment_writer import check_free, environment_text, write_environment
    from adapters.config.environments import read_environment
    from adapters.programs import shipped_programs
    from core.adoption.propose import propose

    settings = current_settings()
    folder = chosen_folder(settings)
    path = output or (
        environment.compose_files[0].parent / FILE if folder is None else folder / f"{environment.name}.yaml"
    )
    name = _name(environment, output)
    check_free(path, force=force)
    if output is None and folder is None:
        refuse_taken_name(name, path, settings)
    facts = gather_application(environment)
    proposal = asyncio.run(try_probes(environment, propose(facts, shipped_programs())))
    write_environment(path, environment_text(path, facts, proposal, name), force=force)
    written = read_environment(path, name)
    if output is None and folder is None:
        remember_file(written.name, path, settings)
    is_known = environment_files(settings).get(written.name, Path()).resolve() == path.resolve()
    if json_wanted:
        from cli.rendering.results import print_json

        print_json(proposal, file=str(path), environment=written.name)
        return
    from cli.rendering.adoption import show_proposal

    show_proposal(proposal, facts, path, written.name, is_known=is_known)


def _name(environment: Environment, output: Path | None) -> str:
    """The name that the written file gives the environment."""
    if output is None or output.name == FILE:
        return environment.name
    if output.suffix not in (".yaml", ".yml") or not _NAME.fullmatch(output.stem):
        raise BadInputError(
            f"{output} cannot be an environment file;",
            advice="its name is the environment's: NAME.yaml of small letters, digits, - and _.",
        )
    return output.stem
