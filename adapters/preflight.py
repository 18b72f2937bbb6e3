"""Gather the facts for validation of a start, in parallel and without changing anything."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import tomllib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from adapters.compose.ahead import ComposeAhead
from adapters.compose.cli import ComposeCli
from adapters.compose.declared_secrets import concealed_values
from adapters.compose.variables import (
    missing_secrets,
    process_environment,
    variables_of,
    withheld_variables,
)
from adapters.config.environment_files import environment_files
from adapters.config.environments import read_environment
from adapters.config.needs import refuse_circle
from adapters.config.yaml_files import syntax_problem
from adapters.docker.engine import DockerEngine
from adapters.host.machine import file_problem, port_holder, port_is_free, readable_by_all, sample_host, unwritable_by
from adapters.host.private_files import MIB, read_regular
from adapters.host.programs import ProgramRun, run_to_end
from core.deployment.hooks import unknown_services
from core.deployment.images import similar_name
from core.deployment.remote import unasked_probes
from models.compose import Application, ImageFact, Mount, MountKind, PortHolder, ServiceDeclaration
from models.containers import RELEASE_IMAGES, EngineInfo, SystemSample
from models.environments import Environment
from models.failures import EnginePermissionError, RoasError
from models.settings import current_settings
from models.validation import Facts, ImageWanted, MountWanted, PortWanted, Trouble

_REGISTRY_SECONDS = 2.0
_PROMTOOL_SECONDS = 5.0
_FILES_IN_FOLDER = 100
_FILE_ENDINGS = frozenset({".conf", ".cfg", ".ini", ".json", ".toml", ".yaml", ".yml", ".env", ".sh", ".sql", ".pem"})
_PROGRAM_FOLDERS = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin", "opt/bin")

T = TypeVar("T")


async def gather_facts(
    environment: Environment,
    *,
    held_by: str | None = None,
    compose: ComposeAhead | None = None,
    engine: DockerEngine | None = None,
) -> Facts:
    """Gather the facts for validation; a fact that cannot be read becomes a `Trouble` or a gap.

    `held_by` names the process that runs another operation on this environment, if one does. `compose` are answers of
    Compose to the same questions about the same sources. `engine` is a client that is open already, and stays open.

    Raises:
        EnvironmentFileError: It needs itself through other environments.
    """
    await asyncio.to_thread(refuse_circle, environment, current_settings())
    if engine is not None:
        return await _gather(environment, engine, held_by, compose)
    engine = DockerEngine(environment.engine)
    engine.conceal(concealed_values(environment))
    try:
        return await _gather(environment, engine, held_by, compose)
    finally:
        engine.close()


async def _gather(
    environment: Environment, engine: DockerEngine, held_by: str | None, ahead: ComposeAhead | None
) -> Facts:
    environ = process_environment(environment, os.environ)
    values, withheld = variables_of(environment, environ), withheld_variables(environment, os.environ)
    compose = ahead or ComposeCli(environment, environ)
    local = environment.engine.startswith("unix://")
    (info, asked_at, host), version, declared, used, missing_needs = await asyncio.gather(
        _engine_and_host(engine, local=local),
        _or_trouble(compose.version),
        _or_trouble(compose.render),
        _or_trouble(compose.variables),
        _missing_needs(environment),
    )
    facts = Facts(
        environment=environment.name,
        engine_url=environment.engine,
        variables=environment.variables,
        secrets=tuple(secret.name for secret in environment.secrets),
        probed=frozenset(name for name, service in environment.services.items() if service.probe is not None),
        engine=info,
        compose_version=version,
        declared=declared,
        missing_variables=tuple(
            name for name in environment.variables if not values.get(name) and name not in withheld
        ),
        withheld_variables=withheld,
        missing_secrets=missing_secrets(environment),
        # Set to an empty value, without a default in the files.
        empty_variables=tuple(
            variable
            for variable in (() if isinstance(used, Trouble) else used)
            if values.get(variable.name) == "" and not (variable.default or variable.alternate)
        ),
        host=host,
        clock_offset=None if isinstance(info, Trouble) or not info.system_time else info.system_time - asked_at,
        held_by=held_by,
        missing_needs=missing_needs,
    )
    if isinstance(declared, Trouble):
        return facts
    facts = replace(
        facts,
        hook_problems=await _hook_problems(environment, declared, environ),
        unasked_probes=unasked_probes(environment, declared),
    )
    return await _with_application(facts, declared, engine, local=local)


async def _hook_problems(
    environment: Environment, application: Application, variables: Mapping[str, str]
) -> dict[str, str]:
    """What is wrong with the services that hooks name; those of other profiles are read where one is not found."""
    hooks, running = environment.hooks, application.services.keys()
    if hooks.services <= running:
        return {}
    whole = environment.model_copy(update={"profiles": ("*",)})
    full_application = await _or_trouble(ComposeCli(whole, variables).render)
    if isinstance(full_application, Trouble):
        return {"": f"hooks cannot be checked: {full_application.what.rstrip('.')}"}
    return unknown_services(hooks, full_application.services.keys(), running)


async def _missing_needs(environment: Environment) -> dict[str, str]:
    """The needed services that environments of this host do not have, by need what they have instead."""
    needs = [need for need in environment.needs if "/" in need]
    if not needs:
        return {}
    settings = current_settings()
    files = await asyncio.to_thread(environment_files, settings)
    here = sorted({need.partition("/")[0] for need in needs} & files.keys() - settings.foreign_environments)

    def application(name: str) -> Application:
        other = read_environment(files[name], name)
        return ComposeCli(other, process_environment(other, os.environ)).render()

    found = await asyncio.gather(*(_or_trouble(partial(application, name)) for name in here))
    have = {name: one.services for name, one in zip(here, found, strict=True) if not isinstance(one, Trouble)}
    return {
        need: ", ".join(sorted(have[name])) or "none"
        for need, (name, _, service) in ((need, need.partition("/")) for need in needs)
        if name in have and service not in have[name]
    }


async def _with_application(facts: Facts, application: Application, engine: DockerEngine, *, local: bool) -> Facts:
    """Add the facts about the application's images, ports and mounts, if the engine answers."""
    if isinstance(facts.engine, Trouble):
        return facts
    gaps: list[str] = []
    container_states, holders, networks, volumes, names, images = await asyncio.gather(
        _or_gap(asyncio.to_thread(engine.containers.inspect_project, application.project), gaps),
        _or_gap(asyncio.to_thread(engine.networks.published_ports), gaps),
        _or_gap(asyncio.to_thread(engine.networks.find), gaps),
        _or_gap(asyncio.to_thread(engine.volumes.names), gaps),
        _or_gap(asyncio.to_thread(_names_taken, application, engine), gaps),
        _or_gap(_images(application, engine, local=local), gaps),
    )
    users = {image.service: image.held.user for image in images or () if image.held is not None}
    ports, mounts = await asyncio.gather(
        asyncio.to_thread(lambda: tuple(_ports(application, holders or (), local=local))),
        asyncio.to_thread(lambda: tuple(_mounts(application, users, engine.redact)) if local else ()),
    )
    return replace(
        facts,
        container_states=tuple(container_states or ()),
        networks=None if networks is None else tuple(networks),
        volumes=None if volumes is None else tuple(volumes),
        images=images or (),
        ports=ports,
        names_taken=names or {},
        mounts=mounts,
        gaps=tuple(gaps),
    )


