"""Sign in and out: by an address that works once, which `roas open` prints, or by a form with a password."""

from __future__ import annotations

from http import HTTPStatus

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from adapters.host.processes import as_claim
from adapters.server.page_sessions import INVITATION_SECONDS, SESSION_SECONDS
from flows.page.base import BASE
from flows.page.identity import Identity, SignedIn, TooManyTriesError
from flows.page.rendering import render
from models.page_access import Viewer

SIGN_IN = f"{BASE}/sign-in"
_LONGEST_PLACE = 2000


def sign_in_routes(identity: Identity) -> list[BaseRoute]:
    """The routes, relative to the page's base."""
    desk = _SignInDesk(identity)
    return [
        Route("/sign-in", desk.show, methods=["GET"]),
        Route("/sign-in", desk.take_password, methods=["POST"]),
        Route("/sign-in/{token}", desk.take_invitation, methods=["GET"]),
        Route("/me", desk.show_viewer, methods=["GET"]),
        Route("/sign-out", desk.sign_out, methods=["POST"]),
        Route("/invitations", desk.invite, methods=["POST"]),
    ]


class _SignInDesk:
    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    async def show(self, request: Request) -> Response:
        """The form."""
        place = safe_place(request.query_params.get("next", ""))
        if request.state.viewer is not None:
            return RedirectResponse(place, HTTPStatus.SEE_OTHER)
        return _form(request, place)

    async def show_viewer(self, request: Request) -> Response:
        """Who is signed in."""
        return render(request, "me.html.j2")

    async def take_password(self, request: Request) -> Response:
        """Open a session where name and password are right."""
        form = request.state.form
        place = safe_place(form.get("next", ""))
        try:
            signed_in = await run_in_threadpool(
                self._identity.check_password, form.get("name", "").strip(), form.get("password", "").strip()
            )
        except TooManyTriesError as error:
            return _form(request, place, status=HTTPStatus.TOO_MANY_REQUESTS, problem=str(error))
        if signed_in is None:
            return _form(request, place, status=HTTPStatus.FORBIDDEN, problem="Name or password is wrong.")
        return await self._let_in(request, signed_in, place)

    async def take_invitation(self, request: Request) -> Response:
        """Open a session where the address was not used before. A browser that only loads ahead uses nothing up."""
        if "prefetch" in request.headers.get("sec-purpose", "") or request.method == "HEAD":
            return PlainTextResponse("Open this address yourself.\n", HTTPStatus.SERVICE_UNAVAILABLE)
        place = safe_place(request.query_params.get("next", ""))
        credential = self._identity.own_credential
        name = await run_in_threadpool(self._identity.sessions.redeem, request.path_params["token"], credential)
        if name is None:
            self._identity.take_try(request.client.host if request.client else "")
            problem = "This address was used already, or is too old. `roas open` prints a new one."
            return _form(request, place, status=HTTPStatus.FORBIDDEN, problem=problem)
        signed_in = SignedIn(viewer=Viewer(name=name, may_write=True), credential=credential)
        return await self._let_in(request, signed_in, place)

    async def invite(self, request: Request) -> Response:
        """Give `roas open`, which has the server's own password, an address that works once."""
        if not getattr(request.state, "is_owner", False):
            return PlainTextResponse(
                "Only a program with the server's own password is given an address.\n", HTTPStatus.FORBIDDEN
            )
        name = as_claim(request.state.form.get("name", "")) or request.state.viewer.name
        token = await run_in_threadpool(self._identity.sessions.invite, name, self._identity.own_credential)
        return JSONResponse({"path": f"{SIGN_IN}/{token}", "valid_seconds": INVITATION_SECONDS})

    async def sign_out(self, request: Request) -> Response:
        """End the session."""
        if token := getattr(request.state, "token", ""):
            await run_in_threadpool(self._identity.sessions.close, token)
        answer = RedirectResponse(SIGN_IN, HTTPStatus.SEE_OTHER)
        _set_cookie(answer, request.state.cookie, "", 0)
        return answer

    async def _let_in(self, request: Request, signed_in: SignedIn, place: str) -> Response:
        sessions = self._identity.sessions
        if before := getattr(request.state, "token", ""):
            await run_in_threadpool(sessions.close, before)
        token = await run_in_threadpool(sessions.open, signed_in.viewer, signed_in.credential)
        answer = RedirectResponse(place, HTTPStatus.SEE_OTHER)
        _set_cookie(answer, request.state.cookie, token, SESSION_SECONDS)
        return answer


def safe_place(place: str) -> str:
    """A place of the page to go to after the sign-in; anything else becomes its first page."""
    is_ours = place == BASE or place.startswith((f"{BASE}/", f"{BASE}?"))
    is_plain = place.isascii() and place.isprintable() and not set(place) & set(' \\"<>')
    if not is_ours or not is_plain or len(place) > _LONGEST_PLACE or place.startswith((SIGN_IN, f"{BASE}//")):
        return f"{BASE}/"
    return place


def _set_cookie(answer: Response, cookie: str, token: str, seconds: int) -> None:
    # A name with this prefix demands the path of the whole host, and TLS.
    is_secure = cookie.startswith("__Host-")
    path = "/" if is_secure else BASE
    answer.set_cookie(cookie, token, max_age=seconds, path=path, httponly=True, samesite="strict", secure=is_secure)


def _form(request: Request, place: str, *, status: int = HTTPStatus.OK, problem: str = "") -> Response:
    return render(request, "sign_in.html.j2", status=status, place=place, problem=problem)
