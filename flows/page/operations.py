"""The pages of operations: all of them, those of an environment, and one."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import Response

from core.reporting.rehearsals import rehearsal_in_words
from core.reporting.waterfall import place_bars
from flows.page.releases import operated
from flows.page.rendering import render
from tasks.reporting.operation_view import read_operation_view
from tasks.runtime.stores import open_stores, stores_exist

_SHOWN, _MOST = 50, 1000


def operations(request: Request) -> Response:
    """The latest operations of all environments, or of the one in the address; `limit` says how many."""
    name, limit = request.path_params.get("environment"), _limit(request)
    if name is not None:
        operated(name)
    listed = open_stores().operations.history(environment=name, limit=limit + 1) if stores_exist() else []
    template = "operations.html.j2" if name is None else "environment_operations.html.j2"
    more = min(limit * 2, _MOST) if len(listed) > limit and limit < _MOST else None
    return render(request, template, operations=listed[:limit], name=name, more=more)


def operation(request: Request) -> Response:
    """One operation: its plan, what took how long, validation, why it ended so, and how it was rolled back."""
    view = read_operation_view(request.path_params["operation"])
    ends = max((bar.ends for bar in view.bars), default=view.at)
    begun = view.details.operation
    ended = begun.ended_at or max(view.at, ends)
    placed = place_bars(view.bars, begun.started_at, ended)
    whole = (ended - begun.started_at).total_seconds()
    rehearsal = begun.record.rehearsal
    return render(
        request,
        "operation.html.j2",
        view=view,
        bars=placed,
        whole=whole,
        command=_command(request),
        rehearsed=[rehearsal.verdict, *rehearsal_in_words(rehearsal)] if rehearsal is not None else [],
    )


def _command(request: Request) -> str:
    """The key of the command that the page began for it, whose page has what it printed."""
    key = request.query_params.get("command", "")
    return key if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", key) else ""


def _limit(request: Request) -> int:
    limit = request.query_params.get("limit", "")
    return max(1, min(int(limit), _MOST)) if limit.isascii() and limit.isdigit() and len(limit) < 6 else _SHOWN
