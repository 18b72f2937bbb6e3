"""The report and the post-mortem as pages, as `--html` writes them."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from adapters.host.own_call import call
from flows.page.releases import operated
from flows.page.rendering import render

DAYS = (7, 30, 90, 365)
"""How many days the report looks back, to choose from."""


def report(request: Request) -> Response:
    """The report on the last `days` of an environment."""
    name = operated(request.path_params["environment"])
    choice = request.query_params.get("days", "")
    days = next((days for days in DAYS if str(days) == choice), DAYS[0])
    # It imports NumPy, which no other page needs.
    page = call("tasks.reporting.days:page_of_days", name, days, datetime.now(UTC))
    return render(request, "report.html.j2", name=name, document=page, days=days, choices=DAYS)


def postmortem(request: Request) -> Response:
    """The post-mortem of an operation, an error or a ticket."""
    from core.reporting.postmortem import postmortem_page, write_postmortem
    from tasks.reporting.postmortem import read_failure

    written = write_postmortem(read_failure(request.path_params["failure"]))
    return render(request, "postmortem.html.j2", document=postmortem_page(written), name=written.environment)
