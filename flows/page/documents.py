"""The report, the post-mortem and proposed sizes as pages, as their commands write them."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from adapters.config.environments import declared_environment
from adapters.host.own_call import call
from flows.page.releases import operated
from flows.page.rendering import render
from models.failures import EnvironmentFileError, NotFoundError
from models.settings import current_settings

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


def sizes(request: Request) -> Response:
    """The proposed sizes of the services of an environment, by files that this host reads."""
    from core.reporting.sizes import change_in_words, use_in_words
    from tasks.reporting.sizes import read_sizes

    name = operated(request.path_params["environment"])
    try:
        environment = declared_environment(name, current_settings())
    except EnvironmentFileError as error:
        raise NotFoundError(
            f"The Compose files of {name} cannot be read by this server;", advice=f"on its host: `roas size {name}`."
        ) from error
    report = read_sizes(environment, (), datetime.now(UTC))
    rows = [(one, change_in_words(one), use_in_words(one)) for one in report.proposals]
    return render(request, "sizes.html.j2", name=name, report=report, rows=rows)
