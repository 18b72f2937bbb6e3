"""Whether what is on record of recoveries, tickets and operations is true, and keeps to what it must."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from models.notifications import Notification
from models.operations import Operation, OperationStatus
from models.recovery import RecoveryExecution, Ticket, TicketState
from tests.simulation.sentences import Sentence
from tests.simulation.world import World

QUARTER_HOUR, DAY = timedelta(minutes=15), timedelta(days=1)
_ATTEMPTS_QUARTER_HOUR, _ATTEMPTS_DAY = 3, 12
"""The product's defaults, written down again: a change of them must be wanted."""
_ENDS_WITHIN = timedelta(minutes=10)
_A_MOMENT = timedelta(seconds=1)
_A_WHILE = timedelta(minutes=1)
_AT_LEAST = timedelta(seconds=8)
_REPORTED_WITHIN = timedelta(minutes=10)


class RecordChecks:
    """Compares records with what happened."""

    def __init__(self, world: World, fail: Callable[[Sentence, str], None]) -> None:
        self._world, self._fail = world, fail
        self._messages: set[tuple[str, str, str]] = set()
        self._reported: set[str] = set()
        self._serving: dict[str, list[tuple[datetime, bool]]] = {shape.name: [] for shape in world.shapes}

    def note_serving(self, service: str) -> None:
        """Note whether a service serves from now on."""
        serves = any(container.serves for container in self._world.containers(service))
        history = self._serving[service]
        if not history or history[-1][1] is not serves:
            history.append((self._world.clock.now(), serves))

    def served_within(self, service: str, since: datetime, until: datetime) -> bool:
        """Whether a service served at some moment between these."""
        history = self._serving[service]
        after = [at for at, _ in history[1:]] + [until + _A_MOMENT]
        return any(serves and at <= until and end >= since for (at, serves), end in zip(history, after, strict=False))

    def note_message(self, notification: Notification) -> None:
        """A message arrives at a person."""
        for news in notification.news:
            if news.cause is not None:
                error_id = news.cause.error.error_id
                report = (error_id, str(news.occasion), repr(news.cause.reported))
                if report in self._messages:
                    self._fail(Sentence.ONE_MESSAGE, f"{error_id} ({news.occasion}) is reported again.")
                self._messages.add(report)
                self._reported.add(error_id)
                if news.cause.ticket is not None:
                    self._reported.add(news.cause.ticket.ticket_id)

    def check_attempts(self, attempts: Sequence[RecoveryExecution], runs: Callable[[int], bool]) -> None:
        """Whether attempts keep the budgets, have an end, and helped where they are said to; `runs` is of a process."""
        by_itself = [attempt for attempt in attempts if not self._was_answered(attempt)]
        self._check_budget(by_itself)
        self._check_pauses(by_itself)
        now = self._world.clock.now()
        for attempt in attempts:
            if not attempt.points or attempt.service is None:
                continue
            name, begun = f"{attempt.attempt_id} of {attempt.service}", attempt.started_at
            if attempt.ended_at is None and now - begun > _ENDS_WITHIN and attempt.runner is not None:
                if not runs(attempt.runner.pid):
                    self._fail(Sentence.RECOVERY_ENDS, f"{name} began at {begun:%H:%M:%S}, and its process is gone.")
            elif attempt.success and attempt.ended_at is not None and not self._helped(attempt):
                self._fail(Sentence.RECOVERED, f"{name} ended at {attempt.ended_at:%H:%M:%S}.")

    def _was_answered(self, attempt: RecoveryExecution) -> bool:
        """Whether a person asked for an attempt: then neither budgets nor pauses count."""
        process = self._world.processes.get(attempt.runner.pid) if attempt.runner is not None else None
        return process is not None and process.name == "answer"

    def _helped(self, attempt: RecoveryExecution) -> bool:
        ended = (attempt.ended_at or attempt.started_at) + _A_MOMENT
        return self.served_within(attempt.service or "", attempt.started_at, ended)

    def _check_pauses(self, attempts: Sequence[RecoveryExecution]) -> None:
        """Whether each attempt leaves time after one at the same error that failed."""
        made = sorted((tried for tried in attempts if tried.points), key=lambda tried: tried.started_at)
        for first in made:
            after = next((tried for tried in made if _follows(tried, first)), None)
            if after is not None and first.ended_at and after.started_at - first.ended_at < _AT_LEAST:
                pause = after.started_at - first.ended_at
                self._fail(Sentence.BACK_OFF, f"{after.attempt_id} of {after.service} began after {pause}.")

    def _check_budget(self, attempts: Sequence[RecoveryExecution]) -> None:
        for service in {attempt.service for attempt in attempts}:
            begun = sorted(tried.started_at for tried in attempts if tried.service == service and tried.points)
            for window, most in ((QUARTER_HOUR, _ATTEMPTS_QUARTER_HOUR), (DAY, _ATTEMPTS_DAY)):
                for first, last in zip(begun, begun[most:], strict=False):
                    if last - first < window:
                        self._fail(Sentence.BUDGET, f"{service} was acted on {most + 1} times within {last - first}.")

    def _was_down(self, service: str, at: datetime) -> bool:
        """Whether a service did not serve for a while before a moment."""
        return not self.served_within(service, at - _A_WHILE, at)

    def check_operations(self, recorded: Sequence[Operation], runs: Callable[[int], bool]) -> None:
        """Whether what a dead process ran has an end, once another operation has held the environment."""
        is_settled = False
        for row in recorded:
            runner = row.record.runner
            if is_settled and row.ended_at is None and runner is not None and not runs(runner.pid):
                self._fail(Sentence.ONE_END, f"{row.deployment_id} is {row.status}, and its process is gone.")
            is_settled = is_settled or row.status is OperationStatus.SUCCESS

    def check_tickets(self, tickets: Sequence[Ticket], unkilled_since: datetime) -> None:
        """Whether no cause has two tickets that are open, and people get a message about each."""
        waiting = [ticket for ticket in tickets if ticket.state is TicketState.OPEN]
        numbers = Counter(ticket.error_id for ticket in waiting)
        if double := [error_id for error_id, number in numbers.items() if number > 1]:
            self._fail(Sentence.ONE_TICKET, f"Errors {double} have several.")
        opened = {ticket.service: ticket.opened_at for ticket in waiting}
        for shape in self._world.shapes:
            for other in shape.needs:
                if shape.name in opened and other in opened and self._was_down(other, opened[shape.name]):
                    self._fail(Sentence.ONE_TICKET, f"{shape.name} has one as well as {other}, which it needs.")
        for ticket in waiting:
            is_due = unkilled_since < ticket.opened_at < self._world.clock.now() - _REPORTED_WITHIN
            if is_due and self._reported.isdisjoint({ticket.ticket_id, ticket.error_id}):
                self._fail(Sentence.REPORTED, f"Nothing was sent of {ticket.ticket_id} about {ticket.service}.")


def _follows(tried: RecoveryExecution, first: RecoveryExecution) -> bool:
    is_same = tried.error_id == first.error_id and not first.success
    return is_same and tried.started_at > first.started_at
