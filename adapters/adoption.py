"""Gather what the adoption of an application needs, from its files or from its running containers; changes nothing."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

from dotenv.main import DotEnv

from adapters.compose.cli import ComposeCli
from adapters.compose.sources import included_env_files, read_sources
from adapters.compose.variables import process_environment, variables_of, withheld_variables
from adapters.docker.engine import DockerEngine
from adapters.host.private_files import read_regular
from adapters.probes.run import run_probe
from core.adoption.propose import revise_after_trial
from core.errors.secret_shapes import is_secret_name
from models.adoption import AdoptionFacts, Proposal, ServiceProposal, ServiceTraits, UsedVariable
from models.compose import Application
from models.environments import Environment, NetworkProbe, Probe, TcpProbe
from models.failures import EnvironmentFileError, NotFoundError, RoasError
from models.health import ProbeResult

# In the order in which Compose takes the first that exists.
COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDE_FILES = (
    *("compose.override.yml", "compose.override.yaml"),
    *("docker-compose.override.yml", "docker-compose.override.yaml"),
)

_EMPTY_DEFAULT = re.compile(r"\$\{(\w+):?-\}")


def compose_files_of(folder: Path) -> tuple[Path, ...]:
    """The Compose files of a folder as Compose chooses them: those that COMPOSE_FILE lists, in the process or in
    `.env`, else the first of each kind of name.

    Raises:
        EnvironmentFileError: There is none.
    """
    if not _is_there(folder, Path.is_dir):
        raise EnvironmentFileError(f"There is no folder {folder}.", advice="Name the one with the Compose file.")
    beside = _variables_in(folder / ".env")
    listed = os.environ.get("COMPOSE_FILE") or beside.get("COMPOSE_FILE")
    if listed:
        separator = os.environ.get("COMPOSE_PATH_SEPARATOR") or beside.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
        return tuple(folder / path for path in listed.split(separator) if path)
    chosen = next((folder / name for name in COMPOSE_FILES if (folder / name).is_file()), None)
    if chosen is None:
        raise EnvironmentFileError(
            f"There is no Compose file in {folder}: none of {', '.join(COMPOSE_FILES)}.",
            advice="Name the folder that has one, or the file with -f.",
        )
    override = next((folder / name for name in OVERRIDE_FILES if (folder / name).is_file()), None)
    return (chosen,) if override is None else (chosen, override)


def nearest_compose_folder(folder: Path) -> Path:
    """The folder, or its nearest parent with a Compose file, as Compose searches; the folder itself if none has one."""
    if os.environ.get("COMPOSE_FILE") or _variables_in(folder / ".env").get("COMPOSE_FILE"):
        return folder
    for at in (folder, *folder.absolute().parents):
        if any(_is_there(at / name, Path.is_file) for name in COMPOSE_FILES):
            return at
    return folder


def _is_there(path: Path, is_kind: Callable[[Path], bool]) -> bool:
    """Whether a file or folder exists; a name that the system refuses, such as one too long, does not."""
    try:
        return is_kind(path)
    except OSError:
        return False


def project_name_of(folder: Path) -> str | None:
    """The project's name in the `.env` of a folder, which Compose reads unless its process has one."""
    return (
        None
        if os.environ.get("COMPOSE_PROJECT_NAME")
        else _variables_in(folder / ".env").get("COMPOSE_PROJECT_NAME") or None
    )


def _variables_in(file: Path) -> dict[str, str]:
    try:
        text = read_regular(file).decode("utf-8")
    except (OSError, ValueError):
        # Compose itself reports one that it cannot read.
        return {}
    return {name: value or "" for name, value in DotEnv(None, StringIO(text), interpolate=False).parse()}