def _names_taken(application: Application, engine: DockerEngine) -> dict[str, str]:
    """The owner of each container name that a service sets, by service, unless its own container has it."""
    fixed = {service.container_name: name for name, service in application.services.items() if service.container_name}
    holders = engine.containers.inspect_all(fixed)
    return {
        fixed[holder.name]: f"a container of project {holder.project}"
        if holder.project
        else "a container of no project"
        for holder in holders
        if holder.name in fixed and (holder.project, holder.service) != (application.project, fixed[holder.name])
    }


async def _or_gap(answer: Awaitable[T], gaps: list[str]) -> T | None:
    """The answer, or None and a gap with the reason: a proxy before the engine may forbid single calls."""
    try:
        return await answer
    except RoasError as error:
        gaps.append(error.what.rstrip("."))
        return None


async def _or_trouble(ask: Callable[[], T]) -> T | Trouble:
    try:
        return await asyncio.to_thread(ask)
    except RoasError as error:
        return Trouble(what=error.what, advice=error.advice)


async def _engine_and_host(
    engine: DockerEngine, *, local: bool
) -> tuple[EngineInfo | Trouble, datetime, SystemSample | None]:
    """The engine, the time of its answer, and the machine with the disk of the engine's data."""
    info = await _or_trouble(engine.info)
    asked_at = datetime.now(UTC)
    folder = "" if isinstance(info, Trouble) else info.root_folder
    host = await asyncio.to_thread(sample_host, Path(folder or "/"), asked_at) if local else None
    return info, asked_at, host


