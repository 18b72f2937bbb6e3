"""The page of all hosts and what belongs to them."""

from __future__ import annotations

from collections import Counter

from starlette.requests import Request
from starlette.responses import Response

from flows.page.rendering import render
from tasks.reporting.fleet import read_fleet


def hosts(request: Request) -> Response:
    """Every host with its contact, version, clock and journal, and how many environments it has."""
    fleet = read_fleet()
    return render(
        request,
        "hosts.html.j2",
        fleet=fleet,
        environments_of=Counter(environment.host_id for environment in fleet.environments),
        homeless=[environment for environment in fleet.environments if not environment.host_id],
    )