def running_application(project: str, engine: DockerEngine) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The Compose files and env files that a project's containers were made from, by their labels.

    Raises:
        NotFoundError: No container is of such a project, or Compose made none of them.
        EnvironmentFileError: The files are not on this machine any more.
        EngineError: The engine does not answer or refuses.
    """
    made_from = engine.containers.compose_files(project)
    if not made_from:
        named = engine.containers.inspect_all([project])
        if named and not named[0].project:
            raise NotFoundError(
                f"Container {project} was not made by Compose: it has no label com.docker.compose.project.",
                advice="Write a Compose file for it, and use `roas init` beside it.",
            )
        projects = sorted(engine.containers.projects())
        belongs = f"Container {project} is of project {named[0].project}." if named else ""
        raise NotFoundError(
            f"No container is of a Compose project {project!r}. {belongs}".strip(),
            advice=f"Projects here: {', '.join(projects) or 'none'}.",
        )
    for origin in made_from:
        files = tuple(map(Path, origin.files))
        if files and all(_is_there(file, Path.is_file) for file in files):
            return files, tuple(file for file in map(Path, origin.env_files) if _is_there(file, Path.is_file))
    missing = sorted({file for origin in made_from for file in origin.files if not _is_there(Path(file), Path.is_file)})
    what = f"are gone: {', '.join(missing)}" if missing else "are not named by its containers' labels"
    raise EnvironmentFileError(
        f"The Compose files of project {project} {what}.",
        advice=f"Put them back there, or name them: roas init -f FILE -p {project}.",
    )


def gather_application(environment: Environment) -> AdoptionFacts:
    """Read an application as every start reads it, and which of its images have a health check.

    Raises:
        ComposeError: Compose cannot read the files.
    """
    environ = process_environment(environment, os.environ)
    compose = ComposeCli(environment, environ)
    with ThreadPoolExecutor(max_workers=3) as pool:
        rendered, traits = pool.submit(compose.render), pool.submit(compose.traits)
        variables = pool.submit(lambda: tuple(_variables(environment, compose)))
        application = rendered.result()
        return AdoptionFacts(
            application=application,
            compose_files=environment.compose_files,
            env_files=environment.env_files,
            profiles=environment.profiles,
            # An address with a password stays in the variable alone.
            engine=environment.engine if os.environ.get("DOCKER_HOST") and not _has_password(environment) else None,
            traits=_with_images(application, traits.result(), environment.engine),
            variables=variables.result(),
            left_out=tuple(sorted(_with_profiles(environment) - application.services.keys())),
        )


async def try_probes(environment: Environment, proposal: Proposal) -> Proposal:
    """Try each proposed probe on the containers that run already; one that fails is proposed no more.

    Where none run, or the engine does not answer, the proposal stays as it is.
    """
    values = variables_of(environment, process_environment(environment, os.environ))
    secrets = {
        secret.name: values.get(secret.name, "") if secret.file is None else _content(secret.file)
        for secret in proposal.secrets
    }
    try:
        with closing(DockerEngine(environment.engine)) as engine:
            states = await asyncio.to_thread(engine.containers.inspect_project, environment.project)
            running = {state.service for state in states if state.state == "running" and not state.one_off}

            async def ask(probe: Probe, service: str) -> ProbeResult:
                return await run_probe(
                    probe,
                    service,
                    project=environment.project,
                    engine=engine,
                    secrets=secrets,
                    container_states=states,
                )

            async def try_proposal(service_proposal: ServiceProposal) -> ServiceProposal:
                probe = service_proposal.spec.probe
                if probe is None or service_proposal.service not in running:
                    return service_proposal
                answer = await ask(probe, service_proposal.service)
                if answer.ok:
                    return service_proposal
                weaker = None
                if isinstance(probe, NetworkProbe) and not isinstance(probe, TcpProbe):
                    weaker = TcpProbe(kind="tcp", port=probe.port)
                is_open = weaker is not None and (await ask(weaker, service_proposal.service)).ok
                return revise_after_trial(service_proposal, answer.detail, is_open=is_open)

            return replace(proposal, services=tuple(await asyncio.gather(*map(try_proposal, proposal.services))))
    except RoasError:
        return proposal


def _content(file: Path) -> str:
    try:
        return read_regular(file).decode("utf-8").strip()
    except (OSError, ValueError):
        return ""


def _with_profiles(environment: Environment) -> set[str]:
    """The services that the files give profiles."""
    services = [document.get("services") for document in read_sources(environment.compose_files).documents]
    return {
        str(name)
        for declared in services
        if isinstance(declared, dict)
        for name, body in declared.items()
        if isinstance(body, dict) and body.get("profiles")
    }


def _has_password(environment: Environment) -> bool:
    return urlsplit(environment.engine).password is not None


def _variables(environment: Environment, compose: ComposeCli) -> Iterator[UsedVariable]:
    values = variables_of(environment, process_environment(environment, os.environ))
    filled_in = {variable.name: bool(variable.default or variable.alternate) for variable in compose.variables()}
    withheld = withheld_variables(environment, os.environ)
    sources = read_sources(environment.compose_files)
    # An empty value or default is meant, and Compose takes it.
    may_be_empty = {name for text in sources.texts for name in _EMPTY_DEFAULT.findall(text)}
    may_be_empty |= {name for name, value in values.items() if value == ""}
    # Compose fills in an included file from the include's own files, which no probe and no check of ours reads.
    included = {
        name
        for file in included_env_files(environment.compose_files)
        for name, value in _variables_in(file).items()
        if value
    }
    for name in sorted({*filled_in, *(variable for variable in sources.variables if is_secret_name(variable))}):
        if name not in withheld:
            yield UsedVariable(
                name=name,
                is_secret=is_secret_name(name),
                is_set=bool(values.get(name)),
                has_default=filled_in.get(name, False) or name in included or name in may_be_empty,
            )


def _with_images(
    application: Application, traits: Mapping[str, ServiceTraits], address: str
) -> dict[str, ServiceTraits]:
    """The traits with what the engine's images say: a health check of their own, and the ports of what is not built.

    Where the engine does not answer, the traits stay as they are, which decides little.
    """
    services, completed = application.services, dict(traits)
    try:
        with closing(DockerEngine(address)) as engine:
            facts = engine.images.inspect_all(service.image for service in services.values())
    except RoasError:
        return completed
    for name, own in traits.items():
        service = services[name]
        if (fact := facts[service.image]) is None:
            completed[name] = replace(own, image_absent=not service.build)
        else:
            # The Dockerfile of what is built says which ports it chose itself.
            ports = own.image_ports if service.build else fact.ports
            completed[name] = replace(own, image_checked=own.image_checked or fact.checked, image_ports=ports)
    return completed
