"""A known good pattern, error and ticket, which tests change in one thing."""

from dataclasses import replace
from datetime import UTC, datetime

from adapters.stores import Stores
from models.audit import Actor
from models.containers import ContainerEvent
from models.errors import Category, Pattern, RecordedError, Severity, Strategy, Verdict
from models.evidence import ContainerEvidence, EvidenceBundle, EvidenceOccasion, LogExcerpt, ProbeOutput
from models.operations import Operation, OperationStatus, OperationType
from models.operations.record import OperationRecord
from models.recovery import Choice, Ticket, TicketEntry

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)

PATTERN = Pattern(
    name="port_in_use",
    regex="address already in use",
    category=Category.PORT_CONFLICT,
    severity=Severity.HIGH,
    strategy=Strategy.FREE_PORT,
)
ERROR = RecordedError(
    error_id="e1",
    environment="prod",
    text="bind: address already in use",
    source="start",
    verdict=Verdict(
        category=Category.PORT_CONFLICT,
        severity=Severity.HIGH,
        strategy=Strategy.FREE_PORT,
        confidence=0.9,
        reason="the port is taken",
        pattern_name="port_in_use",
        span=(6, 28),
    ),
    first_seen=NOON,
    last_seen=NOON,
    deployment_id="prod-1",
    service="web",
    evidence={"exit_code": 1},
)
TICKET = Ticket(
    ticket_id="t1",
    error_id="e1",
    environment="prod",
    title="Free port 80",
    opened_at=NOON,
    service="web",
    steps=("find who holds it",),
    tried=("restart",),
    affected_services=("web",),
    history=(TicketEntry(at=NOON, by="roas", what="opened"),),
)
BUNDLE = EvidenceBundle(
    bundle_id="ev1",
    environment="prod",
    service="web",
    taken_at=NOON,
    occasion=EvidenceOccasion.FAILURE,
    reason="web did not start",
    first_cause="web ended with exit code 1",
    cause_service="web",
    deployment_id="prod-1",
    containers=(
        ContainerEvidence(
            service="web",
            name="prod-web-1",
            container_id="c0ffee",
            image="web:1",
            state="exited",
            exit_code=1,
            ended="exit code 1",
            started_at=NOON,
            finished_at=NOON,
        ),
    ),
    logs=(LogExcerpt(service="web", container="prod-web-1", lines=("bind: address already in use",)),),
    probes=(
        ProbeOutput(service="web", source="health check", ok=False, output="refused", first_at=NOON, last_at=NOON),
    ),
    events=(ContainerEvent(happened_at=NOON, container_id="c0ffee", service="web", project="prod", action="die"),),
    missing=("host: not asked",),
)
ANN = Actor(uid=1000, user="ann", login_uid=1001, claimed="somebody")


def operation(name: str, **more: object) -> Operation:
    asked = Operation(
        deployment_id=name,
        operation_type=OperationType.START,
        environment="prod",
        status=OperationStatus.RUNNING,
        started_at=NOON,
        user_agent="person: ann",
        actor=ANN,
        details={"asked": {"flow": "startup"}},
    )
    return replace(asked, **more)


def record_some(stores: Stores) -> None:
    """Two operations, an answered ticket and a pause."""
    for name in ("prod-1", "prod-2"):
        stores.operations.begin(operation(name))
        stores.operations.note(name, OperationRecord(error_id="e1"))
        stores.operations.finish(name, OperationStatus.FAILED, NOON, OperationRecord(reason="it did not start " * 20))
    stores.errors.record(ERROR)
    stores.tickets.open(TICKET)
    answer = TicketEntry(at=NOON, by="ann", what="skip: it is old", actor=ANN)
    stores.tickets.answer(TICKET, Choice.SKIP, answer)
    stores.pauses.pause("prod", None, None, "maintenance", "ann", NOON, ANN)
