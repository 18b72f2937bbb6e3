"""Actions of the page: what would be done to whom is shown first, and exactly that is done once it is confirmed."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode
from weakref import WeakValueDictionary

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from adapters.config.environment_files import known_environments
from adapters.server.page_sessions import FORM_SECONDS
from core.runtime.page_actions import ACTIONS, PageAction, missing_fields, read_fields
from core.runtime.page_forms import FormRequest, is_form_key, make_form_key
from flows.page.action_runs import ActionRequest, ActionRunner, PageCommand, asker
from flows.page.base import BASE
from flows.page.host_waits import has_begun, host_wait
from flows.page.prefect_runs import PrefectRuns, UncertainError
from flows.page.previews import Previews, Shown
from flows.page.rendering import render
from models.failures import BadInputError, NotFoundError, RoasError
from models.settings import current_settings
from tasks.reporting.consent import ASKED, why_consent

_READ_ONLY = "This account is read only: it sees every page, and changes nothing"
_AGAIN_SECONDS = 1
_OPERATIONS_BACK = 20
_CHANGED = "What would be done has changed since this page was shown. Look at it again."
_TERMINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_TITLES = {
    HTTPStatus.FORBIDDEN: "Not allowed",
    HTTPStatus.NOT_FOUND: "Not found",
    HTTPStatus.BAD_REQUEST: "That is not possible",
    HTTPStatus.SERVICE_UNAVAILABLE: "That failed",
}

_FIELD_NAMES = tuple(field.name for action in ACTIONS.values() for field in action.fields)

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


def action_routes(runner: ActionRunner, previews: Previews, runs: PrefectRuns) -> list[BaseRoute]:
    """The routes, relative to the page's base."""
    desk = _ActionDesk(runner, previews, runs)
    return [
        Route("/do/{action}/{environment}", _or_problem(desk.show), methods=["GET"]),
        Route("/do/{action}/{environment}", _or_problem(desk.do), methods=["POST"]),
        Route("/runs/{run_id}", _or_problem(desk.show_run), methods=["GET"]),
        Route("/commands/{key}", _or_problem(desk.show_command), methods=["GET"]),
    ]


