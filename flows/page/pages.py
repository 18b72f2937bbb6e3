"""The routes of the page that read. All are relative to `BASE`, and answer GET alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from flows.page.documents import postmortem, report, sizes
from flows.page.environment import environment
from flows.page.failures import failure, ticket, tickets
from flows.page.follow import follow
from flows.page.hosts import hosts
from flows.page.live import live
from flows.page.logs import logs
from flows.page.operations import operation, operations
from flows.page.overview import overview
from flows.page.releases import releases, snapshots
from flows.page.rendering import STATIC, render
from flows.page.status_page import status_page
from models.failures import BadInputError, EngineError, NotFoundError, RoasError, StoreError

_AT_ONCE = 2
"""So many pages are made at one time: each thread has connections to the stores, with caches of their own."""

_threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="page")
View = Callable[[Request], Response]

_TITLES: tuple[tuple[type[RoasError], int, str], ...] = (
    (NotFoundError, 404, "Not found"),
    (BadInputError, 400, "That is not possible"),
    (StoreError, 503, "The stores do not answer"),
    (EngineError, 503, "The Docker engine does not answer"),
)


def reading_routes() -> list[BaseRoute]:
    """Every route that reads, with static files and the stream of changes."""
    views: dict[str, View] = {
        "/": overview,
        "/operations": operations,
        "/operations/{operation}": operation,
        "/tickets": tickets,
        "/tickets/{ticket}": ticket,
        "/failures/{failure}": failure,
        "/environments/{environment}": environment,
        "/environments/{environment}/operations": operations,
        "/environments/{environment}/releases": releases,
        "/environments/{environment}/snapshots": snapshots,
        "/environments/{environment}/logs": logs,
        "/environments/{environment}/sizes": sizes,
        "/environments/{environment}/report": report,
        "/postmortems/{failure}": postmortem,
        "/fleet": hosts,
        "/status/{environment}": status_page,
    }
    return [
        *(Route(path, _answer(view), methods=["GET"]) for path, view in views.items()),
        Route("/live", live, methods=["GET"]),
        Route("/environments/{environment}/logs/stream", follow, methods=["GET"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]


def _answer(view: View) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    """A view in a thread, since it reads stores; where that fails, a page that says what to do."""

    async def answer(request: Request) -> Response:
        in_thread = asyncio.get_running_loop().run_in_executor
        try:
            return await in_thread(_threads, view, request)
        except RoasError as error:
            status, title = next(
                ((status, title) for kind, status, title in _TITLES if isinstance(error, kind)), (500, "That failed")
            )
            page = partial(render, request, "error.html.j2", status=status, title=title, problem=str(error))
            return await in_thread(_threads, page)

    return answer
