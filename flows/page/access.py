"""The page's entrance: who asks, what they may, and the headers of every answer.

No route is reached without a sign-in but the sign-in itself, static files and public status pages.
"""

from __future__ import annotations

import asyncio
import hmac
from html import escape
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.common.own_api import OwnApi
from flows.fleet.host_guard import credentials_of, whole_body
from flows.page.action_runs import ActionRunner, runs_deployments
from flows.page.actions import action_routes
from flows.page.base import BASE, OwnCommands
from flows.page.identity import Identity, TooManyTriesError
from flows.page.pages import reading_routes
from flows.page.prefect_runs import PrefectRuns
from flows.page.previews import Previews
from flows.page.rendering import render
from flows.page.sign_in import SIGN_IN, sign_in_routes
from models.failures import RoasError

MOST_BYTES = 64 * 1024
"""Of a form."""

_FORM_TYPE = "application/x-www-form-urlencoded"
_BODY_SECONDS = 30.0
_PUBLIC = (f"{BASE}/static/", f"{BASE}/status/")
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    # With "no-referrer" browsers send "Origin: null" with our own forms, which is what a sandboxed page sends, too.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-robots-tag": "noindex, nofollow",
}
_STATIC_SECONDS = 300


def page_app(
    prefect: ASGIApp, home: Path, auth_string: str, origins: frozenset[str], commands: OwnCommands | None
) -> ASGIApp:
    """The whole page; `prefect` is the server's own API, on which it starts runs."""
    identity = Identity(home, auth_string)
    runs = PrefectRuns(OwnApi(prefect, auth_string))
    runner = ActionRunner(runs, home, auth_string, commands, identity.sessions)
    previews = Previews(runs, runs_deployments(commands))
    routes = [
        *sign_in_routes(identity),
        *action_routes(runner, previews, runs),
        *reading_routes(),
    ]
    app = Starlette(
        routes=[Mount(BASE, routes=routes)], exception_handlers={RoasError: _failure, HTTPStatus.NOT_FOUND: _not_found}
    )
    return Entrance(app, identity, origins)


