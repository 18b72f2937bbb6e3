"""Flows with their parameters, and deployments with parameters, schedules and triggers, as Prefect shows them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import yaml

from tests.golden.conftest import golden

DEPLOYED = yaml.safe_load((Path(__file__).parents[2] / "prefect.yaml").read_text())["deployments"]


def flow_of(entry: dict[str, Any]) -> Any:
    module, _, name = entry["entrypoint"].replace(":", ".").rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_flows_with_their_parameters() -> None:
    from prefect.utilities.callables import parameter_schema

    flows = {flow.name: flow for flow in map(flow_of, DEPLOYED)}
    shown = {}
    for name, flow in sorted(flows.items()):
        schema = parameter_schema(flow)
        required = set(schema.required)
        shown[name] = {
            parameter: {key: value for key, value in facts.items() if key not in ("title", "position")}
            | {"position": facts["position"], "required": parameter in required}
            for parameter, facts in sorted(schema.properties.items(), key=lambda one: one[1]["position"])
        }

    golden("flows.yaml", yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=120))


def test_deployments() -> None:
    shown = {}
    for entry in DEPLOYED:
        kept = {key: value for key, value in entry.items() if key not in ("entrypoint", "name")}
        shown[f"{flow_of(entry).name}/{entry['name']}"] = kept

    text = yaml.dump(shown, Dumper=_Plain, sort_keys=True, allow_unicode=True, width=120)
    golden("deployments.yaml", text)


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True