class _ActionDesk:
    def __init__(self, runner: ActionRunner, previews: Previews, runs: PrefectRuns) -> None:
        self._runner, self._previews, self._runs = runner, previews, runs
        self._sending: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def show(self, request: Request) -> Response:
        """What would be done, with the form that does it."""
        action, environment = await _target(request)
        fields = read_fields(action, request.query_params)
        _check_hidden(action, fields)
        if "preview" not in request.query_params:
            run_id = await self._previews.begin(action, environment, fields, request.state.csrf)
            if run_id:
                return RedirectResponse(_place(action, environment, fields | {"preview": run_id}), HTTPStatus.SEE_OTHER)
        return await self._form(request, action, environment, fields)

    async def do(self, request: Request) -> Response:
        """Do what was shown, once; where that is no longer what would be done, show it and ask again."""
        action, environment = await _target(request)
        form = request.state.form
        fields = read_fields(action, form)
        _check_hidden(action, fields)
        key = form.get("key", "")
        if not is_form_key(key, _form_request(request, action, environment), 0):
            return await self._form(request, action, environment, fields, "This form is of another page.")
        typed = {"confirm": form["typed"].strip()} if action.name in ASKED and form.get("typed") else {}
        confirmed = ActionRequest(
            action=action,
            environment=environment,
            fields=fields | typed,
            plan=form.get("plan", ""),
            viewer=request.state.viewer,
            key=key,
        )
        # Of a form that is sent twice at a time the second sending waits, and leads to what the first began.
        async with self._sending.setdefault(key, asyncio.Lock()):
            try:
                place, problem = await self._runner.begun(confirmed), ""
                if not place and not (problem := await self._refusal(request, confirmed)):
                    place = await self._runner.begin(confirmed, request.scope["server"][1])
            except UncertainError as error:
                return _ask_again(request, confirmed, error)
            except RoasError as error:
                problem = str(error)
        if problem:
            return await self._form(request, action, environment, fields, problem)
        return RedirectResponse(place, HTTPStatus.SEE_OTHER)

    async def show_run(self, request: Request) -> Response:
        """A run that was begun; once its operation is recorded, that operation's page."""
        run = await self._runs.read(request.path_params["run_id"])
        environment = str(run.get("parameters", {}).get("environment", ""))
        operation = await run_in_threadpool(_operation_of, environment, str(run["id"]))
        if operation:
            return RedirectResponse(f"{BASE}/operations/{quote(operation, safe='')}", HTTPStatus.SEE_OTHER)
        state = run.get("state") or {}
        is_over, pool = state.get("type") in _TERMINAL, run.get("work_pool_name")
        waits = ""
        if pool and not has_begun(run):
            asked_at = datetime.fromisoformat(run["created"])
            waits = (await host_wait(self._runs, environment, pool, asked_at)).words()
        page = render(
            request, "run.html.j2", run=run, environment=environment, state=state, is_over=is_over, waits=waits
        )
        return page if is_over else _read_again(page)

    async def show_command(self, request: Request) -> Response:
        """A command that was begun: the page of its operation once that is recorded, or with `printed` its output."""
        key = request.path_params["key"]
        try:
            command = self._runner.command(key)
        except NotFoundError as error:
            environment = request.query_params.get("environment", "")
            recorded = environment if await run_in_threadpool(_is_environment, environment) else ""
            problem = {"title": "Not known", "problem": str(error), "environment": recorded}
            return render(request, "error.html.j2", status=HTTPStatus.NOT_FOUND, **problem)
        confirmed, code = command.request, command.command.code
        operation = await run_in_threadpool(operation_of_command, command) if confirmed.action.flow else ""
        if operation and "printed" not in request.query_params:
            return RedirectResponse(
                f"{BASE}/operations/{quote(operation, safe='')}?command={key}", HTTPStatus.SEE_OTHER
            )
        page = render(
            request,
            "command.html.j2",
            title=confirmed.action.title.format(environment=confirmed.environment),
            environment=confirmed.environment,
            asked_by=confirmed.viewer.name,
            code=code,
            lines=command.lines,
            operation=operation,
        )
        return _read_again(page) if code is None else page

    async def _refusal(self, request: Request, confirmed: ActionRequest) -> str:
        """Why what was confirmed is not begun; empty where it is."""
        action, environment, fields = confirmed.action, confirmed.environment, confirmed.fields
        form = request.state.form
        if not is_form_key(confirmed.key, _form_request(request, action, environment), time.time()):
            return "This form is too old."
        must_type = action.is_typed or await _why_typed(action, environment, fields)
        if problem := _mistake(action, environment, fields, form.get("typed", ""), must_type=bool(must_type)):
            return problem
        shown = Shown()
        if confirmed.plan or action.needs_preview:
            shown = await self._previews.read(action, environment, fields, form.get("preview", ""))
        is_refused = bool(shown.problem or shown.waits) and action.needs_preview
        is_changed = is_refused or shown.plan != confirmed.plan or form.get("shown", "") != _shown_id(action, shown)
        # The run that found it out may have chosen the release or snapshot: it is the one that is named.
        is_other = any(fields.get(name, value) != value for name, value in _shown_fields(action, shown).items())
        return _CHANGED if is_changed or is_other else ""

    async def _form(
        self, request: Request, action: PageAction, environment: str, fields: dict[str, str], problem: str = ""
    ) -> Response:
        run_id = request.state.form.get("preview") or request.query_params.get("preview", "")
        shown = await self._previews.read(action, environment, fields, run_id)
        fields = fields | _shown_fields(action, shown)
        page = render(
            request,
            "confirm.html.j2",
            status=HTTPStatus.CONFLICT if problem else HTTPStatus.OK,
            action=action,
            title=action.title.format(environment=environment),
            environment=environment,
            fields=dict.fromkeys(_FIELD_NAMES, "") | fields,
            shown=shown,
            shown_id=_shown_id(action, shown),
            key=_key(request, _form_request(request, action, environment)),
            problem=problem,
            why_typed=await _why_typed(action, environment, fields),
            away="" if shown.waits else await self._previews.away(action, environment),
            toggled=_toggled(action, environment, fields),
            anew=_place(action, environment, fields) if run_id else "",
        )
        return _read_again(page) if shown.waits and not problem else page


async def _target(request: Request) -> tuple[PageAction, str]:
    """The action and the environment of an address.

    Raises:
        NotFoundError: There is no such action or environment.
        _ReadOnlyError: The viewer may not act.
    """
    if not request.state.viewer.may_write:
        raise _ReadOnlyError(_READ_ONLY, advice="ask the server's owner for an account that may act.")
    action = ACTIONS.get(request.path_params["action"])
    if action is None:
        raise NotFoundError(f"There is no action {request.path_params['action']}.")
    environment = request.path_params["environment"]
    if not await run_in_threadpool(_is_environment, environment):
        raise NotFoundError(f"There is no environment {environment};", advice="the overview lists those there are.")
    return action, environment


class _ReadOnlyError(RoasError):
    """The viewer may not act."""


def _is_environment(name: str) -> bool:
    if name in known_environments(current_settings()):
        return True
    from tasks.reporting.read import environments_on_record

    return name in environments_on_record()


def _operation_of(environment: str, run_id: str) -> str:
    from tasks.reporting.read import operation_of_run

    try:
        return operation_of_run(environment, run_id)
    except NotFoundError:
        return ""


