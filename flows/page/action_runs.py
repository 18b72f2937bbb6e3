"""Do what was asked for on the page: by a run of the environment's deployment, or by the command of that name."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from adapters.host.own_command import BegunCommand, begin_own_command
from adapters.server.page_sessions import PageSessions
from core.runtime.page_actions import PageAction, command_words, run_parameters
from flows.common.requester import ON_THE_PAGE
from flows.page.base import BASE, OwnCommands
from flows.page.prefect_runs import PrefectRuns
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


class ActionRunner:
    """Begins what was asked for, once for each key of a form, and shows how it goes on.

    Prefect makes one run of a key, so a run whose answer was lost is found by it. A command's place is noted before the
    command is begun: where the server is killed in between, it is not begun.
    """

    def __init__(
        self, runs: PrefectRuns, home: Path, auth_string: str, commands: OwnCommands | None, sessions: PageSessions
    ) -> None:
        self._runs, self._home, self._auth_string, self._own = runs, home, auth_string, commands
        self._sessions = sessions
        self._commands: dict[str, PageCommand] = {}
        self._runs_deployments = runs_deployments(commands)

    async def begun(self, request: ActionRequest) -> str:
        """The place of what an earlier request with this key began; empty where none did.

        Raises:
            UncertainError: Prefect's server does not say.
            RoasError: The notes of the page cannot be read.
        """
        place = await asyncio.to_thread(self._sessions.place_of_result, request.key)
        if place or not (self._runs_deployments and request.action.flow):
            return place
        run_id = await self._runs.id_of(request.key)
        return f"{BASE}/runs/{run_id}" if run_id else ""

    async def begin(self, request: ActionRequest, port: int) -> str:
        """Begin it on the server that listens on `port`; the place that shows how it goes on.

        Raises:
            UncertainError: Prefect's server does not say whether it made the run.
            RoasError: It cannot be begun.
        """
        if self._runs_deployments and request.action.flow:
            deployment = await self._runs.deployment(request.action.flow, request.environment)
            if deployment is not None:
                parameters = run_parameters(request.action, request.environment, request.fields, request.plan)
                parameters["asked_by"] = asker(request.viewer)
                title = request.action.title.format(environment=request.environment)
                run_id = await self._runs.create(deployment["id"], parameters, request.key, title)
                return await asyncio.to_thread(self._sessions.note_result, request.key, f"{BASE}/runs/{run_id}")
        return await self._begin_command(request, port)

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


def runs_deployments(commands: OwnCommands | None) -> bool:
    """Whether this server has runs of its deployments done.

    A command's own server may know deployments, of an earlier `roas serve`, and runs none.
    """
    return commands is None and os.environ.get("PREFECT_UI_ENABLED") != "0"


def asker(viewer: Viewer) -> str:
    """How a signed-in person stands in the record: as claimed, since the run or command proves another user."""
    return f"{viewer.name}{ON_THE_PAGE}"
