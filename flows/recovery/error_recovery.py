"""Error recovery: match, classify, weigh, then act within bounds or ask a person; write all of it down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Failed
from pydantic import Field

from adapters.host.processes import is_alive, this_process
from core.errors.classify import classify
from core.errors.evidence import evidence_of
from core.errors.impact import analyse_impact
from core.errors.verdicts import as_failure, as_one_of_several
from core.monitoring.maintenance import maintenance_windows
from core.recovery.manual_steps import manual_steps
from core.recovery.policy import (
    AT_ONCE,
    SHORT_WAIT,
    PlanAction,
    RecoveryFacts,
    RecoveryPlan,
    leads_deeper,
    plan_as_decided,
    plan_recovery,
)
from flows.monitoring.judge_health import dependencies_of, judge_now
from flows.recovery.approve import Conversation, may_ask
from flows.recovery.execute import Case, carry_out, take_up
from flows.runtime.identifiers import new_error_id, new_ticket_id
from flows.runtime.parameters import ACT, COMPOSE_FILES, ENVIRONMENT, ComposeFiles, Count, EnvironmentName
from flows.runtime.requester import answered_through_the_server, requester
from models.compose import Application
from models.environments import Environment, RecoveryPolicy
from models.errors import Category, Evidence, RecordedError, Strategy, Verdict
from models.evidence import EvidenceBundle
from models.failures import ActionRefusedError, BadInputError, EnvironmentBusyError, GivenUpError, RoasError
from models.health import HealthReport, ServiceHealth
from models.metrics import Dependency
from models.operations import Runner
from models.recovery import Choice, RecoveryExecution, RecoveryMethod, RecoveryOutcome, Ticket, TicketEntry, TicketState
from tasks.deployment.services import read_application
from tasks.errors.evidence import failure_evidence, show_evidence
from tasks.errors.redact import redact
from tasks.monitoring.collect import stopped_on_request
from tasks.monitoring.events import is_watched
from tasks.recovery.approve import ASKING_FLOW, ask_on_the_server
from tasks.recovery.records import (
    begin_attempt,
    finish_attempt,
    keep_reason,
    let_ticket_wait,
    link_evidence,
    look_before_planning,
    open_ticket,
    read_error,
    read_patterns,
    read_ticket,
    read_what_is_known,
    record_answer,
    record_error,
    record_error_of_the_run,
    resolve_error,
    settle_well,
    stopped_by_person,
    with_surroundings,
)
from tasks.runtime.clients import load_environment, refuse_compose_files_of_deployments

log = logging.getLogger("roas")

_BUDGET_WINDOW = timedelta(days=1)
_DOWN = frozenset({ServiceHealth.UNHEALTHY, ServiceHealth.STOPPED})


def _run_name() -> str:
    reported = flow_run.get_parameters()
    about = (
        f"{reported['service']} of {reported['environment']}" if reported.get("service") else reported["environment"]
    )
    return f"ticket {reported['ticket']}: {about}" if reported.get("ticket") else f"recover {about}"


@flow(name=ASKING_FLOW, flow_run_name=_run_name)
async def error_recovery(
    environment: EnvironmentName = ENVIRONMENT,
    text: str = Field(description="The error, as it was printed. Kept on the server as it is: no secret in it."),
    service: str | None = Field(None, description="The service that said it; without it nothing is acted on."),
    act: bool = ACT,
    decided: Choice | None = Field(None, description="What you want done about it, whatever the budgets say."),
    decided_by: str = Field("", description="Who decided that."),
    ticket: str | None = Field(None, description="Ask about this ticket, and do nothing before there is an answer."),
    deployment_id: str | None = Field(None, description="The operation in which it happened."),
    source: str = Field("person", description="Who saw it: person, watch, collection, prediction or event."),
    predictive: bool = Field(False, description="On: it has not happened yet."),
    failing_services: Count = Field(
        1, description="How many services fail at once; several have one cause, so none is acted on."
    ),
    compose_files: ComposeFiles = COMPOSE_FILES,
) -> RecoveryOutcome:
    """Find what caused an error, and recover from it or open a ticket.

    As a run of a deployment it waits for a person, suspended, where it knows no further, and goes on from the
    answer. One that is given up ends as failed; Retry then repeats the step that failed and nothing before it.

    `act` False judges and records only: for a dry run, and for failures of an operation that a person is
    looking at. `failing_services` is how many fail at once; several mean one cause, so none is restarted.
    `decided` is what a person wants done about it, `decided_by` who that is. `ticket` is one that was opened
    already: the run asks about it, and does nothing before there is an answer.

    Raises:
        BadInputError: A run of a deployment names Compose files.
    """
    refuse_compose_files_of_deployments(compose_files or ())
    text = await redact(environment, text, tuple(compose_files or ()))
    declared, application, dependencies = await _surroundings(environment, tuple(compose_files or ()))
    if ticket is not None:
        known = await read_ticket(ticket)
        return await _unless_given_up(_answered(known, declared, application, dependencies))
    if source == "event" and declared and application and service:
        reason = await _not_needed(declared, application, service)
        if reason is not None:
            log.info("nothing is done for %s: %s", service, reason)
            return RecoveryOutcome(
                error_id="", success=True, method=RecoveryMethod.NONE_NEEDED, steps=(), reason=reason
            )
    return await _unless_given_up(
        recover(
            environment,
            text,
            declared,
            application,
            dependencies,
            deployment_id=deployment_id,
            service=service,
            source=source,
            act=act,
            predictive=predictive,
            failing_services=failing_services,
            compose_files=tuple(compose_files or ()),
            decided=(decided, requester(decided_by)[0]) if decided else None,
            converse=may_ask(),
        )
    )


async def _unless_given_up(recovering: Awaitable[RecoveryOutcome]) -> RecoveryOutcome:
    """The outcome; where a person gave up, the state that says so, which the run then ends in."""
    try:
        return await recovering
    except GivenUpError as given_up:
        # Raised out of the flow it would stand in the run's log with a traceback, as if something had broken.
        return Failed(message=str(given_up))  # type: ignore[return-value]


async def recover(
    environment: str,
    text: str,
    declared: Environment | None,
    application: Application | None,
    dependencies: Sequence[Dependency],
    *,
    deployment_id: str | None = None,
    service: str | None = None,
    source: str = "person",
    act: bool = True,
    predictive: bool = False,
    failing_services: int = 1,
    compose_files: tuple[str, ...] = (),
    decided: tuple[Choice, str] | None = None,
    converse: bool = False,
    found: tuple[Category, ...] = (),
    evidence: Sequence[EvidenceBundle] = (),
) -> RecoveryOutcome:
    """What `error_recovery` does once the surroundings are known, within the caller's own run.

    A run of its own takes seconds to begin where its server is busy; a watcher has read the surroundings
    already, and a service that is down need not wait for either. With `converse` the run is suspended where a
    person must decide: only for a run that does nothing else. `found` are the causes that led here: what an
    attempt runs into may be the true cause, which is then judged and handled instead. `evidence` is what was taken
    of it already and is not kept yet.
    """
    judged = await _judge(
        environment, text, declared, application, dependencies, deployment_id=deployment_id, service=service,
        source=source, predictive=predictive, of_the_run=converse, taken=evidence, failing_services=failing_services,
    )  # fmt: skip
    if judged.verdict.category is Category.BENIGN:
        await keep_reason(judged.error.error_id, f"it is no error: {judged.verdict.reason}")
        return judged.not_needed()
    handling = _Handling(
        declared=declared,
        application=application,
        dependencies=tuple(dependencies),
        judged=judged,
        service=judged.error.service,
        compose_files=compose_files,
        acting=act,
        failing_services=failing_services,
        found=(*found, judged.verdict.category),
        converses=converse,
    )
    outcome = (await handling.over() if converse else None) or await handling.handle(decided)
    if judged.to_show:
        # A page for whoever looks at the run; the service was down until now.
        await show_evidence(environment, judged.to_show)
    if handling.deeper is not None:
        error_id = judged.error.error_id
        log.info("what error %s came of was found in the attempt: %s", error_id, handling.deeper)
        outcome = await recover(
            environment, handling.deeper, declared, application, dependencies, deployment_id=deployment_id,
            service=service, source=source, act=act, compose_files=compose_files, found=handling.found,
            evidence=handling.shown,
        )  # fmt: skip
        if outcome.error_id != error_id:
            await resolve_error(error_id, datetime.now(UTC), f"its cause is error {outcome.error_id}")
        return outcome
    return await _conversed(handling, outcome) if converse else outcome


async def note_failure(
    environment: str,
    text: str,
    declared: Environment,
    application: Application | None,
    dependencies: Sequence[Dependency],
    *,
    service: str,
) -> RecordedError:
    """Put a failure on record with its cause and evidence, where nothing has to be done about it."""
    judged = await _judge(environment, text, declared, application, dependencies, service=service, source="watch")
    await keep_reason(judged.error.error_id, "the engine starts it again by itself")
    return judged.error


async def take_over(
    execution: RecoveryExecution,
    context_of_step: tuple[Environment, Application | None, Sequence[Dependency]],
) -> RecoveryOutcome:
    """Go on with an attempt whose runner is gone: what it has done is not done again."""
    declared, application, dependencies = context_of_step
    error = await read_error(execution.error_id)
    judged = _ClassifiedError(error=error, verdict=error.verdict, detected_at=execution.detected_at or error.first_seen)
    handling = _Handling(
        declared=declared,
        application=application,
        dependencies=tuple(dependencies),
        judged=judged,
        service=execution.service,
        compose_files=(),
        acting=True,
        failing_services=1,
        found=(error.verdict.category,),
        converses=False,
    )
    return await handling.handle(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ClassifiedError:
    """An error on record, and all that was found out about it."""

    error: RecordedError
    verdict: Verdict
    detected_at: datetime
    affected: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    script: str | None = None
    to_show: tuple[EvidenceBundle, ...] = ()

    def not_needed(self) -> RecoveryOutcome:
        """What recovery answers where it is no error."""
        return RecoveryOutcome(
            error_id=self.error.error_id,
            success=True,
            method=RecoveryMethod.NONE_NEEDED,
            steps=(),
            reason=self.verdict.reason,
        )


async def _judge(
    environment: str,
    text: str,
    declared: Environment | None,
    application: Application | None,
    dependencies: Sequence[Dependency],
    *,
    deployment_id: str | None = None,
    service: str | None = None,
    source: str,
    predictive: bool = False,
    of_the_run: bool = False,
    taken: Sequence[EvidenceBundle] = (),
    failing_services: int = 1,
) -> _ClassifiedError:
    """Keep the evidence, find the cause, put both on record, and weigh who is hit."""
    now = datetime.now(UTC)
    health: HealthReport | None = None
    needed = [need.depends_on for need in dependencies if need.service == service]
    # Where validation stopped it, an operation has touched nothing whose health could tell of it.
    operated = deployment_id if source != "validation" else None
    bundles, known, health = await asyncio.gather(
        _evidence(declared, application, service, deployment_id, text, taken),
        read_what_is_known(environment, now),
        # What hangs is not asked once more whether it hangs; the health of an operation is that of all its services.
        _health_now(declared, application, operated, asked=None if operated else needed)
        if declared and (needed or operated)
        else _unknown(),
    )
    down = _down(health, needed)
    if down and declared is not None:
        # One answer that did not come in time is no reason to restart what others need.
        down = _down(await _health_now(declared, application, asked=down), down)
    seen = evidence_of(bundles[0]) if service and bundles else None
    evidence = with_surroundings(seen, down, known.deployed_seconds_ago)
    verdict = classify(text, evidence=evidence, patterns=known.patterns)
    if source != "person":
        verdict = as_failure(verdict, text, evidence)
    if failing_services >= AT_ONCE:
        # One error for all of them, whoever is told of first; what each shows is evidence of it.
        verdict, service = as_one_of_several(verdict, failing_services), None
    impact = analyse_impact(verdict, service, dependencies)
    record = record_error_of_the_run if of_the_run else record_error
    error = await record(
        RecordedError(
            error_id=new_error_id(now),
            environment=environment,
            text=text,
            source=source,
            verdict=verdict,
            first_seen=now,
            last_seen=now,
            deployment_id=deployment_id,
            service=service,
            predictive=predictive,
            evidence=asdict(evidence) if evidence else {},
        ),
        impact=impact if verdict.category is not Category.BENIGN else None,
        bundles=[bundle.bundle_id for bundle in bundles],
        taken=taken,
        health=health if operated else None,
    )
    log.info("error %s: %s, because %s", error.error_id, verdict.category, verdict.reason)
    verdict = error.verdict if of_the_run else verdict
    return _ClassifiedError(
        error=error,
        verdict=verdict,
        detected_at=now,
        affected=impact.affected_services,
        evidence=tuple(bundle.bundle_id for bundle in bundles),
        script=known.patterns.script_of(verdict.pattern_name),
        to_show=tuple(taken),
    )


async def _evidence(
    declared: Environment | None,
    application: Application | None,
    service: str | None,
    deployment_id: str | None,
    reason: str,
    taken: Sequence[EvidenceBundle],
) -> Sequence[EvidenceBundle]:
    if declared is None or taken:
        return taken
    return await failure_evidence(declared, application, service, deployment_id=deployment_id, reason=reason)


async def _unknown() -> None:
    return None


async def _answered(
    ticket: Ticket, declared: Environment | None, application: Application | None, dependencies: Sequence[Dependency]
) -> RecoveryOutcome:
    """Ask about a ticket that somebody else opened, and do what is decided."""
    # A run that gave up, retried with the button of its page, is to try again.
    is_over = ticket.state is TicketState.RESOLVED or flow_run.get_run_count() == 1
    if ticket.state is not TicketState.OPEN and is_over:
        said = ticket.history[-1].what if ticket.history else ""
        return RecoveryOutcome(
            error_id=ticket.error_id,
            success=True,
            method=RecoveryMethod.NONE_NEEDED,
            steps=(),
            ticket_id=ticket.ticket_id,
            reason=f"ticket {ticket.ticket_id} is {ticket.state} meanwhile: {said}",
        )
    error = await read_error(ticket.error_id)
    patterns = await read_patterns()
    handling = _Handling(
        declared=declared,
        application=application,
        dependencies=tuple(dependencies),
        judged=_ClassifiedError(
            error=error,
            verdict=error.verdict,
            detected_at=error.first_seen,
            affected=ticket.affected_services,
            evidence=ticket.evidence,
            script=patterns.script_of(error.verdict.pattern_name),
        ),
        service=ticket.service,
        compose_files=(),
        acting=True,
        failing_services=1,
        found=(error.verdict.category,),
        converses=True,
    )
    asked = RecoveryOutcome(
        error_id=error.error_id,
        success=False,
        method=RecoveryMethod.MANUAL_REQUIRED,
        steps=ticket.steps,
        ticket_id=ticket.ticket_id,
        reason=ticket.title,
    )
    return await _conversed(handling, await handling.gone_on() or asked)


async def _conversed(handling: _Handling, outcome: RecoveryOutcome) -> RecoveryOutcome:
    """Ask a person as often as it takes, and do what is decided.

    Raises:
        GivenUpError: That is what was decided.
    """
    conversation = Conversation(handling.runner.flow_run_id)
    while outcome.method is RecoveryMethod.MANUAL_REQUIRED and outcome.ticket_id is not None:
        ticket = await read_ticket(outcome.ticket_id)
        answer = await conversation.answer(handling.last_attempt or outcome.error_id, ticket)
        if answer is None:
            # The run was retried with the button of its page: what failed is done again, and nothing before it.
            outcome = await handling.repeat()
            continue
        by, actor = answered_through_the_server(answer.by)
        entry = TicketEntry(at=datetime.now(UTC), by=by, what=f"{answer.choice}: {answer.note}", actor=actor)
        await record_answer(ticket, answer.choice, entry)
        await conversation.follow()
        log.info("%s decided about ticket %s: %s", by, ticket.ticket_id, entry.what)
        if answer.choice is Choice.GIVE_UP:
            raise GivenUpError(ticket.ticket_id, by, answer.note)
        if not answer.choice.acts:
            return replace(outcome, success=answer.choice is Choice.RESOLVED, reason=f"{by} decided: {entry.what}")
        outcome = await handling.handle((answer.choice, by))
    return outcome


@dataclass(slots=True, kw_only=True)
class _Handling:
    """One error on its way: what is known of it, and what is done about it."""

    declared: Environment | None
    application: Application | None
    dependencies: tuple[Dependency, ...]
    judged: _ClassifiedError
    service: str | None
    compose_files: tuple[str, ...]
    acting: bool
    failing_services: int
    found: tuple[Category, ...]
    converses: bool
    runner: Runner = field(default_factory=lambda: this_process(str(flow_run.get_id() or "")))
    last_attempt: str | None = None
    deeper: str | None = None
    """What the last attempt ran into, where that is the true cause; `shown` is what it looked like."""

    shown: Sequence[EvidenceBundle] = ()
    asked: tuple[str, Ticket] | None = None
    """The reason and the ticket that went in with the end of the last attempt."""

    @property
    def error(self) -> RecordedError:
        """The error as it is on record."""
        return self.judged.error

    async def over(self) -> RecoveryOutcome | None:
        """How it ended already, where the run began again from the top and its error is resolved; else None."""
        resolved_at = (await read_error(self.error.error_id)).resolved_at
        if resolved_at is None:
            return None
        past, _ = await self._planning_context()
        mended = next((one for one in past[::-1] if self._has_run(one) and one.success), None)
        if mended is not None:
            return self._outcome(RecoveryMethod.AUTOMATIC, mended.final_status, success=True, steps=_details(mended))
        reason = (
            f"error {self.error.error_id} was resolved at {resolved_at:%Y-%m-%d %H:%M:%S} UTC; nothing is left to do"
        )
        log.info("%s", reason)
        return self._outcome(RecoveryMethod.NONE_NEEDED, reason, success=True)

    async def handle(self, decided: tuple[Choice, str] | None) -> RecoveryOutcome:
        """Take up what was cut off, else plan and do it; what cannot be done is put to a person."""
        past, facts = await self._planning_context()
        if (outcome := await self._gone_on(past, facts, again=decided is not None)) is not None:
            return outcome
        if decided is not None:
            choice, by = decided
            plan = plan_as_decided(self.error, roll_back=choice is Choice.ROLL_BACK, past=past, decided_by=by)
            log.info("plan for %s: %s, because %s", self.error.error_id, plan.action, plan.reason)
            return await self._done(lambda case: carry_out(case, plan), plan.strategy, facts)
        while (outcome := await self._next_attempt(past, facts)) is None:
            past, facts = await self._planning_context()
        return outcome

    async def _next_attempt(self, past: Sequence[RecoveryExecution], facts: RecoveryFacts) -> RecoveryOutcome | None:
        """Plan and act once; None where that failed, and what comes next is to be planned from that."""
        now = datetime.now(UTC)
        plan = self._planned(past, facts, now)
        log.info("plan for %s: %s, because %s", self.error.error_id, plan.action, plan.reason)
        mine = self._mine(past)
        if plan.action is PlanAction.LEAVE_ALONE:
            await keep_reason(self.error.error_id, plan.reason)
            return self._outcome(RecoveryMethod.NONE_NEEDED, plan.reason, success=True)
        if plan.action is PlanAction.ASK_A_PERSON:
            return await self._ask(*_question(plan, mine))
        if plan.action is PlanAction.PROPOSE:
            await self._propose(plan, past)
            return self._outcome(RecoveryMethod.PROPOSED, f"dry run: {plan.reason}")
        if plan.later:
            await keep_reason(self.error.error_id, f"put off: {plan.reason}")
            put_off = self._outcome(RecoveryMethod.DEFERRED, f"{plan.reason}; the next look takes it up")
            return replace(put_off, again_at=now + plan.delay)
        if plan.delay:
            await asyncio.sleep(plan.delay.total_seconds())
            # Much may have happened in that time, so all of it is looked at once more.
            return None
        if mine and self.declared is not None and self.service is not None:
            if not _down(await _health_now(self.declared, self.application, asked=[self.service]), [self.service]):
                plan = replace(plan, strategy=Strategy.WAIT_AND_RETRY, reason=f"{self.service} is well by itself")
            # It is about to be replaced again, and what it shows now is of its last life.
            await self._keep_what_it_shows(self.declared, mine[-1].final_status)
        return await self._tried(lambda case: carry_out(case, plan), plan.strategy, facts)

    async def _keep_what_it_shows(self, environment: Environment, reason: str) -> None:
        bundles = await failure_evidence(environment, self.application, self.service, deployment_id=None, reason=reason)
        await link_evidence([bundle.bundle_id for bundle in bundles], self.error.error_id)

    def _planned(self, past: Sequence[RecoveryExecution], facts: RecoveryFacts, now: datetime) -> RecoveryPlan:
        policy = self.declared.recovery if self.declared else RecoveryPolicy()
        return plan_recovery(self.error, past=past, policy=policy, facts=facts, now=now)

    def _mine(self, past: Sequence[RecoveryExecution]) -> list[RecoveryExecution]:
        return [one for one in past if one.error_id == self.error.error_id and one.points]

    async def gone_on(self) -> RecoveryOutcome | None:
        """Take up an attempt that was cut off, or tell how this very run's last one ended; None where there is none."""
        return await self._gone_on(*await self._planning_context(), again=False)

    async def _gone_on(
        self, past: Sequence[RecoveryExecution], facts: RecoveryFacts, *, again: bool
    ) -> RecoveryOutcome | None:
        mine = self._mine(past)
        cut_off = next((one for one in mine if one.ended_at is None and one.attempt_id), None)
        if cut_off is not None and facts.acting:
            if cut_off.runner is not None and cut_off.runner != self.runner and is_alive(cut_off.runner):
                return self._outcome(RecoveryMethod.DEFERRED, f"{cut_off.runner} is at it already.")
            log.warning("recovery %s was cut off and is taken up again", cut_off.attempt_id)
            return await self._done(lambda case: take_up(case, cut_off), cut_off.strategy, facts)
        last = mine[-1] if mine else None
        if again or not self.converses or last is None or not self._has_run(last):
            return None
        # This very run has tried already, and begins again from the top.
        self.last_attempt = last.attempt_id
        if last.success:
            return self._outcome(RecoveryMethod.AUTOMATIC, last.final_status, success=True, steps=_details(last))
        return await self._ask(last.final_status, _details(last))

    async def repeat(self) -> RecoveryOutcome:
        """Do the failed step of this run's last attempt again, and what comes after it; else plan anew."""
        past, facts = await self._planning_context()
        last = next((one for one in past[::-1] if self._has_run(one)), None)
        if last is None or last.undone or not facts.acting:
            # What was taken back cannot be gone on with.
            self.last_attempt = None
            return await self.handle((Choice.RETRY, "a retry of the run"))
        return await self._done(lambda case: take_up(case, last), last.strategy, facts)

    def _has_run(self, execution: RecoveryExecution) -> bool:
        known = execution.runner.flow_run_id if execution.runner else ""
        return bool(known) and known == self.runner.flow_run_id and execution.error_id == self.error.error_id

    async def _planning_context(self) -> tuple[Sequence[RecoveryExecution], RecoveryFacts]:
        """What was tried, and the facts that bear on what is to be done now."""
        environment, service, now = self.declared, self.service, datetime.now(UTC)
        found = await look_before_planning(self.error, environment, service, since=now - _BUDGET_WINDOW, now=now)
        facts = RecoveryFacts(
            service=service, failing_services=self.failing_services, acting=self.acting, paused=found.paused
        )
        if environment is None or service is None:
            return found.past, facts
        windows = maintenance_windows(environment.maintenance, now)
        return found.past, replace(
            facts,
            outside_logins=environment.service(service).outside_logins,
            stopped_by_person=found.stopped_by_person,
            maintenance=any(window.covers(service, now) for window in windows),
            engine=environment.engine,
            deployed_ago=found.deployed_ago if self.acting else None,
            kept_down=found.kept_down,
        )

    async def _done(
        self, doing: Callable[[Case], Awaitable[RecoveryExecution]], strategy: Strategy, facts: RecoveryFacts
    ) -> RecoveryOutcome:
        """Act, and tell how it went; what failed or cannot be done now is deferred or put to a person."""
        execution = await self._acted(doing, strategy, facts, self._asks_at_once)
        return execution if isinstance(execution, RecoveryOutcome) else await self._mended(execution)

    async def _tried(
        self, doing: Callable[[Case], Awaitable[RecoveryExecution]], strategy: Strategy, facts: RecoveryFacts
    ) -> RecoveryOutcome | None:
        """The same as one of several attempts: None where it failed, and the next is to be planned."""
        execution = await self._acted(doing, strategy, facts, self._asks_next)
        if isinstance(execution, RecoveryOutcome):
            return execution
        if execution.success:
            return await self._mended(execution)
        if self.deeper is None:
            return None
        return self._outcome(RecoveryMethod.DEFERRED, f"{self.deeper}: that is the cause")

    async def _ran_into_cause(self, execution: RecoveryExecution) -> bool:
        """Whether what an attempt ran into, or what was written since it acted, names the true cause."""
        if self.converses:
            return False
        said = execution.final_status
        shown = await self._shown_since(execution)
        found = classify(said, evidence=shown[1], patterns=await read_patterns())
        if not leads_deeper(self.judged.verdict, found, self.found):
            return False
        self.deeper, self.shown = said, shown[0]
        return True

    async def _shown_since(self, execution: RecoveryExecution) -> tuple[Sequence[EvidenceBundle], Evidence | None]:
        if self.declared is None or execution.acted_at is None:
            return (), None
        bundles = await failure_evidence(
            self.declared, self.application, self.service, deployment_id=None, reason=execution.final_status, keep=False
        )
        return bundles, evidence_of(bundles[0], since=execution.started_at) if bundles else None

    async def _acted(
        self,
        doing: Callable[[Case], Awaitable[RecoveryExecution]],
        strategy: Strategy,
        facts: RecoveryFacts,
        asks: Callable[[RecoveryExecution], Awaitable[_Question | None]],
    ) -> RecoveryExecution | RecoveryOutcome:
        """Act; what cannot be done, or what failed so that `asks` has a question, is put to a person."""
        if self.declared is None or self.service is None:
            return await self._ask(
                f"{strategy} has nothing to act on: the environment or the service is not known.", ()
            )
        case = Case(
            environment=self.declared,
            application=self.application,
            dependencies=self.dependencies,
            error=self.error,
            service=self.service,
            runner=self.runner,
            facts=facts,
            script=self.judged.script,
            detected_at=self.judged.detected_at,
            finish=lambda execution: self._finish(execution, asks),
            compose_files=self.compose_files,
        )
        try:
            execution = await doing(case)
        except ActionRefusedError as refused:
            return await self._ask(f"{strategy} may not be done: {refused.what}", (), first=refused.advice)
        except EnvironmentBusyError as busy:
            await keep_reason(self.error.error_id, f"put off: {busy.what}")
            put_off = self._outcome(RecoveryMethod.DEFERRED, f"{busy.what} the next look takes it up")
            return replace(put_off, again_at=datetime.now(UTC) + SHORT_WAIT)
        self.last_attempt = execution.attempt_id
        return execution if self.asked is None else await self._put(*self.asked)

    async def _finish(
        self, execution: RecoveryExecution, asks: Callable[[RecoveryExecution], Awaitable[_Question | None]]
    ) -> None:
        """Write down how an attempt ended, and with it the ticket, so that no failure is left without anybody asked."""
        question = None if execution.success else await asks(execution)
        ticket = await finish_attempt(
            execution,
            was=self.error.evidence.get("container_state"),
            ticket=None if question is None else self._ticket(*question),
        )
        self.asked = None if question is None or ticket is None else (question[0], ticket)

    async def _asks_at_once(self, execution: RecoveryExecution) -> _Question:
        return execution.final_status, _details(execution)

    async def _asks_next(self, execution: RecoveryExecution) -> _Question | None:
        """What a person is asked after a failed attempt; None where something else comes next, or is not known yet."""
        try:
            if await self._ran_into_cause(execution):
                return None
            past, facts = await self._planning_context()
        except (RoasError, TimeoutError) as trouble:
            log.info("what comes after %s is not known yet: %s", execution.attempt_id, trouble)
            return None
        known = [execution if one.attempt_id == execution.attempt_id else one for one in past]
        plan = self._planned(known, facts, datetime.now(UTC))
        if plan.action is not PlanAction.ASK_A_PERSON:
            return None
        log.info("plan for %s: %s, because %s", self.error.error_id, plan.action, plan.reason)
        return _question(plan, self._mine(known))

    async def _mended(self, execution: RecoveryExecution) -> RecoveryOutcome:
        """Close all that was said and asked about it."""
        now = datetime.now(UTC)
        # Whatever else was said of it being down is over as well.
        healed = [execution.service] if execution.service else []
        await settle_well(self.error.environment, healed, now, f"mended by recovery {execution.attempt_id}")
        return self._outcome(RecoveryMethod.AUTOMATIC, execution.final_status, success=True, steps=_details(execution))

    async def _propose(self, plan: RecoveryPlan, past: Sequence[RecoveryExecution]) -> None:
        """Write down what would be done, once for an error and a strategy."""
        said = f"dry run: {plan.reason}"
        mine = [one for one in past if one.error_id == self.error.error_id]
        if any(one.strategy is plan.strategy and not one.points for one in mine):
            return
        now = datetime.now(UTC)
        await begin_attempt(
            RecoveryExecution(
                error_id=self.error.error_id,
                strategy=plan.strategy,
                started_at=now,
                ended_at=now,
                final_status=said,
                attempt_id=f"{self.error.error_id}#proposed-{plan.strategy}",
                points=0,
                detected_at=self.judged.detected_at,
                diagnosed_at=now,
            )
        )

    def _outcome(
        self, method: RecoveryMethod, reason: str, *, success: bool = False, steps: tuple[str, ...] = ()
    ) -> RecoveryOutcome:
        return RecoveryOutcome(error_id=self.error.error_id, success=success, method=method, steps=steps, reason=reason)

    async def _ask(self, reason: str, tried: tuple[str, ...], *, first: str = "") -> RecoveryOutcome:
        return await self._put(reason, await open_ticket(self._ticket(reason, tried, first=first)))

    def _ticket(self, reason: str, tried: tuple[str, ...], *, first: str = "") -> Ticket:
        now = datetime.now(UTC)
        steps = manual_steps(
            self.judged.verdict,
            service=self.service,
            project=self.declared.project if self.declared else self.error.environment,
            environment=self.error.environment,
        )
        return Ticket(
            ticket_id=new_ticket_id(now),
            error_id=self.error.error_id,
            environment=self.error.environment,
            title=f"{self.judged.verdict.category} of {self.service or self.error.environment}: {reason}",
            opened_at=now,
            service=self.service,
            steps=(*filter(None, [first]), *steps),
            tried=tried,
            affected_services=self.judged.affected,
            evidence=self.judged.evidence,
            since=self.error.first_seen,
        )

    async def _put(self, reason: str, ticket: Ticket) -> RecoveryOutcome:
        """Put a ticket to a person."""
        log.warning("ticket %s: %s", ticket.ticket_id, ticket.title)
        if self.acting and not self.converses and ticket.state is TicketState.OPEN:
            # This process does more than this one error, so a run of its own waits for the answer.
            run = await ask_on_the_server(ticket, self.error.text)
            if run is not None and run != ticket.flow_run_id:
                await let_ticket_wait(ticket.ticket_id, run)
        return replace(
            self._outcome(RecoveryMethod.MANUAL_REQUIRED, reason, steps=ticket.steps), ticket_id=ticket.ticket_id
        )


