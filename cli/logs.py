"""`roas logs`: what services wrote and write, also those whose containers are removed."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from cli import completers
from cli.options import as_json, leaves_environment_out, moment_or_age, resolve_names
from cli.run_flow import show_answer
from flows.common.terminal import echo, echo_json
from models.failures import NotFoundError
from models.logs import MOST_LINES, LogQuery

if TYPE_CHECKING:
    from tasks.runtime.project import Project

_LINES = 100


@click.command()
@click.argument("environment", required=False, metavar="[ENV]", shell_complete=completers.environments)
@click.argument("services", nargs=-1, metavar="[SERVICE]...", shell_complete=completers.services)
@click.option(
    *("-s", "--service", "chosen"),
    multiple=True,
    metavar="SERVICE",
    shell_complete=completers.services,
    help="Only this service; may be repeated.",
)
@click.option(
    "-f", "--follow", is_flag=True, help="Go on with what they write, through restarts and updates; Ctrl-C ends."
)
@click.option(
    "--since", metavar="AGE|TIME", help="Only lines since then: 10m, 2h, or an ISO time, of UTC without a zone."
)
@click.option(
    "--grep", "pattern", default="", metavar="PATTERN", help="Only lines that match a regular expression (RE2)."
)
@click.option("-i", "--ignore-case", is_flag=True, help="Let --grep take no notice of capital letters.")
@click.option(
    "--tail", type=click.IntRange(1, MOST_LINES), help=f"So many lines of each: {_LINES}, with --since {MOST_LINES}."
)
@as_json
def logs(
    environment: str | None,
    services: tuple[str, ...],
    chosen: tuple[str, ...],
    follow: bool,
    since: str | None,
    tail: int | None,
    json_wanted: bool,
    **matching: str | bool,
) -> None:
    """Print the last log lines of all services, or of SERVICE, in the order of time.

    Those of a removed container come from the evidence that was kept when it failed or was replaced. With --follow,
    --json prints one document a line.
    """
    from tasks.runtime.project import open_project

    if leaves_environment_out(environment):
        environment, services = None, (environment or "", *services)
    begin = None if since is None else moment_or_age(since, datetime.now(UTC))
    query = LogQuery(
        services=(*services, *chosen),
        lines=tail or (_LINES if since is None else MOST_LINES),
        since=begin,
        pattern=str(matching["pattern"]),
        ignore_case=bool(matching["ignore_case"]),
    )
    name, compose = resolve_names(environment, (), None)
    project = open_project(name, tuple(compose or ()))
    (_follow if follow else _show)(project, query, json_wanted)


def _show(project: Project, query: LogQuery, json_wanted: bool) -> None:
    from cli.rendering.logs import show_logs
    from tasks.reporting.logs import search_logs

    answer, name = search_logs(project, query), project.environment.name
    if not answer.logs:
        about = f"{', '.join(query.services)} of {name}" if query.services else name
        raise NotFoundError(
            f"There is no log of {about}: it has no container, and no evidence of it was kept;",
            advice=f"`roas status {name}` shows what is known of {name}.",
        )
    is_empty = query.searches and not any(log.lines for log in answer.logs)
    shown = [log for log in answer.logs if log.lines] if query.searches else list(answer.logs)
    show_answer(shown, json_wanted, show_logs)
    for remark in (*answer.remarks, *(["no line matches"] if is_empty else ())):
        echo(remark, err=True)


def _follow(project: Project, query: LogQuery, json_wanted: bool) -> None:
    from cli.rendering.logs import LogPrinter
    from tasks.reporting.follow_logs import follow_logs

    printer = LogPrinter()
    with closing(follow_logs(project, query)) as batches:
        for batch in batches:
            if isinstance(batch, str):
                echo(batch, err=True)
            elif json_wanted:
                for line in batch:
                    echo_json(line.document())
            else:
                printer.show(batch)
