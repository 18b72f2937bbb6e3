"""The page as the server has it, in this process, and those who ask it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import httpx
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from flows.page.mount import PageMount
from flows.server.server_process import OwnPageOnly

ORIGIN = "http://127.0.0.1:14900"
SECURE_ORIGIN = "https://ops.example:4443"
AUTH_STRING = "roas:0123456789abcdef0123456789abcdef"
PASSWORD = "correct horse battery"
FORM = {"origin": ORIGIN}
"""What a browser sends with a form of the page."""


async def other_app(scope: Scope, receive: Receive, send: Send) -> None:
    """What stands beside the page: here it only says that it was reached."""
    await JSONResponse({"path": scope["path"]})(scope, receive, send)


def server(home: Path) -> OwnPageOnly:
    """The page behind the guard of the whole server."""
    origins = (ORIGIN, SECURE_ORIGIN)
    return OwnPageOnly(PageMount(other_app, home, AUTH_STRING, frozenset(origins)), origins)


@asynccontextmanager
async def client(home: Path, origin: str = ORIGIN, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a sign-in; the page's memory is its own, its files are those of `home`."""
    transport = httpx.ASGITransport(app=server(home))
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(transport=transport, base_url=origin, headers=named) as made:
        yield made


def own_password() -> httpx.BasicAuth:
    """What a program of the server's owner sends."""
    user, _, password = AUTH_STRING.partition(":")
    return httpx.BasicAuth(user, password)


async def one_time_path(asking: httpx.AsyncClient, name: str = "ann") -> str:
    """What `roas open` gets."""
    answer = await asking.post("/roas/invitations", data={"name": name}, auth=own_password())
    return str(answer.raise_for_status().json()["path"])


@dataclass(frozen=True)
class Browser:
    """A browser that is signed in."""

    client: httpx.AsyncClient

    async def send_form(self, path: str, **fields: str) -> httpx.Response:
        """Send a form with the token of the page that shows it."""
        csrf = hidden(await self.client.get("/roas/me"), "csrf")
        origin = str(self.client.base_url).rstrip("/")
        return await self.client.post(path, data={"csrf": csrf} | fields, headers={"origin": origin})


def hidden(page: httpx.Response, name: str) -> str:
    """The value of a hidden field of a page's form."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page.text)
    assert found is not None, page.text
    return unescape(found[1])


@asynccontextmanager
async def signed_in(home: Path, prefect: ASGIApp, account: str = "") -> AsyncIterator[httpx.AsyncClient]:
    """A browser of ann, who has the server's own password, or of an account."""
    app = OwnPageOnly(PageMount(prefect, home, AUTH_STRING, frozenset({ORIGIN})), [ORIGIN])
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN, timeout=120) as browser:
        if account:
            form = {"name": account, "password": PASSWORD}
            assert (await browser.post("/roas/sign-in", data=form, headers=FORM)).status_code == 303
        else:
            await browser.get(await one_time_path(browser, "ann"))
        yield browser


def form_of(page: httpx.Response) -> dict[str, str]:
    """What a browser sends of a page's form without a person's words."""
    assert page.status_code == 200, page.text
    return {name: hidden(page, name) for name in ("csrf", "key", "plan", "shown")}