async def _images(application: Application, engine: DockerEngine, *, local: bool) -> tuple[ImageWanted, ...]:
    services = application.services.values()
    references = sorted({service.image for service in services})
    facts = await asyncio.gather(*(asyncio.to_thread(engine.images.inspect, reference) for reference in references))
    facts_by_reference = dict(zip(references, facts, strict=True))
    absent = sorted(
        {
            service.image
            for service in services
            if facts_by_reference[service.image] is None and not service.build and service.pull_policy != "never"
        }
    )
    answers = await asyncio.gather(*(_obtainable(reference, engine) for reference in absent))
    unavailable = dict(zip(absent, answers, strict=True))
    images = tuple(
        _image(service, facts_by_reference[service.image], unavailable.get(service.image), local=local)
        for service in services
    )
    if all(image.unavailable is None for image in images):
        return images
    names = await _or_trouble(engine.images.tags)
    candidates = (
        [name for name in names if not name.startswith(f"{RELEASE_IMAGES}:")] if isinstance(names, list) else []
    )
    return tuple(
        replace(image, similar=similar_name(image.reference, candidates)) if image.unavailable is not None else image
        for image in images
    )


async def _obtainable(reference: str, engine: DockerEngine) -> str | None:
    try:
        async with asyncio.timeout(_REGISTRY_SECONDS):
            return await asyncio.to_thread(engine.images.why_unobtainable, reference)
    except (TimeoutError, EnginePermissionError):
        # A slow registry, or a proxy that forbids the question, proves nothing; the pull itself waits longer.
        return None


def _image(service: ServiceDeclaration, fact: ImageFact | None, why: str | None, *, local: bool) -> ImageWanted:
    if fact is None and not service.build and service.pull_policy == "never":
        why = "the engine does not hold it, and its pull_policy is never"
    return ImageWanted(
        service=service.name,
        reference=service.image,
        held=fact,
        buildable=service.build,
        build_problem=_build_problem(service) if service.build else None,
        unavailable=why,
        missing_programs=tuple(_missing_programs(service, fact)) if local and fact is not None else (),
    )


def _build_problem(service: ServiceDeclaration) -> str | None:
    context = service.build_context
    if "://" in context or context.startswith("git@"):
        return None
    if not Path(context).is_dir():
        return f"its build folder {context} does not exist"
    dockerfile = Path(context, service.dockerfile)
    if service.dockerfile and not dockerfile.is_file():
        return f"its {dockerfile} does not exist"
    return None


def _missing_programs(service: ServiceDeclaration, image: ImageFact) -> Iterator[str]:
    """Programs that the health check calls and no layer of the image has, if the layers can be read."""
    check = service.healthcheck
    if check is None or check.disabled or not check.test or not image.layers:
        return
    layers = [Path(layer) for layer in image.layers]
    if not all(os.access(layer, os.R_OK | os.X_OK) for layer in layers):
        return
    for program in _programs(check.test):
        places = (
            [program.lstrip("/")] if program.startswith("/") else [f"{folder}/{program}" for folder in _PROGRAM_FOLDERS]
        )
        if not any(os.path.lexists(layer / place) for layer in layers for place in places):
            yield program


def _programs(test: Sequence[str]) -> list[str]:
    """The programs of a health check. In a shell line only a well-known first word is certain."""
    if test[0] == "CMD":
        return [test[1]] if len(test) > 1 else []
    if test[0] != "CMD-SHELL" or len(test) < 2:
        return []
    try:
        words = shlex.split(test[1], comments=True)
    except ValueError:
        return ["sh"]
    clients = {"curl", "wget", "nc", "redis-cli", "pg_isready", "mysqladmin", "promtool", "python3", "node"}
    return ["sh", *(word for word in words[:1] if word in clients)]


def ports_taken(application: Application, service: str | None, engine: DockerEngine, *, local: bool) -> tuple[str, ...]:
    """Who uses the published ports of a service, or of all, one sentence a port; none for free ones and its own.

    Raises:
        EngineError: The engine does not answer.
    """
    ports = _ports(application, engine.networks.published_ports(), local=local)
    return tuple(str(port) for port in ports if port.holder is not None and service in (None, port.service))


def _ports(application: Application, holders: Sequence[PortHolder], *, local: bool) -> Iterator[PortWanted]:
    for service in application.services.values():
        for port in service.ports:
            if port.published is None:
                continue
            numbers = range(port.published, (port.published_last or port.published) + 1)
            states = [
                _port(application.project, number, port.host_ip, port.protocol, holders, local=local)
                for number in numbers
            ]
            other_holders = [holder for holder, is_own in states if holder is not None and not is_own]
            enough = len(numbers) - len(other_holders) >= service.replicas
            yield PortWanted(
                service=service.name,
                port=port,
                holder=None
                if enough
                else "; ".join(dict.fromkeys(other_holders)) or f"its own {service.replicas} replicas at once",
                own=any(is_own for _, is_own in states),
            )


