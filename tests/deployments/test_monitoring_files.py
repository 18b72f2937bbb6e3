from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deployments/prometheus/rules/roas.yml"
DASHBOARDS = ROOT / "deployments/grafana/dashboards"
EXPORTER = ROOT / "adapters/prometheus_exporter.py"


def exported() -> set[str]:
    """The names that the exporter's source gives its metrics."""
    source = EXPORTER.read_text()
    names = set(re.findall(r'"(roas_[a-z0-9_]+)"', source))
    for prefix, block in re.findall(r"^_OF_(SERVICES|HOSTS) = \{(.*?)^\}", source, re.MULTILINE | re.DOTALL):
        subject = {"SERVICES": "roas_service", "HOSTS": "roas_host"}[prefix]
        names |= {f"{subject}_{name}" for name in re.findall(r'_Shown\("([a-z0-9_]+)"', block)}
    return names


@pytest.mark.parametrize("file", [RULES, *DASHBOARDS.glob("*.json")], ids=lambda file: file.name)
def test_every_metric_that_is_asked_for_is_exported(file: Path) -> None:
    known = exported()
    asked = set(re.findall(r"\broas_[a-z0-9_]+", file.read_text()))
    assert asked
    unknown = {name for name in asked if name not in known and re.sub(r"_(total|bucket)$", "", name) not in known}
    assert not unknown


def test_alert_rules_do_what_their_cases_say() -> None:
    tested = subprocess.run(
        ["promtool", "test", "rules", "roas_rules_test.yml"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.engine
@pytest.mark.parametrize(
    ("folder", "config"), [("deployments/prometheus", "prometheus.yml"), ("deployments/sample", "prometheus.yml")]
)
def test_prometheus_accepts_its_configuration(folder: str, config: str) -> None:
    checked = subprocess.run(
        [
            *("docker", "run", "--rm", "--volume", f"{ROOT / folder}:/config:ro", "roas/prometheus:local"),
            *("promtool", "check", "config", f"/config/{config}"),
        ],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_no_two_panels_share_a_place_or_a_number() -> None:
    for file in DASHBOARDS.glob("*.json"):
        panels = json.loads(file.read_text())["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        cells = [
            (x, y)
            for panel in panels
            for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
            for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
        ]
        assert len(set(cells)) == len(cells)
