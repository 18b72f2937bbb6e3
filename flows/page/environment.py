"""The page of one environment."""

from __future__ import annotations

from datetime import UTC, datetime

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from adapters.config.environment_files import known_environments
from core.reporting.graph import draw_graph
from core.reporting.metric_plots import metric_plots
from flows.page.rendering import render
from models.failures import NotFoundError
from models.settings import current_settings
from tasks.reporting.environment_view import read_environment_view, read_metrics
from tasks.reporting.read import environments_on_record

SPANS = {1: "1 hour", 6: "6 hours", 24: "1 day", 168: "7 days"}
"""Hours that the figures may look back, as the page calls them."""


def environment(request: Request) -> Response:
    """Services, what is being done and what happened, figures of the last `hours`, releases and snapshots."""
    name, hours = request.path_params["environment"], _hours(request)
    try:
        view = read_environment_view(name)
    except NotFoundError:
        # The agent of another host records that it watches an environment, whose file is there.
        if name not in {*known_environments(current_settings()), *environments_on_record()}:
            raise
        return render(request, "new_environment.html.j2", name=name)
    return render(
        request,
        "environment.html.j2",
        view=view,
        # It escapes what it draws.
        graph=Markup(draw_graph(view.services, "services-graph")),  # noqa: S704
        plots=metric_plots(read_metrics(name, hours, datetime.now(UTC))),
        hours=hours,
        spans=SPANS,
    )


def _hours(request: Request) -> int:
    hours = request.query_params.get("hours", "")
    return int(hours) if hours.isascii() and hours.isdigit() and int(hours) in SPANS else 6
