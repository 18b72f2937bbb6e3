"""Render templates as HTML answers. Every text of others is text: nothing in it becomes markup, or hides a line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from core.common.quantities import age_in_words, size_in_words
from core.common.safe_text import printable
from core.reporting.field_words import COLUMNS, FIELDS
from core.reporting.live_view import length
from core.reporting.plots import draw
from core.reporting.waterfall import detail_in_words
from flows.page.icons import icon, mark
from models.pages import Plot

FOLDER = Path(__file__).parent / "templates"
STATIC = Path(__file__).parent / "static"
BASE = "/roas"
"""Where the server mounts the page."""

_COMMAND = re.compile(r"(?:^|(?<=: ))(?:docker|roas|make|git|restic|prefect) .+", re.DOTALL)
_WITH_TENTHS = 10
"""Seconds."""


def render(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """The page of a template, for the one who asked.

    Templates get `viewer` (whose `name` is shown, and whose `may_write` shows what acts) and `csrf`, both None without
    a sign-in, `now`, and `path`, which is below `BASE`.
    """
    state = request.state
    html = (
        templates()
        .get_template(template)
        .render(
            viewer=getattr(state, "viewer", None),
            csrf=getattr(state, "csrf", None),
            now=datetime.now(UTC),
            path=request.url.path.removeprefix(BASE),
            **context,
        )
    )
    return HTMLResponse(html, status_code=status)


@cache
def templates() -> Environment:
    """The environment of all templates, also of those that act."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_show,
    )
    environment.filters |= {
        "age": age,
        "anchor": anchor,
        "code": _code,
        "detail_in_words": detail_in_words,
        "duration": _duration,
        "split_command": _split_command,
        "segment": lambda text: quote(text, safe=""),
        "size": size_in_words,
        "words": lambda text: str(text).replace("_", " "),
    }
    environment.globals |= {"base": BASE, "icon": icon, "mark": mark, "svg": _svg}
    environment.globals |= {"meaning": FIELDS.__getitem__, "column_meaning": lambda name: COLUMNS.get(name, "")}
    return environment


def age(at: datetime, now: datetime) -> Markup:
    """How long ago something was, with the moment itself for programs and for who points at it."""
    words, moment = age_in_words((now - at).total_seconds()), f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return Markup('<time datetime="{}" title="{}">{} ago</time>').format(at.isoformat(), moment, words)


def anchor(text: str) -> str:
    """A text as the id of an element."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _code(text: str) -> Markup:
    """A text with what stands between backticks, a command or a name, in letters of its own."""
    # It is escaped first, and no markup has a backtick.
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(printable(text)))))  # noqa: S704


def _split_command(step: str) -> tuple[str, str]:
    """What a step says, and the command that it ends with, where it has one."""
    found = _COMMAND.search(step)
    return (step, "") if found is None else (step[: found.start()].strip(), found[0])


def _svg(plot: Plot, name: str) -> Markup:
    # `draw` escapes what it writes.
    return Markup(draw(plot, name))  # noqa: S704


def _show(value: Any) -> Any:
    if value is None:
        return ""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _duration(duration: timedelta | None) -> str:
    if duration is None:
        return ""
    seconds = duration.total_seconds()
    return f"{seconds:.1f} s" if seconds < _WITH_TENTHS else length(duration)