class Entrance:
    """Let those in who are signed in, and those without for what is public."""

    def __init__(self, app: ASGIApp, identity: Identity, origins: frozenset[str]) -> None:
        self._app, self._identity = app, identity
        self._secure_hosts = {origin.partition("://")[2] for origin in origins if origin.startswith("https://")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers, path = Headers(scope=scope), scope["path"]
        is_static = path.startswith(_PUBLIC[0])
        cookie = cookie_name(is_secure=headers.get("host", "").lower() in self._secure_hosts, host=headers.get("host"))
        state = scope["state"] = {**scope.get("state", {}), "viewer": None, "csrf": None, "form": {}, "cookie": cookie}
        try:
            answer = await self._refusal(scope, headers, receive, state)
        except RoasError as error:
            answer = _failure_text(error)
        await (answer or self._app)(scope, receive, _with_headers(send, is_static=is_static))

    async def _refusal(
        self, scope: Scope, headers: Headers, receive: Receive, state: dict[str, Any]
    ) -> Response | None:
        """Note in the state who asks and what form was sent; the answer to one who may not."""
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return PlainTextResponse("This method is not used here.\n", HTTPStatus.METHOD_NOT_ALLOWED)
        is_public = scope["path"].startswith(_PUBLIC) and scope["method"] != "POST"
        if is_public:
            return None
        is_session = await asyncio.to_thread(self._identify, headers, state)
        is_signing_in = scope["path"].startswith(SIGN_IN)
        if state["viewer"] is None and not is_signing_in:
            return _ask_to_sign_in(scope, headers)
        if scope["method"] == "POST":
            is_program = not is_session and "origin" not in headers and "sec-fetch-site" not in headers
            return await _take_form(headers, receive, state, needs_token=not (is_program or is_signing_in))
        return None

    def _identify(self, headers: Headers, state: dict[str, Any]) -> bool:
        """Note in the state who asks; whether by a session."""
        token_and_session = self._identity.session(headers, state["cookie"])
        if token_and_session is not None:
            state["token"], session = token_and_session
            state["viewer"], state["csrf"] = session.viewer, session.csrf
            return True
        if "authorization" in headers:
            signed_in = self._identity.check_password(*credentials_of(headers["authorization"]))
            if signed_in is not None:
                state["viewer"], state["is_owner"] = signed_in.viewer, signed_in.is_owner
                state["csrf"] = self._identity.csrf_of(signed_in)
        return False


def cookie_name(*, is_secure: bool, host: str | None) -> str:
    """The session's cookie. Cookies do not know ports, so servers of one machine have cookies of other names."""
    if is_secure:
        # Such a name a browser takes over TLS alone, for this host alone.
        return "__Host-roas"
    port = (host or "").rpartition(":")[2]
    return f"roas_{port if port.isdigit() else 80}"


async def _take_form(
    headers: Headers, receive: Receive, state: dict[str, Any], *, needs_token: bool
) -> Response | None:
    """Note the fields of a form; the answer to one that cannot be read, or lacks the token of its session."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM_TYPE:
        return _refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"A form is sent as {_FORM_TYPE}.")
    try:
        body = await whole_body(receive, MOST_BYTES, _BODY_SECONDS)
    except TimeoutError:
        return _refuse(HTTPStatus.REQUEST_TIMEOUT, "The form did not arrive in time.")
    if body is None:
        return _refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A form has at most {MOST_BYTES:,} bytes.")
    fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    state["form"] = {name: values[-1] for name, values in fields.items()}
    # A foreign origin was refused already, by the guard of the whole server.
    token = state["form"].get("csrf", "").encode()
    if needs_token and not ("origin" in headers and hmac.compare_digest(token, str(state["csrf"]).encode())):
        return _refuse(HTTPStatus.FORBIDDEN, "This form is not of your session: reload its page and send it again.")
    return None


def _ask_to_sign_in(scope: Scope, headers: Headers) -> Response:
    is_browser = headers.get("sec-fetch-mode") == "navigate" or "text/html" in headers.get("accept", "")
    if not is_browser:
        basic = {"www-authenticate": 'Basic realm="ROAS Ops", charset="UTF-8"'}
        return PlainTextResponse("Sign in with user and password.\n", HTTPStatus.UNAUTHORIZED, basic)
    query = scope["query_string"].decode("ascii", "replace")
    place = scope["path"] + (f"?{query}" if query else "")
    if headers.get("sec-fetch-site") == "cross-site" and scope["method"] == "GET":
        # A link in a chat: the browser withholds our cookie (SameSite=Strict) until the request comes from here.
        return HTMLResponse(_AGAIN.format(place=_escape(place)))
    return RedirectResponse(f"{SIGN_IN}?next={quote(place, safe='')}", HTTPStatus.SEE_OTHER)


_AGAIN = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>ROAS Ops</title>'
    '<meta http-equiv="refresh" content="0; url={place}"></head>'
    '<body><main><p><a href="{place}">Open the page</a></p></main></body></html>\n'
)


def _escape(text: str) -> str:
    return escape(quote(text, safe="/?&=%:@+,;~-._!*'()"))


def _with_headers(send: Send, *, is_static: bool) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers["cache-control"] = f"private, max-age={_STATIC_SECONDS}" if is_static else "no-store"
        await send(message)

    return sending


def _refuse(status: HTTPStatus, why: str) -> Response:
    return PlainTextResponse(f"{why}\n", status)


def _failure_text(error: RoasError) -> Response:
    if isinstance(error, TooManyTriesError):
        return PlainTextResponse(f"{error}\n", HTTPStatus.TOO_MANY_REQUESTS, {"retry-after": "60"})
    return PlainTextResponse(f"{error}\n", HTTPStatus.SERVICE_UNAVAILABLE)


def _failure(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RoasError)  # noqa: S101 - it is the handler of those
    return _failure_text(error)


async def _not_found(request: Request, _error: Exception) -> Response:
    if request.state.viewer is None:
        return PlainTextResponse("There is no such page.\n", HTTPStatus.NOT_FOUND)
    return render(request, "error.html.j2", status=404, title="Not found", problem="There is no such page.")
