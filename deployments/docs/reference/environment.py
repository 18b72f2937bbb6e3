"""The pages of the environment file and of probes, from the JSON Schema of environments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deployments.docs.reference.markdown import cell, code, page, table
from deployments.docs.reference.schema import default_of, kind_of

_PROBE = "Probe"


def environment_page() -> str:
    """Every field of an environment file, one heading a model."""
    schema, models, probes = _schema()
    model_names = [name for name in models if name not in probes and "properties" in models[name]]
    links = _links(models, probes, here="environment")
    sections = [f"## {_title(name)}\n\n{_model(models[name], links)}" for name in model_names]
    return page(
        "Environment file",
        "An environment file is YAML with these fields. `roas init` writes one, `roas validate ENV` checks it, and "
        "`roas schema` prints this page as JSON Schema, for editors. Relative paths start from the file's folder.",
        _fields(schema, links),
        *sections,
    )


def probes_page() -> str:
    """Every kind of probe with its fields."""
    _, models, probes = _schema()
    links = _links(models, probes, here="probes")
    return page(
        "Probes",
        "A probe proves that a service works: `probe:` of a [service](environment.md#service) is one of these. Without "
        "one, the health check of the Compose file proves it alone.",
        *(f"## {probes[name]}\n\n{_model(models[name], links)}" for name in probes),
    )


def _schema() -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """The schema, its models, and the kind of each model that is a probe."""
    from models.environments import environment_schema

    schema = environment_schema()
    models = schema["$defs"]
    probes = {
        name: model["properties"]["kind"]["const"]
        for name, model in models.items()
        if name.endswith(_PROBE) and "kind" in model.get("properties", {})
    }
    return schema, models, probes


def _links(models: Mapping[str, Any], probes: Mapping[str, str], *, here: str) -> dict[str, str]:
    links = {}
    for name, model in models.items():
        if name in probes:
            links[name] = f"[{probes[name]}]({'' if here == 'probes' else 'probes.md'}#{probes[name]})"
        elif "enum" in model:
            links[name] = kind_of(model, {})
        else:
            title = _title(name)
            anchor = title.lower().replace(" ", "-")
            links[name] = f"[{title.lower()}]({'' if here == 'environment' else 'environment.md'}#{anchor})"
    return links


def _title(name: str) -> str:
    """`RecoveryPolicy` as `Recovery policy`."""
    words = "".join(f" {x.lower()}" if x.isupper() else x for x in name.removesuffix("Spec")).split()
    return " ".join(words).capitalize()


def _model(model: Mapping[str, Any], links: Mapping[str, str]) -> str:
    about = "\n\n".join(cell(paragraph) for paragraph in str(model.get("description", "")).split("\n\n"))
    return f"{about}\n\n{_fields(model, links)}"


def _fields(model: Mapping[str, Any], links: Mapping[str, str]) -> str:
    required = set(model.get("required", ()))
    rows = [
        (
            code(name) + (" (required)" if name in required else ""),
            kind_of(field, links),
            default_of(field),
            str(field.get("description", "")),
        )
        for name, field in model["properties"].items()
    ]
    return table(("field", "kind", "default", "meaning"), rows)
