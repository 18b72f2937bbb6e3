"""Tools of `roas mcp` that change something. Each runs the command of its name, which records who asked."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from pydantic import Field, TypeAdapter

from adapters.host.own_command import CommandResult, run_own_command
from cli.mcp_answers import AgentTool, Found, Input
from cli.options import known_environment
from flows.common.terminal import echo
from models.failures import BadInputError, RoasError
from models.operations import Operation
from models.recovery import Choice, RecoveryOutcome

_ENVIRONMENT = "Name of an environment, as `status` lists them."


class _EnvironmentInput(Input):
    environment: str = Field(description=_ENVIRONMENT)


class _Confirmed(_EnvironmentInput):
    confirm: str = Field(default="", description="The environment's name, once a person agreed: it is locked.")

    @property
    def options(self) -> list[str]:
        return [f"--confirm={self.confirm}"] if self.confirm else []


class _Start(_EnvironmentInput):
    plan_id: str = Field(
        min_length=1, description="The id that `plan` answered: the start does exactly this plan, or nothing."
    )


class _Update(_Confirmed):
    services: list[str] = Field(default=[], max_length=100, description="These services; without them, all.")
    plan_id: str | None = Field(
        default=None,
        min_length=1,
        description="The id that `plan` answered with `update`: the update does exactly this plan, or nothing. "
        "An update of named services takes none, every other one needs it.",
    )


class _Rehearse(_EnvironmentInput):
    services: list[str] = Field(default=[], max_length=100, description="These services; without them, all.")
    snapshot: bool = Field(
        default=False, description="Save the data now, and try on that; else on the newest snapshot."
    )


class _Sync(_Confirmed):
    revision: str = Field(
        min_length=7, description="The revision that `plan_sync` answered: the sync takes exactly this one, or nothing."
    )


class _Restart(_Confirmed):
    services: list[str] = Field(default=[], max_length=100, description="These services; without them, all.")


class _Rollback(_Confirmed):
    release: str | None = Field(
        default=None,
        min_length=1,
        description="A release's id or its first letters; without it the latest that differs.",
    )


class _Rotate(_Confirmed):
    secret: str = Field(min_length=1, description="Name of a secret that is a server's password.")


class _Recover(_EnvironmentInput):
    text: str = Field(min_length=1, max_length=100_000, description="The error's text, as it was printed.")
    service: str | None = Field(default=None, description="The service that reported it.")
    dry_run: bool = Field(default=False, description="Tell what would be done; change nothing.")


class _Resolve(Input):
    ticket_id: str = Field(min_length=1, description="The ticket's id, or its first letters.")
    note: str = Field(min_length=1, description="Why, or what fixed it; stored.")
    decision: Choice = Field(default=Choice.RESOLVED, description="How to continue.")


class _Unpause(Input):
    environment: str | None = Field(default=None, description=f"{_ENVIRONMENT} Without it, everywhere.")
    service: str | None = Field(default=None, description="One service; without it, every service.")


class _Pause(_Unpause):
    minutes: int | None = Field(default=None, ge=1, le=525_600, description="How long; without it until `unpause`.")
    reason: str = Field(min_length=1, description="Why; shown with the pause.")


async def _run(words: Sequence[str], client: str, stdin: str = "") -> CommandResult:
    asked_by = f"MCP client {client or 'without a name'}"
    return await run_own_command(
        words, stdin=stdin, variables={"ROAS_ASKED_BY": asked_by}, report=lambda line: echo(line, err=True)
    )


async def _operate(
    words: Sequence[str], params: _EnvironmentInput, client: str, arguments: Sequence[str] = ()
) -> Found:
    """Run an operation, and read its record where it left one; `show` has the whole."""
    from tasks.reporting.read import read_deployment

    name = str(known_environment(params.environment))
    done = await _run([*words, "--json", "--", name, *arguments], client)
    document = _document(done)
    if "operation" not in document:
        # A sync that has nothing to do records nothing.
        raise RoasError(f"{name} is unchanged: {document['reason']}")
    operation = read_deployment(document["operation"]["deployment_id"]).operation
    reason = operation.record.reason or "the record has no reason"
    failed = f"{operation.kind} failed: {reason}; `why` explains {operation.deployment_id}."
    return Found(value=operation, error=failed if done.code else "")


async def _start(params: _Start, client: str) -> Found:
    return await _operate(["start", f"--plan={params.plan_id}"], params, client)


async def _update(params: _Update, client: str) -> Found:
    if not params.plan_id and not params.services:
        raise BadInputError("An update of all services needs plan_id;", advice="ask `plan` with `update`.")
    plan = [f"--plan={params.plan_id}"] if params.plan_id else []
    return await _operate(["update", *params.options, *plan], params, client, params.services)


async def _rehearse(params: _Rehearse, client: str) -> Found:
    words = ["update", "--rehearse", *(["--snapshot"] if params.snapshot else [])]
    return await _operate(words, params, client, params.services)


async def _sync(params: _Sync, client: str) -> Found:
    return await _operate(["sync", *params.options, f"--revision={params.revision}"], params, client)


async def _stop(params: _Confirmed, client: str) -> Found:
    return await _operate(["stop", *params.options], params, client)


async def _restart(params: _Restart, client: str) -> Found:
    return await _operate(["restart", *params.options], params, client, params.services)


async def _rollback(params: _Rollback, client: str) -> Found:
    return await _operate(["rollback", *params.options], params, client, [params.release] if params.release else [])


async def _rotate(params: _Rotate, client: str) -> Found:
    return await _operate(["secret", "rotate", *params.options], params, client, [params.secret])


async def _recover(params: _Recover, client: str) -> Found:
    options = [*([f"--service={params.service}"] if params.service else []), *(["--dry-run"] if params.dry_run else [])]
    name = str(known_environment(params.environment))
    done = await _run(["recover", *options, "--json", "--", name, "-"], client, stdin=params.text)
    outcome = TypeAdapter(RecoveryOutcome).validate_python(_document(done))
    return Found(value=outcome, error="" if outcome.success else f"{outcome.method.label}: {outcome.reason}")


async def _resolve(params: _Resolve, client: str) -> Found:
    words = ["resolve", f"--decision={params.decision}", f"--note={params.note}", "--", params.ticket_id]
    return _answer_of(await _run(words, client))


async def _pause(params: _Pause, client: str) -> Found:
    length = [f"--for={params.minutes}m"] if params.minutes else []
    return _answer_of(await _run(["pause", *_scope(params, *length, f"--reason={params.reason}")], client))


async def _unpause(params: _Unpause, client: str) -> Found:
    return _answer_of(await _run(["unpause", *_scope(params)], client))


def _scope(params: _Unpause, *options: str) -> list[str]:
    environment = [f"--env={params.environment}"] if params.environment else []
    return [*environment, *options, "--", *([params.service] if params.service else [])]


def _answer_of(done: CommandResult) -> Found:
    if done.code:
        raise RoasError(_error(done))
    return Found(value=done.out.strip())


def _document(done: CommandResult) -> Any:
    """The JSON document that a command printed.

    Raises:
        RoasError: It printed none, or its error, and says why.
    """
    try:
        document = json.loads(done.out)
    except ValueError as error:
        raise RoasError(_error(done)) from error
    if document.keys() == {"error", "advice", "exit_code"}:
        raise RoasError(document["error"], advice=document["advice"])
    return document


def _error(done: CommandResult) -> str:
    return done.error or f"The command ended with exit code {done.code} and gave no reason; see the server's log."


_DETAILS = (".details",)

_TOOLS = (
    AgentTool(
        "start",
        "Start an environment exactly as `plan` said: validate, start in dependency order, verify health, "
        "record everything; roll back on failure. Recreates and restarts services.",
        _Start, Operation, _start, _DETAILS, destructive=True,
    ),
    AgentTool(
        "update",
        "Pull and build new images, then replace and prove one service after the other; back to the "
        "earlier ones where one fails. Only in the environment's update windows.",
        _Update, Operation, _update, _DETAILS, destructive=True,
    ),
    AgentTool(
        "rehearse_update",
        "Try an update in an isolated copy of the application, on a restored snapshot; where it fails, tell "
        "which change is to blame. Production is left alone.",
        _Rehearse, Operation, _rehearse, _DETAILS,
    ),
    AgentTool(
        "sync",
        "Update to the revision that `plan_sync` answered, service by service; back to the earlier one "
        "where one fails. Only in the environment's update windows.",
        _Sync, Operation, _sync, _DETAILS, destructive=True,
    ),
    AgentTool(
        "stop",
        "Stop all services of an environment, in reverse order.",
        _Confirmed, Operation, _stop, _DETAILS, destructive=True,
    ),
    AgentTool(
        "restart",
        "Restart all services of an environment, or the named ones, in dependency order.",
        _Restart, Operation, _restart, _DETAILS, destructive=True,
    ),
    AgentTool(
        "rollback",
        "Return an environment to an earlier release.",
        _Rollback, Operation, _rollback, _DETAILS, destructive=True,
    ),
    AgentTool(
        "rotate_secret",
        "Give a server and all that use it a new random password, and prove it; undone where it fails.",
        _Rotate, Operation, _rotate, _DETAILS, destructive=True,
    ),
    AgentTool(
        "recover",
        "Recover from one error, within the limits of the environment's policy, or open a ticket.",
        _Recover, RecoveryOutcome, _recover, (".reason", ".steps"), destructive=True,
    ),
    AgentTool(
        "resolve",
        "Answer a ticket: it was resolved by hand, or how recovery continues.",
        _Resolve, str, _resolve, destructive=True,
    ),
    AgentTool(
        "pause",
        "Switch automatic recovery off, everywhere or for one service; detection continues.",
        _Pause, str, _pause, ("",), destructive=True,
    ),
    AgentTool(
        "unpause", "Switch automatic recovery on again; give what `pause` was given.", _Unpause, str, _unpause, ("",)
    ),
)  # fmt: skip


def operation_tools(allowed: Collection[str]) -> list[AgentTool]:
    """The tools of the allowed operations; to allow `pause` allows `unpause`."""
    names = {*allowed, "unpause"} if "pause" in allowed else allowed
    return [tool for tool in _TOOLS if tool.name in names]
