"""What one run knows of a diagnosed error and its recovery, what it asks people, and how it ends."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from prefect.runtime import flow_run

from adapters.host.processes import this_process
from core.errors.classify import classify
from core.errors.evidence import evidence_of
from core.monitoring.snapshot import maintenance_windows
from core.recovery.policy import (
    PlanAction,
    RecoveryFacts,
    RecoveryPlan,
    leads_deeper,
    objection,
    plan_recovery,
)
from core.recovery.states import RecoveryEvent
from flows.common.needs import needs_down
from flows.recovery.approve import Question, ask_in_own_run, attempt_details, new_ticket, question_of
from flows.recovery.diagnose import Diagnosis, IncidentContext, take_evidence
from models.environments import RecoveryPolicy
from models.errors import Category, RecordedError
from models.evidence import EvidenceBundle
from models.failures import ActionRefusedError, RoasError
from models.operations import Runner
from models.recovery import RecoveryExecution, RecoveryMethod, RecoveryOutcome, Ticket
from tasks.recovery.records import (
    finish_attempt,
    open_ticket,
    past_recoveries,
    read_error,
    read_patterns,
    snapshot_before_planning,
)
from tasks.runtime.hosts import this_host

log = logging.getLogger("roas")


@dataclass(slots=True, kw_only=True)
class RecoveryRun:
    """One error that one run recovers: what is known, and how the run ends.

    Without `asking` no ticket is opened. With `converses` a person is asked in this very run. `causes` are the
    categories found on the way to this error. `root_cause` is the text of the root cause that the last attempt ran
    into, `root_evidence` shows it.
    """

    context: IncidentContext
    diagnosis: Diagnosis
    acting: bool = True
    asking: bool = True
    failing_services: int = 1
    causes: tuple[Category, ...] = ()
    converses: bool = False
    runner: Runner = field(default_factory=lambda: this_process(str(flow_run.get_id() or "")))
    last_attempt: str | None = None
    root_cause: str | None = None
    root_evidence: Sequence[EvidenceBundle] = ()
    _outcome: RecoveryOutcome | None = None
    _facts: RecoveryFacts = field(init=False)
    _escalates: bool = False
    """Whether the first failure of the attempt opens a ticket, without another plan."""
    _refused: ActionRefusedError | None = None
    """Why the last proposed action was not taken; its first words are the strategy."""
    _asked: tuple[str, Ticket] | None = None
    """Reason and ticket that were recorded with the end of the last attempt."""
    _by_person: bool = False
    """Whether a person decided about the attempt, and by that about every wish before."""
    _retried: bool = False
    """Whether this is the retry of an attempt: the wishes of persons count, and nothing else is planned."""

    @property
    def error(self) -> RecordedError:
        """The error as it was recorded."""
        return self.diagnosis.error

    @property
    def service(self) -> str | None:
        """The service that failed; None where the error is of no single one."""
        return self.error.service

    async def _gather(self) -> Sequence[RecoveryExecution]:
        """Read the facts that a plan depends on; return the earlier attempts."""
        past, self._facts = await self._read_facts(self.service)
        return past

    async def _objection(self, service: str, undoing: bool = False) -> str | None:
        """Return the wish of a person against acting on a service now; None without one, or where one decided."""
        environment = self.context.environment
        if self._by_person or environment is None:
            return None
        if self._retried and (await read_error(self.error.error_id)).resolved_at is not None:
            return f"Error {self.error.error_id} is resolved meanwhile."
        _, facts = await self._read_facts(service)
        policy = RecoveryPolicy() if self._retried else environment.recovery
        return objection(service, policy=policy, facts=facts, undoing=undoing)

    async def _read_facts(self, service: str | None) -> tuple[Sequence[RecoveryExecution], RecoveryFacts]:
        environment, now = self.context.environment, datetime.now(UTC)
        facts = RecoveryFacts(
            service=service,
            failing_services=self.failing_services,
            acting=self.acting,
            lacking=self._refused.what if self._refused else None,
            disk_percent=self.diagnosis.disk_percent,
            was_reported_to_person=self.diagnosis.was_reported_to_person,
            needs_down=await needs_down(environment) if environment is not None else "",
        )
        if environment is not None and service is not None:
            windows = maintenance_windows(environment.maintenance, now)
            facts = replace(
                facts,
                outside_logins=environment.service(service).outside_logins,
                maintenance=any(window.covers(service, now) for window in windows),
                engine=environment.engine,
                host_id=this_host().host_id,
            )
        return await snapshot_before_planning(self.error, self.context.project, facts, now=now)

    def _plan_recovery(self, past: Sequence[RecoveryExecution]) -> RecoveryPlan:
        policy = self.context.environment.recovery if self.context.environment else RecoveryPolicy()
        return plan_recovery(self.error, past=past, policy=policy, facts=self._facts, now=datetime.now(UTC))

    def _is_of_this_run(self, execution: RecoveryExecution) -> bool:
        run_id = execution.runner.flow_run_id if execution.runner else ""
        return bool(run_id) and run_id == self.runner.flow_run_id and execution.error_id == self.error.error_id

    async def _record_end(self, execution: RecoveryExecution) -> None:
        """Record how an attempt ended together with its ticket, so that no failure is left without one."""
        question = None if execution.success else await self._question_after(execution)
        draft = new_ticket(question, self.diagnosis, self.context) if question else None
        ticket = await finish_attempt(execution, was=self.error.evidence.get("container_state"), ticket=draft)
        self._asked = None if question is None or ticket is None else (question.reason, ticket)

    async def _question_after(self, execution: RecoveryExecution) -> Question | None:
        """Return what a person is asked after a failed attempt; None where another step comes next."""
        if self._escalates:
            question = Question(execution.final_status, attempt_details(execution))
            try:
                return None if await self._objection(execution.service or "") else question
            except (RoasError, TimeoutError):
                return question
        try:
            if await self._ran_into_root_cause(execution):
                return None
            past = await self._gather()
        except (RoasError, TimeoutError) as error:
            log.info("what comes after %s is not known yet: %s", execution.attempt_id, error)
            return None
        attempts = [execution if attempt.attempt_id == execution.attempt_id else attempt for attempt in past]
        plan = self._plan_recovery(attempts)
        if plan.action is not PlanAction.ASK_A_PERSON:
            return None
        log_plan(self.error, plan)
        return question_of(plan, attempts_at(self.error, attempts))

    async def _ran_into_root_cause(self, execution: RecoveryExecution) -> bool:
        """Whether the attempt's failure, or output written since it acted, names the root cause."""
        if self.converses:
            return False
        bundles: Sequence[EvidenceBundle] = ()
        if execution.acted_at is not None:
            bundles = await take_evidence(self.context, self.service, execution.final_status, keep=False)
        evidence = evidence_of(bundles[0], since=execution.started_at) if bundles else None
        verdict = classify(execution.final_status, await read_patterns(), evidence=evidence)
        if not leads_deeper(self.diagnosis.verdict, verdict, self.causes):
            return False
        self.root_cause, self.root_evidence = execution.final_status, bundles
        return True

    async def _ask(self, question: Question) -> RecoveryEvent:
        ticket = new_ticket(question, self.diagnosis, self.context)
        return await self._wait_for_answer(question.reason, await open_ticket(ticket))

    async def _wait_for_answer(self, reason: str, ticket: Ticket) -> RecoveryEvent:
        # The error's own line has the cause.
        log.warning("ticket %s: %s", ticket.ticket_id, _strip_cause(ticket.title, self.diagnosis.verdict.reason))
        if self.acting and not self.converses:
            # This process recovers other errors too, so a run of its own waits for the answer.
            past = await past_recoveries(self.error.error_id, datetime.now(UTC))
            failed = [attempt for attempt in attempts_at(self.error, past) if attempt.success is False]
            await ask_in_own_run(ticket, self.error.text, failed[-1] if failed else None)
        self._outcome = self.waits_for_answer(ticket, reason)
        return RecoveryEvent.ESCALATE

    def waits_for_answer(self, ticket: Ticket, reason: str) -> RecoveryOutcome:
        """Return the outcome where a person must answer a ticket."""
        outcome = self._new_outcome(RecoveryMethod.MANUAL_REQUIRED, reason, steps=ticket.steps)
        return replace(outcome, ticket_id=ticket.ticket_id)

    def _end(
        self, method: RecoveryMethod, reason: str, *, success: bool = False, again_at: datetime | None = None
    ) -> RecoveryEvent:
        """End this run with an outcome while the error stays open."""
        self._outcome = replace(self._new_outcome(method, reason, success=success), again_at=again_at)
        return RecoveryEvent.POSTPONE

    def _recover_now(self, execution: RecoveryExecution) -> RecoveryOutcome:
        return self._new_outcome(
            RecoveryMethod.AUTOMATIC, execution.final_status, success=True, steps=attempt_details(execution)
        )

    def _new_outcome(
        self, method: RecoveryMethod, reason: str, *, success: bool = False, steps: tuple[str, ...] = ()
    ) -> RecoveryOutcome:
        return RecoveryOutcome(error_id=self.error.error_id, success=success, method=method, steps=steps, reason=reason)


def attempts_at(error: RecordedError, past: Sequence[RecoveryExecution]) -> list[RecoveryExecution]:
    """The attempts at an error that did something."""
    return [execution for execution in past if execution.error_id == error.error_id and execution.points]


def log_plan(error: RecordedError, plan: RecoveryPlan) -> None:
    """Log what is planned, without the cause that the error's own line has."""
    log.info("%s: %s (%s)", error.error_id, plan.action.label, _strip_cause(plan.reason, error.verdict.reason))


def _strip_cause(text: str, cause: str) -> str:
    """A text without the cause at its end, which was logged before."""
    return text.removesuffix(f": {cause}")
