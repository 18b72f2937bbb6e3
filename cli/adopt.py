"""`roas init` and `roas adopt`: an environment file for an application of one's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapters.config.environment_files import FILE
from cli.exit_codes import FAILED
from cli.options import as_json
from flows.common.terminal import echo
from models.environments import Environment
from models.failures import BadInputError, RoasError
from models.settings import current_settings

if TYPE_CHECKING:
    from models.adoption import AdoptionFacts, Proposal

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
@click.argument("project", required=False)
@click.option("--all", "all_wanted", is_flag=True, help="Every project that runs and is no environment yet.")
@click.option("--yes", is_flag=True, help="With --all: do not ask.")
@_output
@_force
@as_json
def adopt(
    project: str | None, all_wanted: bool, yes: bool, output: Path | None, force: bool, json_wanted: bool
) -> None:
    """Write an environment file for a Compose PROJECT that runs already, as `roas init` does.

    Its Compose files are found by the labels of its containers; nothing that runs is changed. --all shows the files
    first, and asks. Exit code 1 if a project could not be adopted.
    """
    if all_wanted and (project or output or force or json_wanted):
        raise BadInputError("--all takes no PROJECT, --output, --force or --json;", advice="write roas adopt --all.")
    if all_wanted:
        _adopt_all(yes=yes)
        return
    if not project or not _PROJECT.fullmatch(project):
        what = f"{project!r} cannot be the name of a Compose project;" if project else "PROJECT is missing;"
        raise BadInputError(what, advice="`docker compose ls --all` lists them, and --all means each.")
    _propose(_running_environment(project), output, force, json_wanted)


def _adopt_all(*, yes: bool) -> None:
    from contextlib import closing

    from adapters.adoption import known_projects
    from adapters.docker.engine import DockerEngine
    from cli.confirmation import ask
    from cli.rendering.adoption import show_remarks

    wanted, failed = dict[str, Environment](), False
    with closing(DockerEngine(_engine_address())) as engine:
        projects = sorted(engine.containers.running_projects() - known_projects(_engine_address()).keys())
    for project in projects:
        try:
            wanted[project] = _running_environment(project)
            echo(f"{project}: {_place(wanted[project], None)} would be written")
        except RoasError as error:
            failed = True
            echo(f"{project}: cannot be adopted: {' '.join(str(error).split())}")
    if not projects:
        echo("nothing to do: every Compose project that runs is an environment")
    elif wanted and not yes:
        ask(f"Adopt {len(wanted)}?", refused="Nothing was written", advice="give --yes if it may be.")
    for project, environment in wanted.items():
        try:
            proposal, _, path, _, _ = _written(environment, None, force=False)
            echo(f"{project}: wrote {path}, {len(proposal.services)} services")
            show_remarks(proposal)
        except RoasError as error:
            failed = True
            echo(f"{project}: was not adopted: {' '.join(str(error).split())}")
    if failed:
        raise SystemExit(FAILED)


def _engine_address() -> str:
    import os

    return os.environ.get("DOCKER_HOST") or str(Environment.model_fields["engine"].default)


def _running_environment(project: str) -> Environment:
    """The environment that a project's containers were made of.

    Raises:
        RoasError: Their Compose files are not found, or cannot be one.
    """
    from contextlib import closing

    from adapters.adoption import running_application
    from adapters.config.environments import environment_for_compose_files
    from adapters.docker.engine import DockerEngine

    with closing(DockerEngine(_engine_address())) as engine:
        files, env_files = running_application(project, engine)
    environment = environment_for_compose_files(files, project, cwd=Path.cwd())
    if env_files and env_files != (files[0].parent / ".env",):
        environment = environment.model_copy(update={"env_files": env_files})
    return environment


def _place(environment: Environment, output: Path | None) -> Path:
    """The file that is written."""
    from adapters.config.environment_files import chosen_folder

    folder = chosen_folder(current_settings())
    beside = environment.compose_files[0].parent / FILE
    return output or (beside if folder is None else folder / f"{environment.name}.yaml")


def _propose(environment: Environment, output: Path | None, force: bool, json_wanted: bool) -> None:
    proposal, facts, path, name, is_known = _written(environment, output, force=force)
    if json_wanted:
        from cli.rendering.results import print_json

        print_json(proposal, file=str(path), environment=name)
        return
    from cli.rendering.adoption import show_proposal

    show_proposal(proposal, facts, path, name, is_known=is_known)


def _written(
    environment: Environment, output: Path | None, *, force: bool
) -> tuple[Proposal, AdoptionFacts, Path, str, bool]:
    """Write the file of an environment; the proposal, its facts and file, its name, and whether commands find it."""
    import asyncio

    from adapters.adoption import gather_application, try_probes
    from adapters.config.environment_files import chosen_folder, environment_files, refuse_taken_name, remember_file
    from adapters.config.environment_writer import check_free, environment_text, write_environment
    from adapters.config.environments import read_environment
    from adapters.programs import shipped_programs
    from core.adoption.propose import propose

    settings = current_settings()
    folder, path = chosen_folder(settings), _place(environment, output)
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
    return proposal, facts, path, written.name, is_known


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
