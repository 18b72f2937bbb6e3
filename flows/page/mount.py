"""The page in the server's process: nothing of it is imported before somebody asks for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from flows.common.memory import keep_giving_back, spare_memory
from flows.page.base import BASE, OwnCommands


class PageMount:
    """Answer what is asked below BASE; every other request is passed on as it is.

    `origins` are the addresses by which browsers reach this server, `home` is the folder of its sessions and accounts.
    """

    def __init__(
        self,
        app: ASGIApp,
        home: Path,
        auth_string: str,
        origins: frozenset[str],
        commands: OwnCommands | None = None,
    ) -> None:
        self._app, self._home, self._auth_string, self._origins = app, home, auth_string, origins
        self._commands = commands
        self._page: ASGIApp | None = None
        self._giving_back: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or connection."""
        if scope["type"] != "http" or not _is_below_base(scope["path"]):
            await self._app(scope, receive, send)
            return
        page = self._page or await self._open()
        await page(scope, receive, send)

    async def _open(self) -> ASGIApp:
        async with self._lock:
            if self._page is None:
                # The import would hold up everything else that this process answers.
                self._page = await asyncio.to_thread(self._make_page)
                # What a page needs for a moment would stay with this process, in a heap of each thread.
                spare_memory()
                self._giving_back = asyncio.create_task(keep_giving_back())
            return self._page

    def _make_page(self) -> ASGIApp:
        from flows.page.access import page_app

        return page_app(self._app, self._home, self._auth_string, self._origins, self._commands)


def _is_below_base(path: str) -> bool:
    return path == BASE or path.startswith(f"{BASE}/")
