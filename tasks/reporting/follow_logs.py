"""Follow the logs of services: what there is, and then what they write."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from core.reporting.log_lines import interleave, line_matcher
from models.logs import LogAnswer, LogLine, LogQuery
from tasks.reporting.logs import search_logs
from tasks.runtime.project import Project, open_project

_OVERLAP = timedelta(seconds=2)
"""The engine's clock is known to about two seconds."""


def follow_logs(project: Project, query: LogQuery) -> Generator[list[LogLine] | str, None, None]:
    """Give what `search_logs` finds, then without end what is written, in batches by time; sentences are remarks.

    Containers that restart or are replaced are followed too. Who has enough closes the iterator, which gives an empty
    batch where nothing was written for seconds.

    Raises:
        BadInputError: The pattern cannot be used.
        EngineError: The engine refuses; while it is away, it is asked again.
    """
    begin = datetime.now(UTC) - _OVERLAP
    answer = search_logs(project, query)
    yield from answer.remarks
    yield interleave(answer.logs)
    printed = _last_moments(answer)
    is_wanted = line_matcher(replace(query, since=max(begin, query.since or begin)))
    engine = project.engine
    with engine.logs.follow(project.environment.project, query.services, begin) as followed:
        for batch in followed:
            if batch.remark:
                yield batch.remark
            matching = (replace(log, lines=tuple(filter(is_wanted, log.lines))) for log in batch.logs)
            lines = [line for line in interleave(tuple(matching)) if not _is_printed(line, printed)]
            if lines or not (batch.logs or batch.remark):
                yield lines


def follow_logs_of(environment: str, query: LogQuery) -> Generator[list[LogLine] | str, None, None]:
    """The same of an environment that is not open yet.

    Raises:
        RoasError: It cannot be opened, or what `follow_logs` raises.
    """
    return follow_logs(open_project(environment), query)


def _last_moments(answer: LogAnswer) -> dict[str, datetime]:
    """The moment of the last line of each container, by name."""
    return {line.container: line.at for line in interleave(answer.logs) if line.at is not None}


def _is_printed(line: LogLine, printed: dict[str, datetime]) -> bool:
    last = printed.get(line.container)
    return last is not None and line.at is not None and line.at <= last
