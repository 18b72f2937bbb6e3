"""Rotate a password: find the servers that take it, log in there, tell them, and keep its values until it is over."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from adapters.compose.secret_places import file_of_secret, put_secret, secret_of, text_of_secret
from adapters.host.pending_rotation import keep_pending, pending_file, pending_rotation
from adapters.probes.run import run_probe
from adapters.programs import shipped_programs
from adapters.snapshots.containers import EngineCommands
from adapters.snapshots.streams import Limit
from core.adoption.logins import logins_of_secret
from core.deployment.rotation import change_password
from models.adoption import ServiceTraits
from models.compose import Application
from models.containers import ContainerState
from models.environments import Environment, RedisProbe
from models.failures import BadInputError, HalfRotatedError, RotationError
from models.health import ProbeResult
from models.rotation import Rotation, ServerLogin
from models.settings import current_settings
from tasks.deployment.operations import operation_of
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import EFFECT, READ
from tasks.runtime.task import task

_READY_SECONDS = 60.0
_SALT_BYTES = 16
_ASK_AGAIN_SECONDS = 0.5


async def read_pending(environment: str) -> Rotation | None:
    """The rotation of an environment that was begun and is neither proven nor undone.

    Raises:
        RoasError: It is damaged.
    """
    return await asyncio.to_thread(pending_rotation, current_settings().data_dir, environment)


async def seal_pending(project: Project, rotation: Rotation) -> None:
    """Seal the values of a rotation; from now on both are redacted, and no other operation starts anything."""
    await asyncio.to_thread(keep_pending, current_settings().data_dir, project.environment.name, rotation)
    project.refresh()


async def end_pending(environment: str) -> None:
    """Forget a rotation that is proven or undone."""
    file = pending_file(current_settings().data_dir, environment)
    await asyncio.to_thread(lambda: file.unlink(missing_ok=True))


async def refuse_half_rotated(environment: str, deployment_id: str = "") -> None:
    """Raise where an operation, other than this one, began to rotate a password and did not finish.

    Raises:
        HalfRotatedError: The message says how to go on.
        RoasError: What is known of it is damaged.
    """
    rotation = await read_pending(environment)
    if rotation is None or rotation.operation == deployment_id:
        return
    operation = await operation_of(environment, rotation.operation, None)
    ended = operation is not None and operation.ended_at is not None and not operation.record.interrupted
    anew = f"`roas secret rotate {environment} {rotation.secret}` brings it to its end, and starts what was stopped"
    raise HalfRotatedError(
        f"The rotation of {rotation.secret} of {environment} is not over: {rotation.operation} did not finish it;",
        advice=f"{anew}." if ended else f"`roas resume {rotation.operation}` goes on with it; {anew}.",
    )


@task(name="find the servers of a secret", **READ)
async def find_servers(
    project: Project, application: Application, name: str, values: Sequence[str]
) -> tuple[tuple[ServerLogin, ...], frozenset[str]]:
    """The logins at servers whose password a secret may be, and the services that get one of its values, or today's.

    Raises:
        BadInputError: There is no such secret, it has no value, or no server takes it.
        ComposeError: The Compose files cannot be read.
    """

    def find() -> tuple[tuple[ServerLogin, ...], frozenset[str]]:
        environment, secret = project.environment, secret_of(project.environment, name)
        if (present := project.secrets().get(name)) is None:
            raise BadInputError(f"{name} has no value;", advice=f"`roas validate {environment.name}` says why.")
        compose, programs = project.compose(), {program.id: program for program in shipped_programs()}
        services = frozenset[str]().union(*(compose.receivers(secret, value) for value in {present, *values}))
        traits = compose.traits()
        logins = tuple(
            ServerLogin(service=service, probe=probe)
            for service in sorted(services)
            if (program := programs.get(application.services[service].program)) is not None
            for probe in logins_of_secret(program, traits.get(service, ServiceTraits()), secret)
        )
        if not logins:
            raise BadInputError(
                f"{name} is the password of no PostgreSQL, MariaDB, MySQL, RabbitMQ or Redis of {environment.name};",
                advice=f"write its new value where the old one is, then `roas start {environment.name}`; it replaces "
                f"{', '.join(sorted(services)) or 'no service'}.",
            )
        return logins, services

    return await asyncio.to_thread(find)


async def find_place(environment: Environment, name: str, value: str) -> tuple[Path, bool, str, str]:
    """The file that has a secret, whether it is the secret as a whole, and its text of now and of another value.

    Raises:
        BadInputError: It comes from elsewhere, or may not be written; the message says what to do.
    """

    def find() -> tuple[Path, bool, str, str]:
        secret = secret_of(environment, name)
        file = file_of_secret(environment, secret)
        return file, secret.file is not None, *text_of_secret(file, secret, value)

    return await asyncio.to_thread(find)


async def log_in(project: Project, login: ServerLogin, secret: str, value: str) -> ProbeResult:
    """Log in at a server with a value; one that refuses it, or does not answer, is a result."""
    name = project.environment.project
    return await run_probe(login.probe, login.service, project=name, engine=project.engine, secrets={secret: value})


@task(name="tell a server", task_run_name="change the password in {login.service}", **EFFECT)
async def tell_server(project: Project, login: ServerLogin, rotation: Rotation, *, back: bool) -> None:
    """Let a server take the new value; does nothing where it takes it alone. One that does not run is not started.

    Raises:
        RotationError: It does not run, or does not take the value.
    """
    service, deadline = login.service, time.monotonic() + _READY_SECONDS
    while True:
        new, old = [(await log_in(project, login, rotation.secret, value)).ok for value in (rotation.new, rotation.old)]
        containers = [one for one in await asyncio.to_thread(project.inspect_containers, service) if one.up]
        if new or old or not containers or time.monotonic() > deadline:
            break
        await asyncio.sleep(_ASK_AGAIN_SECONDS)
    # Redis keeps no password: its next start takes that of its configuration.
    if (new and not old) or (back and not containers and isinstance(login.probe, RedisProbe)):
        return
    if not containers:
        raise RotationError(
            f"{service} does not run, so its password cannot be changed;",
            advice=f"`roas secret rotate {project.environment.name} {rotation.secret}` starts it and goes on.",
        )
    change = change_password(login.probe, rotation.new, beside_old=not back, salt=secrets.token_bytes(_SALT_BYTES))
    present = {change.variable: rotation.new if new else rotation.old} if change.variable else {}

    def tell(container: ContainerState) -> str:
        commands, what = EngineCommands(project.variables(), "", Limit(_READY_SECONDS)), f"changing it in {service}"
        program = commands.exec(container.container_id, what, change.command, present, with_input=True)
        ended = commands.ask(program, change.given.encode())
        return project.engine.redact(" ".join((ended.error or ended.output).split())[:200])

    words = [await asyncio.to_thread(tell, container) for container in containers]
    if not (answer := await log_in(project, login, rotation.secret, rotation.new)).ok:
        raise RotationError(f"{service} does not take the password: {words[0] or answer.detail};")


@task(name="write a secret", **EFFECT)
async def write_secret(rotation: Rotation) -> None:
    """Write the new value where the old one is.

    Raises:
        EnvironmentFileError: The file was changed meanwhile, or cannot be written.
    """
    texts = rotation.new_text, rotation.old_text
    await asyncio.to_thread(put_secret, Path(rotation.file), rotation.secret, *texts, is_whole=rotation.is_whole)
