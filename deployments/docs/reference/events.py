"""The page of Prefect events: the constants `roas.*` of the code, with the sentence below each."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from deployments.docs.reference.markdown import code, page, table

ROOT = Path(__file__).parents[3]

_EVENT = re.compile(r"roas(\.[a-z]+){2}")


def events_page() -> str:
    """Every event with its meaning."""
    return page(
        "Events",
        "The program sends these events to its Prefect server, for automations. The resource of each is "
        "`roas.ENVIRONMENT.SERVICE`, with the labels `roas.environment` and `roas.handled`: `no` asks an automation to "
        "act. The payload has `environment`, `service`, `deployment_id`, `error_id` and `text`, without secrets.",
        table(("event", "meaning"), [(code(name), meaning) for name, meaning in sorted(events())]),
    )


def events() -> Iterator[tuple[str, str]]:
    """Each event with the docstring of its constant."""
    for file in [*(ROOT / "tasks").rglob("*.py"), *(ROOT / "flows").rglob("*.py")]:
        body = ast.parse(file.read_text()).body
        for statement, following in zip(body, [*body[1:], ast.Pass()], strict=True):
            value = getattr(statement, "value", None)
            if not (isinstance(statement, ast.Assign) and isinstance(value, ast.Constant)):
                continue
            if isinstance(value.value, str) and _EVENT.fullmatch(value.value):
                about = following.value if isinstance(following, ast.Expr) else None
                text = about.value if isinstance(about, ast.Constant) else ""
                yield value.value, str(text)
