"""A known good error and ticket, which tests change in one thing."""

from datetime import UTC, datetime

from models.errors_seen import Category, RecordedError, Severity, Strategy, Verdict
from models.evidence import ContainerEvidence, EvidenceBundle, LogExcerpt, Occasion, ProbeOutput
from models.recovery import Ticket, TicketEntry
from models.sightings import ContainerEvent

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)

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
    occasion=Occasion.FAILURE,
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
