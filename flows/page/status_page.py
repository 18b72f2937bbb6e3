"""The public status page: everyone may read it, so it tells what the environment's file names and nothing else."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from flows.page.rendering import render
from models.failures import NotFoundError, RoasError
from tasks.reporting.status_page import read_status_view


def status_page(request: Request) -> Response:
    """Verdicts, incidents, and uptime of 90 days. Why something cannot be read is not for visitors."""
    try:
        view = read_status_view(request.path_params["environment"])
    except NotFoundError:
        return render(request, "status_problem.html.j2", status=404, problem="There is no such status page.")
    except RoasError:
        return render(request, "status_problem.html.j2", status=503, problem="The status is not known at the moment.")
    return render(request, "status_page.html.j2", view=view)
