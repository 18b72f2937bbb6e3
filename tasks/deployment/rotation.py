"""Rotate a password: find the servers that take it, log in there, tell them, and keep its values until it is over."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from adapters.compose.secret_places import put_secret
from adapters.host.pending_rotation import forget_pending, keep_pending, pending_rotation
from adapters.probes.run import run_probe
from adapters.programs import shipped_programs
from adapters.snapshots.containers import EngineCommands
from adapters.snapshots.streams import Limit
from core.adoption.logins import logins_of_secret
from core.deployment.rotation import change_password
from models.adoption import ServiceTraits
from models.compose import Application
from models.environments import RedisProbe, Secret
from models.failures import HalfRotatedError, RotationError
from models.health import ProbeResult
from models.rotation import Rotation, ServerLogin
from models.settings import current_settings
from tasks.deployment.operations import operation_of
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import EFFECT, READ
from tasks.runtime.task import task

_SECONDS = 60.0
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
    await asyncio.to_thread(forget_pending, current_settings().data_dir, environment)


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
    project: Project, application: Application, secret: Secret, values: Sequence[str]
) -> tuple[tuple[ServerLogin, ...], frozenset[str]]:
    """The logins at servers whose password may be a secret, and all services that get one of its values.

    Raises:
        ComposeError: The Compose files cannot be read.
    """

    def find() -> tuple[tuple[ServerLogin, ...], frozenset[str]]:
        compose, programs = project.compose(), {program.id: program for program in shipped_programs()}
        services = frozenset[str]().union(*(compose.receivers(secret, value) for value in values))
        traits = compose.traits()
        return tuple(
            ServerLogin(service=name, probe=probe)
            for name in sorted(services)
            if (program := programs.get(application.services[name].program)) is not None
            for probe in logins_of_secret(program, traits.get(name, ServiceTraits()), secret)
        ), services

    return await asyncio.to_thread(find)


async def log_in(project: Project, login: ServerLogin, secret: str, value: str) -> ProbeResult:
    """Log in at a server with a value; one that refuses it, or does not answer, is a result."""
    environment = project.environment
    return await run_probe(
        login.probe, login.service, project=environment.project, engine=project.engine, secrets={secret: value}
    )


async def wait_for_login(project: Project, login: ServerLogin, rotation: Rotation, seconds: float) -> None:
    """Wait until a server that was just started takes one of the passwords.

    Raises:
        RotationError: It takes none within these seconds.
    """
    deadline = time.monotonic() + seconds
    while True:
        answers = [await log_in(project, login, rotation.secret, value) for value in (rotation.old, rotation.new)]
        if any(answer.ok for answer in answers):
            return
        if time.monotonic() > deadline:
            raise RotationError(f"{login.service} was started and takes no password: {answers[0].detail};")
        await asyncio.sleep(_ASK_AGAIN_SECONDS)


@task(name="tell a server", task_run_name="change the password in {login.service}", **EFFECT)
async def tell_server(project: Project, login: ServerLogin, rotation: Rotation, *, back: bool) -> None:
    """Let a server take the new value, or on the way back the old one; does nothing where it is so already.

    What a person stopped is not started.

    Raises:
        RotationError: It does not run, or does not take the value.
    """
    want, other = (rotation.old, rotation.new) if back else (rotation.new, rotation.old)
    takes_want, takes_other = [(await log_in(project, login, rotation.secret, value)).ok for value in (want, other)]
    if takes_want and not takes_other:
        return
    containers = [each for each in await asyncio.to_thread(project.inspect_containers, login.service) if each.up]
    if not containers and back and isinstance(login.probe, RedisProbe):
        # It keeps no password: its next start takes that of its configuration.
        return
    if not containers:
        raise RotationError(
            f"{login.service} does not run, so its password cannot be changed;",
            advice=f"`roas secret rotate {project.environment.name} {rotation.secret}` starts it and goes on.",
        )
    change = change_password(login.probe, want, beside_old=not back, salt=secrets.token_bytes(_SALT_BYTES))
    present = {change.variable: want if takes_want else other} if change.variable else {}

    def tell() -> str:
        commands, said = EngineCommands(project.variables(), "", Limit(_SECONDS)), []
        for container in containers:
            program = commands.exec(
                container.container_id, f"changing the password in {login.service}", change.command, present,
                with_input=True,
            )  # fmt: skip
            ended = commands.ask(program, change.given.encode())
            said.append(ended.error or ended.output)
        return project.engine.redact(" ".join(" ".join(said).split())[:200])

    words = await asyncio.to_thread(tell)
    if not (answer := await log_in(project, login, rotation.secret, want)).ok:
        raise RotationError(
            f"{login.service} does not take its {'old' if back else 'new'} password: {words or answer.detail};"
        )


@task(name="write a secret", **EFFECT)
async def write_secret(rotation: Rotation, *, back: bool) -> None:
    """Write the new value where the secret is, or on the way back the old one.

    Raises:
        EnvironmentFileError: The file was changed meanwhile, or cannot be written.
    """
    texts = (rotation.old_text, rotation.new_text) if back else (rotation.new_text, rotation.old_text)
    await asyncio.to_thread(put_secret, Path(rotation.file), rotation.secret, *texts, is_whole=rotation.is_whole)
