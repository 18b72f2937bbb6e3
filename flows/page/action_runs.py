"""Do what was asked for on the page: by a run of the environment's deployment, or by the command of that name."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx

from adapters.host.own_command import BegunCommand, begin_own_command
from adapters.server.page_sessions import PageSessions
from core.runtime.page_actions import PageAction, command_words, run_parameters
from flows.common.own_api import OwnApi
from flows.common.requester import ON_THE_PAGE
from flows.page.base import BASE, OwnCommands
from models.failures import NotFoundError, RoasError
from models.page_access import Viewer

_COMMANDS_AT_ONCE = 8
_COMMANDS_KEPT = 50
_WAITS_SECONDS = 3.0
"""For a command of a moment, so that its page shows how it ended."""

_SHOWN_BYTES = 64 * 1024
_NOT_FOR_COMMANDS = "PREFECT_"
"""How variables of the server begin: a command that has them takes itself for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRequest:
    """An action that a person confirmed. `plan` is the id of what was shown; `key` names the form."""

    action: PageAction
    environment: str
    fields: Mapping[str, str]
    plan: str
    viewer: Viewer
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCommand:
    """A command that the page began."""

    request: ActionRequest
    command: BegunCommand
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def lines(self) -> tuple[str, ...]:
        """What it printed, at its end."""
        return self.command.tail(_SHOWN_BYTES)


class UncertainError(RoasError):
    """Whether something was begun is not known. Asking again with the same key begins it once at most."""


