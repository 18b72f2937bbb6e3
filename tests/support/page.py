"""The page as a signed-in user gets it, without the sign-in."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from flows.page.pages import reading_routes
from flows.page.rendering import BASE


@dataclass(frozen=True)
class Viewer:
    """Who is signed in."""

    name: str = "ada"
    may_write: bool = True


def page_client(viewer: Viewer | None = None) -> TestClient:
    """A client of every route that reads, as a viewer; by default one who may write."""
    return TestClient(page_app(viewer), base_url="http://127.0.0.1")


def page_app(viewer: Viewer | None = None) -> ASGIApp:
    """The application that `page_client` asks, for a server."""
    return _SignedIn(Starlette(routes=[Mount(BASE, routes=reading_routes())]), viewer or Viewer())


class _SignedIn:
    def __init__(self, app: ASGIApp, viewer: Viewer) -> None:
        self._app, self._viewer = app, viewer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {}).update(viewer=self._viewer, csrf="token")
        await self._app(scope, receive, send)
