"""Recovery of one diagnosed error: a state machine that plans, acts, verifies and records, or escalates."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from adapters.host.processes import is_alive
from core.recovery.policy import (
    SHORT_WAIT,
    PlanAction,
    RecoveryPlan,
    plan_as_decided,
)
from core.recovery.states import RecoveryEvent, RecoveryState, next_state
from flows.recovery.approve import Question, attempt_details, question_of
from flows.recovery.diagnose import Diagnosis, IncidentContext, health_now, services_down, take_evidence
from flows.recovery.execute import Case, execute
from flows.recovery.recovery_run import RecoveryRun, attempts_at, log_plan
from models.errors import RecordedError, Strategy
from models.failures import ActionRefusedError, EnvironmentBusyError
from models.recovery import NOT_ALLOWED, Choice, RecoveryExecution, RecoveryMethod, RecoveryOutcome
from tasks.recovery.records import (
    keep_reason,
    link_evidence,
    read_error,
    settle_well,
    write_attempt,
)
from tasks.runtime.hosts import this_host

log = logging.getLogger("roas")

Decided = tuple[Choice, str]
"""What a person decided, and who that is."""


@dataclass(slots=True, kw_only=True)
class RecoveryProcess(RecoveryRun):
    """The states of a recovery, and what leads from one to the next."""

    _gathered: Sequence[RecoveryExecution] | None = None
    _plan: RecoveryPlan = field(init=False)
    _past: Sequence[RecoveryExecution] = ()
    _attempt: RecoveryPlan | RecoveryExecution = field(init=False)
    _execution: RecoveryExecution = field(init=False)

    async def run(self, decided: Decided | None = None) -> RecoveryOutcome:
        """Continue an interrupted attempt, or plan and act; escalate what cannot be recovered."""
        self._by_person = decided is not None
        past = await self._gather()
        event = await self._resume(past, again=self._by_person)
        if event is None and decided is not None:
            last = next(reversed(attempts_at(self.error, past)), None)
            event = self._decide(decided, past, last)
        self._gathered = past if event is None else None
        return await self._drive(RecoveryState.OPEN, event)

    async def resume(self) -> RecoveryOutcome | None:
        """Continue an interrupted attempt that a person decided about, or return how this run's last one ended.

        None without either.
        """
        self._by_person = True
        event = await self._resume(await self._gather(), again=False)
        return None if event is None else await self._drive(RecoveryState.OPEN, event)

    async def repeat(self, attempt_id: str | None = None) -> RecoveryOutcome:
        """Repeat the failed step of an attempt, by default this run's last, and the steps after it.

        An attempt that was rolled back is made again from the start. Before each step of an attempt that is given, the
        wishes of persons count: it is asked for by a button that a person pressed, perhaps days later.
        """
        self._by_person, self._retried = attempt_id is None, attempt_id is not None
        past = await self._gather()
        own_attempts = [
            tried for tried in past if self._is_of_this_run(tried) or (attempt_id and tried.attempt_id == attempt_id)
        ]
        event = self._decide((Choice.RETRY, "a retry of the run"), past, own_attempts[-1] if own_attempts else None)
        if event is RecoveryEvent.DECIDE:
            self.last_attempt = None
        return await self._drive(RecoveryState.OPEN, event)

    async def already_resolved(self) -> RecoveryOutcome | None:
        """Return how the recovery ended where the run began again after its error was resolved; else None."""
        resolved_at = (await read_error(self.error.error_id)).resolved_at
        if resolved_at is None:
            return None
        past = await self._gather()
        recovered = next(
            (execution for execution in past[::-1] if self._is_of_this_run(execution) and execution.success), None
        )
        if recovered is not None:
            return self._recover_now(recovered)
        reason = (
            f"error {self.error.error_id} was resolved at {resolved_at:%Y-%m-%d %H:%M:%S} UTC; nothing is left to do"
        )
        log.info("%s", reason)
        return self._new_outcome(RecoveryMethod.NONE_NEEDED, reason, success=True)

    async def _drive(self, state: RecoveryState, event: RecoveryEvent | None) -> RecoveryOutcome:
        """Move from state to state until this run has an outcome."""
        steps: dict[RecoveryState, Callable[[], Awaitable[RecoveryEvent]]] = {
            RecoveryState.OPEN: self._make_plan,
            RecoveryState.PLANNED: self._follow_plan,
            RecoveryState.ACTING: self._act,
            RecoveryState.VERIFYING: self._conclude,
        }
        if event is not None:
            state = next_state(state, event)
        while self._outcome is None:
            state = next_state(state, await steps[state]())
        outcome, self._outcome = self._outcome, None
        return outcome

    async def _make_plan(self) -> RecoveryEvent:
        self._past = await self._gather() if self._gathered is None else self._gathered
        self._gathered = None
        self._plan = self._plan_recovery(self._past)
        log_plan(self.error, self._plan)
        return RecoveryEvent.PLAN

    async def _follow_plan(self) -> RecoveryEvent:
        """Do nothing, escalate, wait, or start an attempt, as planned."""
        plan, attempts = self._plan, attempts_at(self.error, self._past)
        if plan.action is PlanAction.LEAVE_ALONE:
            await keep_reason(self.error.error_id, plan.reason)
            return self._end(RecoveryMethod.NONE_NEEDED, plan.reason, success=True)
        if plan.action is PlanAction.ASK_A_PERSON and not self.asking:
            return self._end(RecoveryMethod.PROPOSED, f"dry run: a ticket would be opened: {plan.reason}")
        if plan.action is PlanAction.ASK_A_PERSON:
            question = question_of(plan, attempts)
            refused = (self._refused.advice,) if self._refused and self._refused.advice else ()
            return await self._ask(replace(question, first_steps=(*question.first_steps, *refused)))
        if plan.action is PlanAction.PROPOSE:
            await _record_proposal(self.diagnosis, plan, self._past)
            return self._end(RecoveryMethod.PROPOSED, f"dry run: {plan.reason}")
        if plan.later:
            await keep_reason(self.error.error_id, f"put off: {plan.reason}")
            again_at = datetime.now(UTC) + plan.delay
            return self._end(RecoveryMethod.DEFERRED, f"{plan.reason}; the next check continues", again_at=again_at)
        if plan.delay:
            await asyncio.sleep(plan.delay.total_seconds())
            # Much may have changed in that time, so everything is read again.
            return RecoveryEvent.REPLAN
        if attempts and self.service is not None:
            plan = await _plan_another_attempt(plan, self.error, self.context, self.service, attempts[-1])
        return self._take(plan, RecoveryEvent.START, escalates=False)

    async def _act(self) -> RecoveryEvent:
        """Execute the attempt; escalate what is refused, postpone while another process holds the environment."""
        attempt, project = self._attempt, self.context.project
        if project is None or self.service is None:
            reason = f"{attempt.strategy} has nothing to act on: the environment or the service is not known."
            return await self._ask(Question(reason))
        project.refresh()
        case = Case(
            project=project,
            context=self.context,
            error=self.error,
            service=self.service,
            runner=self.runner,
            facts=self._facts,
            script=self.diagnosis.script,
            detected_at=self.diagnosis.detected_at,
            objection=self._objection,
            finish=self._record_end,
        )
        try:
            self._execution = await execute(case, attempt)
        except ActionRefusedError as refused:
            lacking = f"Automatic repair ({attempt.strategy}) {NOT_ALLOWED}: {refused.what}"
            if self._escalates or self._refused is not None:
                return await self._ask(Question(lacking, first_steps=(refused.advice,) if refused.advice else ()))
            await keep_reason(self.error.error_id, lacking)
            self._refused = ActionRefusedError(lacking, advice=refused.advice)
            return RecoveryEvent.REPLAN
        except EnvironmentBusyError as busy:
            await keep_reason(self.error.error_id, f"put off: {busy.what}")
            again_at = datetime.now(UTC) + SHORT_WAIT
            return self._end(RecoveryMethod.DEFERRED, f"{busy.what} the next check continues", again_at=again_at)
        self.last_attempt = self._execution.attempt_id
        return RecoveryEvent.FINISH

    async def _conclude(self) -> RecoveryEvent:
        """Close what was recorded of a verified recovery; after a failure escalate, or plan the next attempt."""
        execution = self._execution
        if self._asked is not None:
            return await self._wait_for_answer(*self._asked)
        if execution.success:
            healed = [execution.service] if execution.service else []
            why = f"mended by recovery {execution.attempt_id}"
            # Other errors about the same service being down are over as well.
            await settle_well(self.error.environment, healed, datetime.now(UTC), why)
            self._outcome = self._recover_now(execution)
            return RecoveryEvent.RESOLVE
        if self._retried:
            return self._end(RecoveryMethod.DEFERRED, execution.final_status)
        if self.root_cause is not None:
            return self._end(RecoveryMethod.DEFERRED, f"{self.root_cause}: that is the cause")
        return RecoveryEvent.FAIL

    async def _resume(self, past: Sequence[RecoveryExecution], *, again: bool) -> RecoveryEvent | None:
        attempts = attempts_at(self.error, past)
        # What another host began was done to its containers.
        begun = [
            attempt for attempt in attempts if attempt.ended_at is None and attempt.host_id in ("", this_host().host_id)
        ]
        cut_off = next((attempt for attempt in begun if attempt.attempt_id), None)
        if cut_off is not None and self.acting:
            return self._continue(cut_off)
        last = attempts[-1] if attempts else None
        if again or not self.converses or last is None or not self._is_of_this_run(last):
            return None
        # This run made the attempt, and begins again from the top.
        self.last_attempt = last.attempt_id
        if last.success:
            self._outcome = self._recover_now(last)
            return RecoveryEvent.RESOLVE
        return await self._ask(Question(last.final_status, attempt_details(last)))

    def _decide(
        self, decided: Decided, past: Sequence[RecoveryExecution], last: RecoveryExecution | None
    ) -> RecoveryEvent:
        """Do what was decided; a retry continues the last attempt where it failed, unless that was rolled back."""
        choice, by = decided
        is_open = last is not None and not last.success and (last.ended_at is None or not last.undone)
        if choice is Choice.RETRY and last is not None and is_open and self.acting:
            return self._continue(last)
        plan = plan_as_decided(self.error, roll_back=choice is Choice.ROLL_BACK, past=past, decided_by=by)
        log_plan(self.error, plan)
        return self._take(plan, RecoveryEvent.DECIDE, escalates=True)

    def _continue(self, attempt: RecoveryExecution) -> RecoveryEvent:
        """Continue an attempt that failed or was cut off, unless another process is at it."""
        if attempt.ended_at is None:
            if attempt.runner is not None and attempt.runner != self.runner and is_alive(attempt.runner):
                return self._end(RecoveryMethod.DEFERRED, f"{attempt.runner} recovers it already.")
            log.warning("recovery %s was cut off and is resumed", attempt.attempt_id)
        return self._take(attempt, RecoveryEvent.RESUME, escalates=True)

    def _take(
        self, attempt: RecoveryPlan | RecoveryExecution, event: RecoveryEvent, *, escalates: bool
    ) -> RecoveryEvent:
        self._attempt, self._escalates = attempt, escalates
        return event


async def _plan_another_attempt(
    plan: RecoveryPlan, error: RecordedError, context: IncidentContext, service: str, last: RecoveryExecution
) -> RecoveryPlan:
    """Keep evidence of the last attempt; a service that is healthy meanwhile is only verified."""
    if context.project is None:
        return plan
    if not services_down(await health_now(context, probed_services=[service]), [service]):
        plan = replace(
            plan, strategy=Strategy.WAIT_AND_RETRY, reason=f"{service} is healthy again by itself", decided=True
        )
    # The next attempt replaces what the container shows of the last one.
    bundles = await take_evidence(context, service, last.final_status)
    await link_evidence([bundle.bundle_id for bundle in bundles], error.error_id)
    return plan


async def _record_proposal(diagnosis: Diagnosis, plan: RecoveryPlan, past: Sequence[RecoveryExecution]) -> None:
    """Record what a dry run would do, once for an error and a strategy."""
    error_id, now = diagnosis.error.error_id, datetime.now(UTC)
    if any(
        execution.error_id == error_id and execution.strategy is plan.strategy and not execution.points
        for execution in past
    ):
        return
    await write_attempt(
        RecoveryExecution(
            error_id=error_id,
            strategy=plan.strategy,
            started_at=now,
            ended_at=now,
            final_status=f"dry run: {plan.reason}",
            attempt_id=f"{error_id}#proposed-{plan.strategy}",
            points=0,
            detected_at=diagnosis.detected_at,
            diagnosed_at=now,
        )
    )
