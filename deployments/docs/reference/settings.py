"""The page of settings: the variables that start with ROAS_."""

from __future__ import annotations

from deployments.docs.reference.markdown import code, page, table
from deployments.docs.reference.schema import kind_of


def settings_page() -> str:
    """Every setting with its kind, default and meaning."""
    from models.settings import Settings

    properties = Settings.model_json_schema()["properties"]
    rows = [
        (
            code(f"ROAS_{name.upper()}"),
            kind_of(properties[name], {}),
            code("" if field.default in (None, "") else field.default),
            field.description or "",
        )
        for name, field in sorted(Settings.model_fields.items())
    ]
    return page(
        "Settings",
        "Variables of the process; an empty one counts as not set.",
        table(("variable", "kind", "default", "meaning"), rows),
        "`ROAS_WARM=0` switches the warm process and the shared Prefect server off, or names the socket of a certain "
        "warm process. What the control plane reads beside these is in `docker-compose.yml`.",
    )
