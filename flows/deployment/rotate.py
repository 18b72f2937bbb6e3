"""Rotate the password of a server: tell it, write the new value, replace who uses it, and prove both.

Both values are sealed before anything changes, and until the rotation is proven or undone nothing else starts.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import string
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from prefect import flow
from pydantic import Field

from adapters.compose.secret_places import file_of_secret, secret_of, text_of_secret
from core.deployment.plan import refuse_paused
from core.deployment.release import replaced_services
from core.deployment.update import part_of
from flows.common import parameters
from flows.execution.execute import keep_proven, start_in_order, verify
from flows.execution.going_back import stop_in_reverse
from flows.operation.recorder import ROLLING_BACK, OperationRequest
from flows.operation.steps import OperationRun, Step, operate, turn_back
from flows.recovery.escalate import escalate
from models.compose import Application
from models.environments import Secret
from models.failures import BadInputError, PausedError, RotationError
from models.health import HealthReport
from models.operations.record import NOTHING_TOUCHED
from models.results import OperationResult, ServiceStart
from models.rotation import Rotation, ServerLogin
from tasks.deployment.kept_values import renew_kept_values
from tasks.deployment.operations import is_meant_to_run
from tasks.deployment.rotation import (
    end_pending,
    find_servers,
    log_in,
    read_pending,
    seal_pending,
    tell_server,
    wait_for_login,
    write_secret,
)
from tasks.deployment.services import (
    create_containers,
    inspect_application,
    plan_start,
    proven_releases,
    read_application,
    read_injected_files,
    read_template,
)
from tasks.storage.restores import refuse_half_restored

log = logging.getLogger("roas")

REPLACING = "replacing"
"""Step of a rotation: from here on containers are replaced, so that the way back replaces them too."""
REPLACED = "replaced"
"""Step of a rotation: the services run with the new value, and are proven."""

_CHARACTERS = string.ascii_letters + string.digits
_LENGTH = 32


@flow(name="rotate-secret", flow_run_name="rotate {secret} of {environment}")
async def rotate_secret(
    environment: parameters.EnvironmentName = parameters.ENVIRONMENT,
    secret: str = Field("", description="Name of a secret of the environment that is a server's password."),
    asked_by: str | None = parameters.ASKED_BY,
    deployment_id: str | None = parameters.DEPLOYMENT_ID,
    compose_files: parameters.ComposeFiles = parameters.COMPOSE_FILES,
    wait_seconds: parameters.Seconds = parameters.WAIT_SECONDS,
) -> OperationResult:
    """Give a server and all that use it a new random password, and prove that the old one is refused.

    It is recorded as a start. One that fails is undone: server, file and services have the old password again. One that
    an earlier rotation left unfinished goes on with the values of that one.

    Raises:
        BadInputError: It is no secret that a running server takes, or it cannot be written.
        RotationError: A server does not take the new password, or still takes the old one.
        StartFailedError: A service is not healthy with it.
    """
    run = Rotate(secret=secret)
    request = OperationRequest(asked_by, deployment_id, compose_files, wait_seconds)
    await operate(run, ROTATE, environment, request, on_failure=escalate, back=ROTATE_BACK)
    servers = ", ".join(sorted({login.service for login in run.logins}))
    reason = f"{secret} is rotated: {servers} takes the new password and refuses the old one"
    return run.recorder.result(reason, services=run.starts, health=run.health)


@dataclass(slots=True, kw_only=True)
class Rotate(OperationRun):
    """A rotation: what it has found out and done so far."""

    secret: str
    declared: Secret = field(init=False)
    application: Application = field(init=False)
    logins: tuple[ServerLogin, ...] = ()
    receivers: frozenset[str] = frozenset()
    rotation: Rotation | None = None
    """Its values, once they are sealed; until then there is nothing to undo."""
    replacing: bool = False
    written_at: datetime | None = None
    starts: tuple[ServiceStart, ...] = ()
    health: HealthReport | None = None

    @property
    def sealed(self) -> Rotation:
        """The values of the rotation, which a step has sealed."""
        assert self.rotation is not None  # noqa: S101 - no step that needs them runs without
        return self.rotation


async def look(run: Rotate) -> None:
    """Load the environment, and take up what this rotation, or an earlier one of the same secret, left unfinished.

    Raises:
        BadInputError: There is no such secret.
        HalfRotatedError: Another rotation is not over.
        PausedError: A person stopped or paused the services since.
    """
    recorder, interrupted = run.recorder, bool(run.recorder.interrupted)
    environment = (await recorder.open()).environment
    run.declared, run.record.rotated = secret_of(environment, run.secret), run.secret
    pending = await read_pending(recorder.name)
    is_ours = pending is not None and pending.operation == recorder.deployment_id
    takes_over = pending is not None and pending.secret == run.secret and not interrupted
    await refuse_half_restored(environment, pending.operation if pending and takes_over else recorder.deployment_id)
    run.application = await read_application(run.project)
    if pending is None or not (is_ours or takes_over):
        return
    refuse_paused(await inspect_application(run.project), pending.services, "a rotation")
    if interrupted and not await is_meant_to_run(recorder.name, but=recorder.deployment_id):
        raise PausedError(
            f"{recorder.name} was stopped since the rotation of {run.secret} was interrupted, and is not started;",
            advice=f"`roas secret rotate {recorder.name} {run.secret}` brings it to its end, and starts what ran.",
        )
    run.rotation, run.replacing = replace(pending, operation=recorder.deployment_id), REPLACING in recorder.done
    if takes_over and not is_ours:
        run.replacing = True
        await seal_pending(run.project, run.rotation)
    recorder.redactor = await asyncio.to_thread(run.project.redactor)


async def find(run: Rotate) -> None:
    """Find the servers whose password the secret is, and the services that get it.

    Raises:
        BadInputError: It has no value, or no server takes it.
    """
    name, present = run.recorder.name, run.project.secrets().get(run.secret)
    if present is None:
        raise BadInputError(f"{run.secret} has no value;", advice=f"`roas validate {name}` says why.")
    values = (run.rotation.old, run.rotation.new) if run.rotation else (present,)
    run.logins, run.receivers = await find_servers(run.project, run.application, run.declared, values)
    if not run.logins:
        who = f"{', '.join(sorted(run.receivers)) or 'no service'} gets it"
        raise BadInputError(
            f"{run.secret} is the password of no PostgreSQL, MariaDB, MySQL, Redis or RabbitMQ of {name}; {who};",
            advice=f"write its new value where the old one is, then `roas start {name}`.",
        )
    if run.rotation is not None:
        run.logins = tuple(login for login in run.logins if str(login) in run.rotation.servers)


async def prepare(run: Rotate) -> str | None:
    """Make the new value and seal both, once it is sure that the servers can be told and the value be written.

    Raises:
        BadInputError: One cannot be.
        PausedError: A person paused a service.
    """
    if run.rotation is not None:
        return None
    name, project, old = run.recorder.name, run.project, run.project.secrets()[run.secret]
    file = await asyncio.to_thread(file_of_secret, project.environment, run.declared)
    new = "".join(secrets.choice(_CHARACTERS) for _ in range(_LENGTH))
    states = [state for state in await inspect_application(project) if not state.one_off]
    refuse_paused(states, run.receivers, "a rotation")
    up = {state.service for state in states if state.up}
    if down := sorted({login.service for login in run.logins} - up):
        raise BadInputError(
            f"{', '.join(down)} does not run, so its password cannot be changed;",
            advice=f"start it: roas start {name}.",
        )
    planned = (await plan_start(project, run.application)).plan
    if changed := sorted(up & set(replaced_services(planned))):
        raise BadInputError(
            f"{', '.join(changed)} would be replaced by a start, which a rotation does not do besides;",
            advice=f"`roas plan {name}` says why; start it first: roas start {name}.",
        )
    answers = {login: await log_in(project, login, run.secret, old) for login in run.logins}
    # A job that dumps a database has the image of a server, and is none.
    run.logins = tuple(login for login, answer in answers.items() if answer.ok)
    if not run.logins:
        why = "; ".join(f"{login.service}: {answer.detail}" for login, answer in answers.items())
        raise BadInputError(
            f"{run.secret} does not log in: {why};",
            advice="a rotation needs the present password: compare it with the server's.",
        )
    for login in run.logins:
        if (await log_in(project, login, run.secret, new)).ok:
            raise BadInputError(
                f"{login.service} lets in with any password;", advice="let it ask for one, and restart what uses it."
            )
    old_text, new_text = await asyncio.to_thread(text_of_secret, file, run.declared, new)
    run.rotation = Rotation(
        operation=run.recorder.deployment_id,
        secret=run.secret,
        old=old,
        new=new,
        file=str(file),
        is_whole=run.declared.file is not None,
        old_text=old_text,
        new_text=new_text,
        services=tuple(sorted(run.receivers & up)),
        servers=tuple(map(str, run.logins)),
    )
    await seal_pending(project, run.rotation)
    run.recorder.redactor = await asyncio.to_thread(project.redactor)
    return ""


async def start_servers(run: Rotate) -> None:
    """Start the servers that were stopped in an unfinished rotation: a person asks that it be brought to its end."""
    if run.recorder.interrupted:
        return
    project, servers = run.project, {login.service for login in run.logins}
    if servers <= {state.service for state in await inspect_application(project) if state.up}:
        return
    await create_containers(project, fetched=True, services=sorted(servers))
    files = await read_injected_files(project)
    for state in await inspect_application(project):
        if state.service in servers and not state.up:
            await asyncio.to_thread(project.engine.containers.start, state.container_id, files.get(state.service, ()))
    for login in run.logins:
        await wait_for_login(project, login, run.sealed, run.environment.start_timeout_seconds)


async def tell(run: Rotate) -> str:
    """Let each server take the new password."""
    for login in run.logins:
        await tell_server(run.project, login, run.sealed, back=False)
    return ""


async def write(run: Rotate) -> str:
    """Write the new value where the secret is; from here on Compose and probes get it."""
    await write_secret(run.sealed, back=False)
    run.project.refresh()
    run.written_at = datetime.now(UTC)
    return ""


async def replace_users(run: Rotate) -> str:
    """Stop what gets the secret at once, let Compose replace it, and start and prove it in dependency order."""
    run.replacing = True
    await run.recorder.step(REPLACING)
    await _replace(run)
    return ""


async def prove(run: Rotate) -> None:
    """Log in at each server with the new password, and be refused with the old one; judge the health of the services.

    Raises:
        RotationError: It is not so.
    """
    await _prove(run, run.sealed.new, run.sealed.old)
    run.health = await verify(run.recorder, run.application, only=run.sealed.services)


async def keep_release(run: Rotate) -> None:
    """Keep what runs as a proven release, and let earlier ones keep the new password: none takes the old one."""
    await asyncio.to_thread(renew_kept_values, run.project, run.sealed)
    if await proven_releases(run.recorder.name):
        template = await read_template(run.project, run.application)
        # Values that changed after the begin of an operation are not kept, and this one has changed one itself.
        began = replace(run.recorder, started_at=run.written_at or run.recorder.started_at)
        await keep_proven(began, run.application, template)


async def end(run: Rotate) -> None:
    """Forget the old password, and let other operations start again."""
    await end_pending(run.recorder.name)
    run.rotation = None


async def tell_back(run: Rotate) -> None:
    """Let each server take the old password again.

    Raises:
        RotationError: It does not run, or which servers were told could not be found out.
    """
    if set(run.sealed.servers) != set(map(str, run.logins)):
        raise RotationError("the servers that were told the new password are not found;")
    for login in run.logins:
        await tell_server(run.project, login, run.sealed, back=True)


async def write_back(run: Rotate) -> None:
    """Write the old value where the secret is."""
    await write_secret(run.sealed, back=True)
    run.project.refresh()


async def replace_back(run: Rotate) -> None:
    """Replace the services once more, with the old password."""
    await _replace(run)


async def prove_back(run: Rotate) -> None:
    """Log in with the old password, and say that all is as before."""
    await _prove(run, run.sealed.old, run.sealed.new)
    run.record.undone = f"{run.secret} is as before" + (f": {len(run.starts)} services proven" if run.starts else "")
    log.warning("rollback: %s", run.record.undone)


async def say_untouched(run: Rotate) -> None:
    """Record that nothing was changed, or that all is as before already."""
    run.record.undone = f"{run.secret} is as before" if "prepared" in run.recorder.done else NOTHING_TOUCHED


def _is_sealed(run: Rotate) -> bool:
    return run.rotation is not None


def _is_open(run: Rotate) -> bool:
    """Whether it is not over: one that was killed just before its end was recorded has no values any more."""
    return run.rotation is not None or "prepared" not in run.recorder.done


ROTATE: tuple[Step[Rotate], ...] = (
    Step("inspect", look, looks=True),
    Step("find servers", find, looks=True, when=_is_open),
    Step("prepared", prepare, when=_is_open),
    Step("start servers", start_servers, when=_is_sealed),
    Step("told", tell, when=_is_sealed),
    Step("written", write, when=_is_sealed),
    Step(REPLACED, replace_users, when=lambda run: _is_sealed(run) and REPLACED not in run.recorder.done),
    Step("prove", prove, when=_is_sealed),
    Step("keep release", keep_release, when=_is_sealed),
    Step("end", end, when=_is_sealed),
)
"""A rotation of a password."""

ROTATE_BACK: tuple[Step[Rotate], ...] = (
    Step("report that nothing changed", say_untouched, when=lambda run: not _is_sealed(run)),
    Step(ROLLING_BACK, turn_back, when=_is_sealed),
    Step("tell back", tell_back, when=_is_sealed),
    Step("write back", write_back, when=_is_sealed),
    Step("replace back", replace_back, when=lambda run: _is_sealed(run) and run.replacing),
    Step("prove the rollback", prove_back, when=_is_sealed),
    Step("end", end, when=_is_sealed),
)
"""How a rotation that fails goes back: the old password is what the servers take, and what all services have."""


async def _replace(run: Rotate) -> None:
    project, services = run.project, frozenset(run.sealed.services)
    run.application = await read_application(project)
    part = part_of(run.application, services)
    await stop_in_reverse(
        project, part, [state for state in await inspect_application(project) if state.service in services]
    )
    await create_containers(project, fetched=True, services=sorted(services))
    run.starts = await start_in_order(replace(run.recorder, steps=(), done=frozenset()), part)


async def _prove(run: Rotate, takes: str, refuses: str) -> None:
    for login in run.logins:
        taken = await log_in(run.project, login, run.secret, takes)
        if not taken.ok:
            raise RotationError(f"{login.service} refuses the password that it was told: {taken.detail};")
        if (await log_in(run.project, login, run.secret, refuses)).ok:
            raise RotationError(f"{login.service} still takes the password that it was to refuse;")
