"""Write the message of what is due: the first cause, what shows it, who is affected, what was tried, what to type."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from math import inf
from urllib.parse import quote

from core.common.safe_text import shorten
from core.notifications.pacing import Batch
from core.notifications.words import WORDS
from models.errors import REFUSED, RecordedError, Severity
from models.notifications import (
    Addresses,
    Fact,
    Link,
    Message,
    News,
    NewsDetails,
    Notification,
    NotificationReason,
    Tone,
)
from models.operations import Operation
from models.operations.record import NoteRecord
from models.recovery import RecoveryExecution

MOST_LINES = 3
MOST_ITEMS = 10
_NAMED = 8
_MOST_NOTES = 5
_LONGEST_NOTES = 900
_COMMAND = re.compile(r"^(?P<what>[^:]+): (?P<command>(?:roas|docker|grep|ls|ss|df|journalctl|systemctl) .+)$")

_DONE = {
    "start": "started", "stop": "stopped", "restart": "restarted", "rollback": "rolled back", "update": "updated",
    "sync": "updated",
}  # fmt: skip
_TONES = {
    NotificationReason.FAILED: Tone.FAILURE,
    NotificationReason.REMINDER: Tone.WARNING,
    NotificationReason.RECOVERED: Tone.SUCCESS,
    NotificationReason.DEPLOYED: Tone.SUCCESS,
    NotificationReason.DEPLOYMENT_FAILED: Tone.FAILURE,
}


def compose(batch: Batch, details: Mapping[str, NewsDetails], addresses: Addresses, now: datetime) -> Notification:
    """Write the message of a batch. `details` are those of each error by its id, empty for what is not known."""
    if batch.flaps:
        message = _flapping_message(batch, details, addresses, now)
    elif len(batch.news) > 1:
        message = _digest(batch.news, details, addresses, now)
    else:
        message = _single(batch.news[0], details, addresses, now)
    return Notification(message=message, news=batch.news)


def explain(batch: Batch) -> News | None:
    """Return the news of a batch whose details its message shows; None where it shows none."""
    if batch.flaps or len(batch.news) == 1:
        return batch.news[-1]
    return first_cause(_failing_news(batch.news))


def _failing_news(news: Sequence[News]) -> list[News]:
    return [
        report for report in news if report.occasion not in (NotificationReason.RECOVERED, NotificationReason.DEPLOYED)
    ]


def _single(news: News, details: Mapping[str, NewsDetails], addresses: Addresses, now: datetime) -> Message:
    error = news.cause.error if news.cause else None
    news_details = details.get(error.error_id, NewsDetails()) if error else NewsDetails()
    title, over = headline(news, now), news.occasion is NotificationReason.RECOVERED
    summary, facts = _summary(news, news_details), _facts(news, news_details)
    return Message(
        tone=_tone(news),
        title=title,
        summary=summary,
        lines=() if over else news_details.lines[:MOST_LINES],
        facts=facts,
        links=_links(news, news_details, addresses),
    )


def headline(news: News, now: datetime) -> str:
    """Say in one line what happened to what."""
    operation, error = news.operation, news.cause.error if news.cause else None
    cause = WORDS[error.verdict.category][0] if error else ""
    if operation is not None:
        done = _describe_outcome(operation)
        if news.occasion is NotificationReason.DEPLOYED:
            return f"{operation.environment} was {done}"
        of_service = f"{error.service}: " if error and error.service else ""
        return f"{operation.environment} could not be {done}" + (f": {of_service}{cause}" if cause else "")
    if error is None:
        return news.environment
    name = _name(error)
    if news.occasion is NotificationReason.RECOVERED:
        return f"{name} {'can be started' if error.source == REFUSED else 'is healthy'} again"
    if news.occasion is NotificationReason.REMINDER:
        return f"{name} has needed help for {duration(now - error.first_seen)}: {cause}"
    return f"{name} needs help: {cause}"


def _digest(news: Sequence[News], details: Mapping[str, NewsDetails], addresses: Addresses, now: datetime) -> Message:
    """Write one message for many: the first cause, then a line for each."""
    worst = _failing_news(news)
    first = first_cause(worst)
    news_in_order = sorted(news, key=lambda report: report is not first)
    items = [headline(report, now) for report in news_in_order]
    names, count = list(dict.fromkeys(report.environment for report in news)), len(news)
    environment = names[0] if len(names) == 1 else f"{len(names)} environments"
    of_one = f" {names[0]}" if len(names) == 1 else ""
    over = len(items) - MOST_ITEMS
    if over > 0:
        items = [*items[:MOST_ITEMS], f"and {over} more: roas tickets{of_one}"]
    if first is None:
        return Message(
            tone=Tone.SUCCESS,
            title=f"{environment}: {count} reports, nothing needs help",
            items=tuple(items),
            facts=(Fact(name="Next", value=f"roas status{of_one}", command=True),),
            links=_links(news[0], NewsDetails(), addresses),
        )
    news_details = details.get(first.cause.error.error_id, NewsDetails()) if first.cause else NewsDetails()
    failing = len(worst)
    reports = f"{failing} failures" if failing > 1 else "1 failure"
    about = f"{environment}: {reports}" + (f" and {count - failing} other reports" if count > failing else "")
    return Message(
        tone=Tone.CRITICAL if any(_tone(report) is Tone.CRITICAL for report in worst) else Tone.FAILURE,
        title=f"{about}. First cause: {headline(first, now)}",
        summary=_summary(first, news_details),
        items=tuple(items),
        lines=news_details.lines[:MOST_LINES],
        facts=(
            *(fact for fact in _facts(first, news_details) if fact.name != "Ticket"),
            Fact(name="All tickets", value=f"roas tickets{of_one}", command=True),
        ),
        links=_links(first, news_details, addresses),
    )


def first_cause(news: Sequence[News]) -> News | None:
    """Return the news that explains the others: whose service most of them need, otherwise the first seen."""

    def rank(report: News) -> tuple[int, float]:
        error = report.cause.error if report.cause else None
        needed = sum(
            error is not None and error.service is not None and error.service in other.cause.error.dependencies_down
            for other in news
            if other.cause is not None
        )
        since = error.first_seen if error else report.operation.started_at if report.operation else None
        return -needed, since.timestamp() if since else inf

    return min(news, key=rank, default=None)


def _flapping_message(batch: Batch, details: Mapping[str, NewsDetails], addresses: Addresses, now: datetime) -> Message:
    newest = batch.news[-1]
    message = _single(newest, details, addresses, now)
    name = _name(newest.cause.error) if newest.cause else newest.environment
    times = f"{batch.flaps} times within an hour"
    return Message(
        tone=Tone.WARNING,
        title=f"{name} fails again and again: {times}",
        summary=f"Now: {message.title}\n{message.summary}",
        lines=message.lines,
        facts=message.facts,
        links=message.links,
    )


def _tone(news: News) -> Tone:
    tone = _TONES[news.occasion]
    grave = news.cause is not None and news.cause.error.verdict.severity is Severity.CRITICAL
    return Tone.CRITICAL if grave and tone is not Tone.SUCCESS else tone


def _summary(news: News, news_details: NewsDetails) -> str:
    operation, cause = news.operation, news.cause
    if news.occasion is NotificationReason.RECOVERED and cause is not None:
        error = cause.error
        took = duration((error.resolved_at or error.last_seen) - error.first_seen)
        ways = f" ({cause.resolution})" if cause.resolution else ""
        return f"Recovered in {took}{ways}; it began {moment(error.first_seen)}.\n{_first(error, news_details)}"
    if operation is not None and news.occasion is NotificationReason.DEPLOYED:
        took_time = operation.duration
        health = operation.record.health
        after = f"It took {duration(took_time)}" if took_time is not None else "It ended"
        return f"{after}{f', and the application is {health}' if health else ''}."
    lines = []
    if operation is not None and (cause is None or not news_details.first_cause):
        reason = operation.record.reason or operation.record.interrupted
        lines.append(shorten(reason) if reason else "No reason is recorded.")
    elif cause is not None:
        lines.append(_first(cause.error, news_details))
    if cause is not None:
        meaning = news_details.means or WORDS[cause.error.verdict.category][1]
        lines += [meaning] if meaning not in lines else []
    return "\n".join(lines)


def _first(error: RecordedError, news_details: NewsDetails) -> str:
    return news_details.first_cause or shorten(error.text)


def _facts(news: News, news_details: NewsDetails) -> tuple[Fact, ...]:
    cause, operation = news.cause, news.operation
    over = news.occasion in (NotificationReason.RECOVERED, NotificationReason.DEPLOYED)
    facts = []
    if cause is not None and not over:
        error = cause.error
        affected = news_details.affected or ((error.service,) if error.service else ())
        since = f"since {moment(error.first_seen)} (seen {error.how_often})"
        facts.append(Fact(name="Affected", value=f"{_list(affected)} {since}" if affected else f"all {since}"))
        facts.append(Fact(name="Tried", value=_describe_attempts(cause.executions, news_details.rollback)))
    if operation is not None:
        record = operation.record
        if record.source is not None:
            facts.append(Fact(name="Revision", value=shorten(str(record.source))))
        if record.release_notes:
            facts.append(Fact(name="New", value=_release_notes(record.release_notes)))
        if record.gate is not None and record.gate.text:
            facts.append(Fact(name="Gate", value=shorten(f"{record.gate.outcome}: {record.gate.text}")))
        if failed_hooks := [run.sentence for run in record.hooks if not run.ok]:
            facts.append(Fact(name="Hooks", value=shorten("; ".join(failed_hooks))))
        if not over and record.data:
            facts.append(Fact(name="Data", value=shorten(record.data)))
            if operation.data_back:
                name = "Only if the data is wrong" if record.data_proven else "Put the data back"
                facts.append(Fact(name=name, value=operation.data_back, command=True))
        if record.undone:
            facts.append(Fact(name="Rollback", value=shorten(record.undone)))
        if record.undo_failed:
            facts.append(Fact(name="Rollback failed", value=shorten(record.undo_failed)))
        if operation.user_agent:
            facts.append(Fact(name="Asked by", value=operation.user_agent))
    return (*facts, *_next(news, over=over))


def _release_notes(notes: Sequence[NoteRecord]) -> str:
    """Return what the new images of an update change, in one line."""
    texts = [note.text for note in notes]
    more = f"; and {len(texts) - _MOST_NOTES} more" if len(texts) > _MOST_NOTES else ""
    return shorten("; ".join(texts[:_MOST_NOTES]), _LONGEST_NOTES) + more


def _describe_attempts(executions: Sequence[RecoveryExecution], rollback: str) -> str:
    if not executions:
        return f"rollback: {shorten(rollback)}; it waits for a person" if rollback else "nothing; it waits for a person"
    last = executions[-1]
    name = str(last.strategy).replace("_", " ")
    often = f" ({len(executions)} attempts; this is the last)" if len(executions) > 1 else ""
    return f"{name}: {last.final_status}{often}"


def _next(news: News, *, over: bool) -> tuple[Fact, ...]:
    """Return the next command to type, and where the rest is shown."""
    ticket = news.cause.ticket if news.cause else None
    if news.operation is not None:
        command = "history" if over else "why"
        return (Fact(name="Next", value=f"roas {command} {news.operation.deployment_id}", command=True),)
    if not over and ticket is None and news.cause is not None and (failed := news.cause.error.deployment_id):
        return (Fact(name="Next", value=f"roas why {failed}", command=True),)
    if over and news.cause is not None:
        return (Fact(name="Next", value=f"roas postmortem {news.cause.error.error_id}", command=True),)
    if ticket is None:
        return (Fact(name="Next", value=f"roas status {news.environment}", command=True),)
    more = Fact(name="Ticket", value=f"roas tickets {ticket.ticket_id}", command=True)
    steps = [match for text in ticket.steps if (match := _COMMAND.match(text))]
    # The message shows the decisive log lines already.
    step = next(
        (candidate for candidate in steps if not candidate["command"].startswith("roas logs")),
        steps[0] if steps else None,
    )
    if step is not None:
        what = step["what"]
        return (Fact(name=f"Next: {what[:1].lower()}{what[1:]}", value=step["command"], command=True), more)
    return (*(Fact(name="Next", value=text) for text in ticket.steps[:1]), more)


def _links(news: News, news_details: NewsDetails, addresses: Addresses) -> tuple[Link, ...]:
    run = news_details.flow_run_id
    if news.operation is not None:
        run = news.operation.record.flow_run_id or run
    links = []
    if run and addresses.prefect:
        # A server that has the run has our page, too.
        server = addresses.prefect.rstrip("/")
        links += _page_links(news, f"{server}/roas")
        links.append(Link(label="Run in Prefect", address=f"{server}/runs/flow-run/{quote(run)}"))
    if addresses.grafana:
        base, environment = addresses.grafana.rstrip("/"), quote(news.environment)
        page, more = "roas-operations", ""
        if news.service:
            page, more = "roas-service", f"&var-service={quote(news.service)}"
        links.append(Link(label="Dashboard", address=f"{base}/d/{page}?var-environment={environment}{more}"))
    return tuple(links)


def _page_links(news: News, page: str) -> list[Link]:
    """Where a person finds the evidence, and the answers of a ticket with what each would do."""
    ticket = news.cause.ticket if news.cause else None
    if ticket is not None:
        return [Link(label="Ticket and answers", address=f"{page}/tickets/{quote(ticket.ticket_id)}")]
    if news.operation is not None:
        return [Link(label="Operation", address=f"{page}/operations/{quote(news.operation.deployment_id)}")]
    return []


def _describe_outcome(operation: Operation) -> str:
    return _DONE.get(operation.kind, operation.kind)


def _name(error: RecordedError) -> str:
    return f"{error.service} of {error.environment}" if error.service else error.environment


def _list(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def moment(at: datetime) -> str:
    """A moment as messages write it."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def duration(time: timedelta) -> str:
    """A duration in the unit that fits it."""
    seconds = max(0.0, time.total_seconds())
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