def operation_of_command(command: PageCommand) -> str:
    """The operation that a command recorded: the first of its environment that its viewer asked for since it began."""
    from tasks.runtime.stores import open_stores

    confirmed = command.request
    history = open_stores().operations.history(environment=confirmed.environment, limit=_OPERATIONS_BACK)
    operation_ids = [
        operation.deployment_id
        for operation in history
        if operation.started_at >= command.began_at and asker(confirmed.viewer) in operation.actor.claimed
    ]
    return operation_ids[-1] if operation_ids else ""


def _form_request(request: Request, action: PageAction, environment: str) -> FormRequest:
    return FormRequest(csrf=request.state.csrf, action=action.name, environment=environment)


def _key(request: Request, form_request: FormRequest) -> str:
    """The key of the form that was sent, by which nothing was begun, as long as it is valid; else a new one."""
    sent = request.state.form.get("key", "")
    if is_form_key(sent, form_request, time.time()):
        return str(sent)
    return make_form_key(form_request, secrets.token_urlsafe(16), time.time() + FORM_SECONDS)


def _ask_again(request: Request, confirmed: ActionRequest, error: UncertainError) -> Response:
    form = request.state.form
    return render(
        request,
        "ask_again.html.j2",
        status=HTTPStatus.SERVICE_UNAVAILABLE,
        action=confirmed.action,
        title=confirmed.action.title.format(environment=confirmed.environment),
        environment=confirmed.environment,
        problem=str(error),
        sent={name: form[name] for name in ("key", "plan", "shown", "typed", "preview") if name in form}
        | dict(confirmed.fields),
    )


def _check_hidden(action: PageAction, fields: dict[str, str]) -> None:
    """Check what the link that leads to an action has to name.

    Raises:
        BadInputError: It does not.
    """
    for field in action.fields:
        if field.is_hidden and field.is_required and field.name not in fields:
            raise BadInputError(f"This address names no {field.name};", advice="take a link of the page.")


def _read_again(page: Response) -> Response:
    page.headers["refresh"] = str(_AGAIN_SECONDS)
    return page


async def _why_typed(action: PageAction, environment: str, fields: Mapping[str, str]) -> str:
    """Why the environment's name has to be typed, because it is locked or others need it; empty where not."""
    services = [fields["service"]] if "service" in fields else []
    return await run_in_threadpool(why_consent, environment, action.name, services)


def _mistake(action: PageAction, environment: str, fields: Mapping[str, str], typed: str, *, must_type: bool) -> str:
    """Why a form is not taken as it was filled in; empty where it is."""
    if missing := missing_fields(action, fields):
        return f"Fill in: {', '.join(missing)}."
    if must_type and typed.strip() != environment:
        return f"Type the name of the environment, {environment}, to confirm it."
    return ""


def _shown_fields(action: PageAction, shown: Shown) -> dict[str, str]:
    """The release or snapshot that is shown, so that no other is taken where the link named none."""
    if not action.is_typed or not isinstance(shown.document, dict):
        return {}
    field = "release" if action.name == "rollback" else "snapshot"
    return {field: str(shown.document[f"{field}_id"])}


def _shown_id(action: PageAction, shown: Shown) -> str:
    """What a person confirms of an action that may lose something: which release or snapshot it is."""
    if not action.is_typed or not isinstance(shown.document, dict):
        return ""
    data = shown.document.get("data") or {}
    return " ".join(
        str(part)
        for part in (shown.document.get("release_id"), shown.document.get("snapshot_id"), data.get("snapshot_id"))
        if part
    )


def _place(action: PageAction, environment: str, fields: Mapping[str, str] = MappingProxyType({})) -> str:
    query = urlencode(fields)
    return f"{BASE}/do/{action.name}/{quote(environment, safe='')}{f'?{query}' if query else ''}"


def _toggled(action: PageAction, environment: str, fields: dict[str, str]) -> str:
    """The address of a rollback with its data, or without."""
    if action.name != "rollback":
        return ""
    other_fields = {name: value for name, value in fields.items() if name != "with_data"}
    return _place(action, environment, other_fields if "with_data" in fields else other_fields | {"with_data": "on"})


def _or_problem(endpoint: Endpoint) -> Endpoint:
    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except RoasError as error:
            status = _status_of(error)
            return render(request, "error.html.j2", status=status, title=_TITLES[status], problem=str(error))

    return answer


def _status_of(error: RoasError) -> HTTPStatus:
    if isinstance(error, _ReadOnlyError):
        return HTTPStatus.FORBIDDEN
    if isinstance(error, NotFoundError):
        return HTTPStatus.NOT_FOUND
    return HTTPStatus.BAD_REQUEST if isinstance(error, BadInputError) else HTTPStatus.SERVICE_UNAVAILABLE