_Question = tuple[str, tuple[str, ...]]
"""Why a person is asked, and what was tried before."""


def _question(plan: RecoveryPlan, mine: Sequence[RecoveryExecution]) -> _Question:
    last = f" The last ended so: {mine[-1].final_status}" if mine else ""
    return plan.reason + last, tuple(step for one in mine for step in _details(one))


def _details(execution: RecoveryExecution) -> tuple[str, ...]:
    return tuple(step.detail for step in execution.steps if step.detail)


async def _surroundings(
    environment: str, compose_files: tuple[str, ...]
) -> tuple[Environment | None, Application | None, list[Dependency]]:
    """The environment, its application and who needs whom in it; None and nothing where exactly that failed."""
    try:
        declared = await load_environment(environment, compose_files)
    except BadInputError:
        return None, None, []
    try:
        application = await read_application(declared)
    except RoasError as error:
        log.info("dependencies of %s are not known: %s", environment, error)
        return declared, None, []
    return declared, application, dependencies_of(declared, application)


async def _not_needed(environment: Environment, application: Application, service: str) -> str | None:
    """Why what an event told seconds ago calls for nothing now; None where it still does."""
    if await is_watched(environment.name, datetime.now(UTC)):
        return f"the watch of {environment.name} looks after it"
    if await stopped_on_request(environment.name) or await stopped_by_person(environment, service):
        return "it was stopped on request"
    health = await _health_now(environment, application, asked=[service])
    verdict = next((one for one in health.services if one.service == service), None) if health else None
    return f"it is {verdict.health} now" if verdict is not None and verdict.health not in _DOWN else None


def _down(health: HealthReport | None, needed: Sequence[str]) -> tuple[str, ...]:
    """What of the services that are needed is down, nearest first."""
    ill = set() if health is None else {verdict.service for verdict in health.services if verdict.health in _DOWN}
    return tuple(name for name in needed if name in ill)


async def _health_now(
    environment: Environment,
    application: Application | None,
    deployment_id: str | None = None,
    *,
    asked: Collection[str] | None = None,
) -> HealthReport | None:
    try:
        return await judge_now(
            environment,
            application or await read_application(environment),
            deployment_id=deployment_id,
            asked=asked,
        )
    except RoasError as error:
        log.info("health of %s is not known: %s", environment.name, error)
        return None
