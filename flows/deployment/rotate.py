"""Rotate the password of a server: tell it, write the new value, replace who uses it, and prove both.

Both values are sealed before anything changes, and until the rotation is proven or undone nothing else starts. The way
back takes the same steps with the values exchanged.
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

from core.deployment.plan import refuse_paused
from core.deployment.release import replaced_services
from core.deployment.update import part_of
from flows.common import parameters
from flows.common.requester import require_consent
from flows.execution.execute import keep_proven, start_in_order, verify
from flows.execution.going_back import stop_in_reverse
from flows.operation.recorder import ROLLING_BACK, OperationRequest
from flows.operation.steps import OperationRun, Step, operate, turn_back
from flows.recovery.escalate import escalate
from models.compose import Application
from models.failures import BadInputError, PausedError, RotationError
from models.health import HealthReport
from models.operations.record import NOTHING_TOUCHED
from models.results import OperationResult, ServiceStart
from models.rotation import Rotation, ServerLogin
from tasks.deployment.kept_values import renew_kept_values
from tasks.deployment.operations import is_meant_to_run
from tasks.deployment.rotation import (
    end_pending,
    find_place,
    find_servers,
    log_in,
    read_pending,
    seal_pending,
    tell_server,
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

PREPARED, REPLACING, REPLACED = "prepared", "replacing", "replaced"
"""Steps of a rotation: its values are sealed; its services are about to be replaced; they run with the new value."""

_CHARACTERS, _LENGTH = string.ascii_letters + string.digits, 32


@flow(name="rotate-secret", flow_run_name="rotate {secret} of {environment}")
async def rotate_secret(
    environment: parameters.EnvironmentName = parameters.ENVIRONMENT,
    secret: str = Field("", description="Name of a secret of the environment that is a server's password."),
    asked_by: str | None = parameters.ASKED_BY,
    deployment_id: str | None = parameters.DEPLOYMENT_ID,
    compose_files: parameters.ComposeFiles = parameters.COMPOSE_FILES,
    wait_seconds: parameters.Seconds = parameters.WAIT_SECONDS,
    confirm: str = parameters.CONFIRM,
) -> OperationResult:
    """Give a server and all that use it a new random password, and prove that the old one is refused.

    It is recorded as a start. One that fails is undone: server, file and services have the old password again. One that
    an earlier rotation left unfinished goes on with its values.

    Raises:
        BadInputError: It is no secret that a running server takes, or it cannot be written. Or the environment is
            locked, and `confirm` is not its name.
        RotationError: A server does not take the new password, or still takes the old one.
        StartFailedError: A service is not healthy with it.
    """
    run = Rotate(secret=secret, confirm=confirm, asked_by=asked_by)
    request = OperationRequest(asked_by, deployment_id, compose_files, wait_seconds)
    await operate(run, ROTATE, environment, request, on_failure=escalate, back=ROTATE_BACK)
    servers = ", ".join(sorted({login.service for login in run.logins}))
    reason = f"{secret} is rotated: {servers} takes the new password and refuses the old one"
    return run.recorder.result(reason, services=run.starts, health=run.health)


@dataclass(slots=True, kw_only=True)
class Rotate(OperationRun):
    """A rotation: what it has found out and done so far."""

    secret: str
    confirm: str
    asked_by: str | None
    application: Application = field(init=False)
    logins: tuple[ServerLogin, ...] = ()
    receivers: frozenset[str] = frozenset()
    pending: Rotation | None = None
    """Its values, once they are sealed; until then there is nothing to undo."""
    replacing: bool = False
    back: bool = False
    written_at: datetime = field(init=False)
    starts: tuple[ServiceStart, ...] = ()
    health: HealthReport | None = None

    @property
    def rotation(self) -> Rotation:
        """The values that are sealed, those exchanged on the way back."""
        assert self.pending is not None  # noqa: S101 - only steps that run with values ask
        return self.pending.reversed() if self.back else self.pending


async def look(run: Rotate) -> None:
    """Load the environment, and take up what this rotation, or an earlier one of the same secret, left unfinished.

    Raises:
        HalfRotatedError: Another rotation is not over.
        PausedError: A person stopped or paused the services since.
    """
    recorder, name, was_interrupted = run.recorder, run.recorder.name, bool(run.recorder.interrupted)
    environment, pending = (await recorder.open()).environment, await read_pending(run.recorder.name)
    if pending is not None and pending.secret == run.secret and not was_interrupted:
        # Which containers it had replaced is not known here.
        run.replacing, pending = True, replace(pending, operation=recorder.deployment_id)
        await seal_pending(run.project, pending)
    if pending is None and not was_interrupted:
        await require_consent(name, "rotate", run.confirm, run.asked_by)
    await refuse_half_restored(environment, recorder.deployment_id)
    run.application, run.pending, run.record.rotated = await read_application(run.project), pending, run.secret
    run.replacing |= REPLACING in recorder.done
    if pending is None:
        return
    refuse_paused(await inspect_application(run.project), pending.services, "a rotation")
    if was_interrupted and not await is_meant_to_run(name, but=recorder.deployment_id):
        run.pending = None
        raise PausedError(
            f"{name} was stopped since the rotation of {run.secret} was interrupted, and is not started;",
            advice=f"`roas secret rotate {name} {run.secret}` brings it to its end, and starts what ran.",
        )
    recorder.redactor = await asyncio.to_thread(run.project.redactor)


async def find(run: Rotate) -> None:
    """Find the servers whose password the secret is, and the services that get it.

    Raises:
        BadInputError: There is no such secret, or no server takes it.
    """
    values = (run.pending.old, run.pending.new) if run.pending else ()
    run.logins, run.receivers = await find_servers(run.project, run.application, run.secret, values)
    if run.pending is not None:
        run.logins = tuple(login for login in run.logins if str(login) in run.pending.servers)


async def prepare(run: Rotate) -> str:
    """Make the new value and seal both, once it is sure that the servers can be told and the value be written.

    Raises:
        BadInputError: One cannot be.
        PausedError: A person paused a service.
    """
    if run.pending is not None:
        return ""
    name, project, old = run.recorder.name, run.project, run.project.secrets()[run.secret]
    new = "".join(secrets.choice(_CHARACTERS) for _ in range(_LENGTH))
    file, is_whole, old_text, new_text = await find_place(project.environment, run.secret, new)
    states = [state for state in await inspect_application(project) if not state.one_off]
    refuse_paused(states, run.receivers, "a rotation")
    up = {state.service for state in states if state.up}
    if down := sorted({login.service for login in run.logins} - up):
        raise BadInputError(
            f"{', '.join(down)} does not run, so its password cannot be changed;",
            advice=f"start it: roas start {name}.",
        )
    if changed := sorted(up.intersection(replaced_services((await plan_start(project, run.application)).plan))):
        raise BadInputError(
            f"A start would replace {', '.join(changed)}, which a rotation does not do besides;",
            advice=f"`roas plan {name}` says why; start it first: roas start {name}.",
        )
    answers = [(login, await log_in(project, login, run.secret, old)) for login in run.logins]
    # A job that dumps a database has the image of a server, and is none.
    run.logins = tuple(login for login, answer in answers if answer.ok)
    if not run.logins:
        raise BadInputError(
            f"{run.secret} does not log in: {'; '.join(answer.detail for _, answer in answers)};",
            advice="a rotation needs the present password: compare it with the server's.",
        )
    if open_to_all := [login.service for login in run.logins if (await log_in(project, login, run.secret, new)).ok]:
        raise BadInputError(
            f"{open_to_all[0]} lets in with any password;", advice="let it ask for one, then `roas start`."
        )
    run.pending = Rotation(
        operation=run.recorder.deployment_id, secret=run.secret, old=old, new=new, file=str(file), is_whole=is_whole,
        old_text=old_text, new_text=new_text, services=tuple(sorted(run.receivers & up)),
        servers=tuple(map(str, run.logins)),
    )  # fmt: skip
    await seal_pending(project, run.pending)
    run.recorder.redactor = await asyncio.to_thread(project.redactor)
    return ""


async def start_servers(run: Rotate) -> None:
    """Start the servers that a person stopped in an unfinished rotation and now wants to be brought to its end."""
    project, servers = run.project, {login.service for login in run.logins}
    if run.recorder.interrupted or servers <= {one.service for one in await inspect_application(project) if one.up}:
        return
    await create_containers(project, fetched=True, services=sorted(servers))
    files = await read_injected_files(project)
    for one in await inspect_application(project):
        if one.service in servers and not one.up:
            await asyncio.to_thread(project.engine.containers.start, one.container_id, files.get(one.service, ()))


async def tell(run: Rotate) -> str:
    """Let each server take the password.

    Raises:
        RotationError: It does not run, or does not take it; or which servers were told is not found out.
    """
    if set(run.rotation.servers) != set(map(str, run.logins)):
        raise RotationError("The servers that take the password are not found any more;")
    for login in run.logins:
        await tell_server(run.project, login, run.rotation, back=run.back)
    return ""


async def write(run: Rotate) -> str:
    """Write the value where the secret is; from here on Compose and probes get it."""
    await write_secret(run.rotation)
    run.project.refresh()
    run.written_at = datetime.now(UTC)
    return ""


async def replace_users(run: Rotate) -> str:
    """Stop what gets the secret at once, let Compose replace it, and start and prove it in dependency order."""
    project, services, recorder = run.project, frozenset(run.rotation.services), run.recorder
    run.application, run.replacing = await read_application(project), True
    await recorder.step(REPLACING)
    part = part_of(run.application, services)
    await stop_in_reverse(project, part, [one for one in await inspect_application(project) if one.service in services])
    await create_containers(project, fetched=True, services=sorted(services))
    run.starts = await start_in_order(replace(recorder, steps=(), done=frozenset()), part)
    return ""


async def prove(run: Rotate) -> None:
    """Log in at each server with the password, and be refused with the other one; judge the health of the services.

    Raises:
        RotationError: It is not so.
    """
    for login in run.logins:
        takes, refuses = [
            await log_in(run.project, login, run.secret, value) for value in (run.rotation.new, run.rotation.old)
        ]
        if not takes.ok or refuses.ok:
            why = "it still takes the other one" if takes.ok else takes.detail
            raise RotationError(f"{login.service} was told a password, and {why};")
    run.health = await verify(run.recorder, run.application, only=run.rotation.services)


async def keep_release(run: Rotate) -> None:
    """Keep what runs as a proven release, and let earlier ones keep the new password: no server takes the old one."""
    await asyncio.to_thread(renew_kept_values, run.project, run.rotation)
    if await proven_releases(run.recorder.name):
        template = await read_template(run.project, run.application)
        # Values that changed after an operation began are not kept, and this one has changed one itself.
        await keep_proven(replace(run.recorder, started_at=run.written_at), run.application, template)


async def end(run: Rotate) -> None:
    """Forget the other password, and let operations start again."""
    await end_pending(run.recorder.name)
    run.pending = None


async def reverse(run: Rotate) -> str:
    """Decide that the rotation goes back."""
    run.back = True
    return await turn_back(run)


async def report_back(run: Rotate) -> None:
    """Record how it was undone."""
    undone = f"{run.secret} is as before" + (f": {len(run.starts)} services proven" if run.starts else "")
    run.record.undone = undone if PREPARED in run.recorder.done or run.back else NOTHING_TOUCHED
    log.warning("rollback: %s", run.record.undone)


def _is_sealed(run: Rotate) -> bool:
    return run.pending is not None


def _is_open(run: Rotate) -> bool:
    """Whether it is not over: one that was killed just before its end was recorded has no values any more."""
    return run.pending is not None or PREPARED not in run.recorder.done


ROTATE: tuple[Step[Rotate], ...] = (
    Step("inspect", look, looks=True),
    Step("find servers", find, looks=True, when=_is_open),
    Step(PREPARED, prepare, when=_is_open),
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
    Step(ROLLING_BACK, reverse, when=_is_sealed),
    Step("told back", tell, when=_is_sealed),
    Step("written back", write, when=_is_sealed),
    Step("replaced back", replace_users, when=lambda run: _is_sealed(run) and run.replacing),
    Step("prove", prove, when=_is_sealed),
    Step("report", report_back),
    Step("end", end, when=_is_sealed),
)
"""How a rotation that fails goes back: the old password is what the servers take, and what all services have."""