def _port(
    project: str, number: int, host_ip: str, protocol: str, holders: Sequence[PortHolder], *, local: bool
) -> tuple[str | None, bool]:
    """The holder of a port, and whether that is a container of the application itself."""
    everywhere = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, not listened on
    for holder in holders:
        same_address = holder.host_ip == host_ip or holder.host_ip in everywhere or host_ip in everywhere
        if holder.port == number and holder.protocol == protocol and same_address:
            owner = f" of project {holder.project}" if holder.project else ""
            return f"container {holder.container}{owner}", holder.project == project
    if local and not port_is_free(host_ip, number, protocol):
        return port_holder(number, protocol) or "a process that this user may not see", False
    return None, False


def _mounts(
    application: Application, image_users: dict[str, str], redact: Callable[[str], str]
) -> Iterator[MountWanted]:
    services = application.services
    mounts = [
        (service, mount) for service in services.values() for mount in service.mounts if mount.kind is MountKind.BIND
    ]
    for file in application.files:
        target = f"{file.kind} {file.key}"
        mount = Mount(kind=MountKind.BIND, source=file.path, target=target, read_only=True, create_host_path=False)
        mounts += [(services[name], mount) for name in file.services]
    for service, mount in mounts:
        path = Path(mount.source)
        problem, content_problem = file_problem(path), None
        if problem is None and not path.is_socket():
            user = (service.user or image_users.get(service.name, "")).split(":")[0]
            problem = _mount_problem(path, mount, user)
            if path.is_file() or mount.read_only:
                content_problem = next(map(redact, _content_problems(path, service.image)), None)
        yield MountWanted(service=service.name, mount=mount, problem=problem, content_problem=content_problem)


def _mount_problem(path: Path, mount: Mount, user: str) -> str | None:
    """The problem of mounting an existing path, or None."""
    if path.is_dir() and Path(mount.target).suffix in _FILE_ENDINGS and not any(path.iterdir()):
        return f"it is an empty folder, while {mount.target} looks like a file; an earlier start may have made it"
    if user in ("", "0", "root"):
        return None
    if not readable_by_all(path) and user != str(path.stat().st_uid):
        return f"its user {user} may not read it"
    if path.is_dir() and not mount.read_only and unwritable_by(path, user):
        return f"its user {user} may not write into it"
    return None


def _content_problems(path: Path, image: str) -> Iterator[str]:
    for file in _configuration_files(path):
        try:
            if "prometheus" in image and file.name.startswith("prometheus.y") and shutil.which("promtool"):
                _check_with_promtool(file)
            else:
                _check_syntax(file)
        except RecursionError:
            yield f"{file} does not parse: its lists and mappings are too deep"
        except ValueError as error:
            yield f"{file} does not parse: {' '.join(str(error).split())}"
        except OSError as error:
            yield f"{file} cannot be read: {error.strerror or error}"


def _check_syntax(file: Path) -> None:
    if file.suffix == ".json":
        json.loads(read_regular(file).decode("utf-8"))
    elif file.suffix == ".toml":
        tomllib.loads(read_regular(file).decode("utf-8"))
    elif file.suffix in (".yaml", ".yml") and (problem := syntax_problem(read_regular(file).decode("utf-8"))):
        raise ValueError(problem)


def _configuration_files(path: Path) -> Iterable[Path]:
    if path.is_file():
        return [path] if path.stat().st_size <= MIB else []
    files = []
    for folder, _, names in os.walk(path):
        for name in names:
            file = Path(folder, name)
            # A link may lead nowhere, and reading a FIFO never ends.
            if file.suffix in (".json", ".toml", ".yaml", ".yml") and file.is_file() and file.stat().st_size <= MIB:
                files.append(file)
        if len(files) >= _FILES_IN_FOLDER:
            break
    return files[:_FILES_IN_FOLDER]


def _check_with_promtool(file: Path) -> None:
    """Check the syntax with promtool, without the files it names, which exist only inside the container."""
    words = ["promtool", "check", "config", "--syntax-only", str(file)]
    done = run_to_end(ProgramRun(words=words, variables=os.environ, limit_seconds=_PROMTOOL_SECONDS, most_bytes=MIB))
    if done.code is None:
        raise ValueError(f"promtool did not end within {_PROMTOOL_SECONDS:g} s")
    if done.code != 0:
        raise ValueError(done.err.strip() or done.out.strip())