class ActionRunner:
    """Begins what was asked for, once for each key of a form, and shows how it goes on.

    Prefect makes one run of a key, so a run whose answer was lost is found by it. A command's place is noted before the
    command is begun: where the server is killed in between, it is not begun.
    """

    def __init__(
        self, api: OwnApi, home: Path, auth_string: str, commands: OwnCommands | None, sessions: PageSessions
    ) -> None:
        self._api, self._home, self._auth_string, self._own = api, home, auth_string, commands
        self._sessions = sessions
        self._commands: dict[str, PageCommand] = {}
        # A command's own server may know deployments, of an earlier `roas serve`, and runs none.
        self._runs_deployments = commands is None and os.environ.get("PREFECT_UI_ENABLED") != "0"

    async def begun(self, request: ActionRequest) -> str:
        """The place of what an earlier request with this key began; empty where none did.

        Raises:
            UncertainError: Prefect's server does not say.
            RoasError: The notes of the page cannot be read.
        """
        place = await asyncio.to_thread(self._sessions.place_of_result, request.key)
        if place or not (self._runs_deployments and request.action.flow):
            return place
        chosen = {"flow_runs": {"idempotency_key": {"any_": [request.key]}}, "limit": 1}
        runs = (await self._ask_for_run("/flow_runs/filter", chosen)).json()
        return f"{BASE}/runs/{runs[0]['id']}" if runs else ""

    async def begin(self, request: ActionRequest, port: int) -> str:
        """Begin it on the server that listens on `port`; the place that shows how it goes on.

        Raises:
            UncertainError: Prefect's server does not say whether it made the run.
            RoasError: It cannot be begun.
        """
        if self._runs_deployments and request.action.flow:
            deployment = await self._deployment(request.action.flow, request.environment)
            if deployment is not None:
                place = await self._create_run(deployment, request)
                return await asyncio.to_thread(self._sessions.note_result, request.key, place)
        return await self._begin_command(request, port)

    async def read_run(self, run_id: str) -> dict[str, Any]:
        """A flow run, as the server knows it.

        Raises:
            NotFoundError: There is none of this id.
            RoasError: The server does not say.
        """
        missing = NotFoundError(f"There is no run {run_id};", advice="Prefect's own page lists the runs there are.")
        try:
            path = f"/flow_runs/{UUID(run_id)}"
        except ValueError:
            raise missing from None
        answer = await self._api.ask_until_done("GET", path)
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise missing
        return dict(answer.json())

    def command(self, key: str) -> PageCommand:
        """A command that was begun since this server started.

        Raises:
            NotFoundError: There is none of this key.
        """
        if key not in self._commands:
            raise NotFoundError(
                "This server does not know that command: it was started anew since, and may have ended before the "
                "command began;",
                advice="the environment's page shows what is recorded of it. If that is nothing, ask for it anew.",
            )
        return self._commands[key]

    async def _deployment(self, flow: str, environment: str) -> str | None:
        path = f"/deployments/name/{quote(flow, safe='')}/{quote(environment, safe='')}"
        answer = await self._api.ask_until_done("GET", path)
        return None if answer.status_code == HTTPStatus.NOT_FOUND else str(answer.json()["id"])

    async def _create_run(self, deployment: str, request: ActionRequest) -> str:
        parameters = run_parameters(request.action, request.environment, request.fields, request.plan)
        body = {
            "parameters": parameters | {"asked_by": asker(request.viewer)},
            # Prefect's server makes one run of it, however often it is asked.
            "idempotency_key": request.key,
        }
        answer = await self._ask_for_run(f"/deployments/{deployment}/create_flow_run", body)
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise NotFoundError(f"Deployment {deployment} was removed a moment ago;", advice="reload the page.")
        return f"{BASE}/runs/{answer.json()['id']}"

    async def _ask_for_run(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        try:
            return await self._api.ask_until_done("POST", path, body)
        except RoasError as error:
            raise UncertainError(f"Prefect's server does not say whether there is a run of this: {error}") from error

    async def _begin_command(self, request: ActionRequest, port: int) -> str:
        running = [command for command in self._commands.values() if command.command.code is None]
        if len(running) >= _COMMANDS_AT_ONCE:
            raise RoasError(
                f"{len(running)} commands of the page run already;", advice="wait until some of them have ended."
            )
        key = secrets.token_urlsafe(16)
        own_place = f"{BASE}/commands/{key}?environment={quote(request.environment, safe='')}"
        place = await asyncio.to_thread(self._sessions.note_result, request.key, own_place)
        if place != own_place:
            return place
        try:
            self._commands[key] = command = await asyncio.to_thread(self._start, request, port)
        except RoasError:
            await asyncio.to_thread(self._sessions.forget_result, request.key)
            raise
        self._forget_old()
        if not request.action.flow:
            await asyncio.to_thread(command.command.wait, _WAITS_SECONDS)
        return place

    def _start(self, request: ActionRequest, port: int) -> PageCommand:
        words = command_words(request.action, request.environment, request.fields, request.plan)
        own_commands = self._own
        hold: AbstractContextManager[int | None] = nullcontext() if own_commands is None else own_commands.hold()
        try:
            with ExitStack() as stack:
                descriptor = stack.enter_context(hold)
                command = begin_own_command(
                    words,
                    variables=self._variables(request.viewer, port),
                    folder=own_commands.present_folder if own_commands else None,
                    descriptors=() if descriptor is None else (descriptor,),
                )
        except OSError as error:
            raise RoasError(
                f"The command cannot be begun: {error.strerror};", advice="has the machine memory and processes left?"
            ) from error
        return PageCommand(request=request, command=command)

    def _variables(self, viewer: Viewer, port: int) -> dict[str, str]:
        variables = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_FOR_COMMANDS)}
        return variables | {
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
            "PREFECT_API_AUTH_STRING": self._auth_string,
            "PREFECT_HOME": str(self._home),
            "ROAS_ASKED_BY": asker(viewer),
        }

    def _forget_old(self) -> None:
        ended = [key for key, command in self._commands.items() if command.command.code is not None]
        for key in ended[: max(0, len(self._commands) - _COMMANDS_KEPT)]:
            del self._commands[key]


def asker(viewer: Viewer) -> str:
    """How a signed-in person stands in the record: as claimed, since the run or command proves another user."""
    return f"{viewer.name}{ON_THE_PAGE}"
