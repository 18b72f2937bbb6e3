"""The queries that Grafana sends to Prometheus, panel by panel."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "deployments/grafana/dashboards"
DASHBOARDS: dict[str, dict[str, Any]] = {
    file.name: json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))
}


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the panels of a dashboard, without the headings between them."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def addresses(value: Any) -> list[str]:
    """Return the address of every link in a dashboard or a part of it, but lists of dashboards."""
    if isinstance(value, list):
        return [found for one in value for found in addresses(one)]
    if not isinstance(value, dict):
        return []
    its = [value["url"]] if "url" in value else []
    return its + [found for one in value.values() for found in addresses(one)]


def queries(environment: str, service: str) -> dict[str, str]:
    """Return every query as Grafana sends it, by the names of its dashboard and panel."""
    chosen = {"environment": environment, "service": service, "operation": ".*", "__rate_interval": "1m"}
    asked = {}
    for dashboard in DASHBOARDS.values():
        of_panels = [(panel["title"], target) for panel in panels(dashboard) for target in panel["targets"]]
        marks = [(mark["name"], mark | {"refId": "mark"}) for mark in dashboard["annotations"]["list"]]
        for title, target in of_panels + marks:
            name = f"{dashboard['title']} / {title} / {target['refId']}"
            assert name not in asked, name
            asked[name] = re.sub(r"\$(\w+)", lambda found: chosen[found[1]], target["expr"])
    return asked
