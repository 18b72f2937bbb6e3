"""The first page: every environment with its verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response

from flows.page.rendering import render
from models.overview import EnvironmentSummary, VerdictLevel
from tasks.reporting.overview import read_overview
from tasks.reporting.read import read_damage

_WELL = frozenset({VerdictLevel.GOOD, VerdictLevel.UNPROVEN})
_CHOICES: Mapping[str, Callable[[EnvironmentSummary], bool]] = {
    "all": lambda summary: True,
    "attention": lambda summary: summary.needs_attention,
    "well": lambda summary: not summary.needs_attention and summary.verdict.level in _WELL,
    "unknown": lambda summary: summary.verdict.level is VerdictLevel.UNKNOWN,
    "stopped": lambda summary: summary.verdict.level is VerdictLevel.OFF,
}
CHOICE_NAMES = {
    "all": "All",
    "attention": "Need attention",
    "well": "Well",
    "unknown": "Not known",
    "stopped": "Stopped",
}


def overview(request: Request) -> Response:
    """The environments that `q` (a part of its name or host) and `show` choose, those that need attention first."""
    read = read_overview()
    words, choice = request.query_params.get("q", "").strip(), request.query_params.get("show", "all")
    choice = choice if choice in _CHOICES else "all"
    matching = [summary for summary in read.environments if _matches(summary, words)]
    return render(
        request,
        "overview.html.j2",
        overview=read,
        shown=sorted(filter(_CHOICES[choice], matching), key=lambda summary: not summary.needs_attention),
        choices=[(key, name, sum(map(_CHOICES[key], matching))) for key, name in CHOICE_NAMES.items()],
        choice=choice,
        words=words,
        damage=read_damage(),
    )


def _matches(summary: EnvironmentSummary, words: str) -> bool:
    return all(word in f"{summary.environment} {summary.host}".lower() for word in words.lower().split())
