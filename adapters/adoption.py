"""Gather what the adoption of an application needs, from its files or from its running containers; changes nothing."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from adapters.compose.cli import ComposeCli
from adapters.compose.sources import included_env_files, read_sources
from adapters.compose.variables import process_environment, variables_of, withheld_variables
from adapters.config.compose_files import is_there, variables_in
from adapters.config.environment_files import environment_files
from adapters.config.environments import declared_environment
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
from models.settings import current_settings

_EMPTY_DEFAULT = re.compile(r"\$\{(\w+):?-\}")


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
        if files and all(is_there(file, Path.is_file) for file in files):
            return files, tuple(file for file in map(Path, origin.env_files) if is_there(file, Path.is_file))
    missing = sorted({file for origin in made_from for file in origin.files if not is_there(Path(file), Path.is_file)})
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
        ports = frozenset[int]().union(*(trait.machine_ports for trait in traits.result().values()))
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
            needs=_used_of_others(application, ports, environment.engine),
        )


def known_projects(address: str) -> dict[str, str]:
    """The environments that are known here and run on an engine, by project; those that cannot be read are left out."""
    known, settings = dict[str, str](), current_settings()
    for name in environment_files(settings):
        with suppress(RoasError, OSError):
            if (declared := declared_environment(name, settings)).engine == address:
                known[declared.project] = name
    return known


def _used_of_others(application: Application, ports: frozenset[int], address: str) -> dict[str, str]:
    """What an application uses of other environments: networks that they make, and ports that services publish."""
    external = {network.name for network in application.networks if network.external}
    known = known_projects(address) if external or ports else {}
    known.pop(application.project, None)
    used = dict[str, str]()
    try:
        with closing(DockerEngine(address)) as engine:
            for one in engine.networks.find() if known and external else ():
                if one.name in external and one.project in known:
                    used[f"network {one.name}"] = known[one.project]
            for project, name in known.items() if ports else ():
                for state in engine.containers.inspect_project(project):
                    used |= {f"port {port}": f"{name}/{state.service}" for port in ports & {*state.ports.values()}}
    except RoasError:
        return {}
    return used


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
        for name, value in variables_in(file).items()
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
