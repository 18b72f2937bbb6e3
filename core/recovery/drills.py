"""Drills: whether one may begin, and what the records show of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from core.common.weekly import times_around
from models.drills import DrillRecord, Drills, Fault, FaultPlaces
from models.environments import Environment
from models.health import Health, HealthReport
from models.notifications import ReportedError

_DECLARE = "declare it under `drills` in the environment's file"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillFacts:
    """What decides whether a drill may begin.

    `watcher` is who watches the environment; `troubles` names what is open, paused or under maintenance; `places` is
    what the service's container offers to a fault, None where none runs.
    """

    now: datetime
    watcher: str | None
    troubles: Sequence[str]
    health: HealthReport
    places: FaultPlaces | None


def refuse_drill(environment: Environment, service: str, fault: Fault, facts: DrillFacts) -> str | None:
    """Why a drill may not begin, with what to do; None where it may."""
    drills, name = environment.drills, environment.name
    if drills is None or fault not in drills.faults:
        return f"{name} allows no drill of {fault}; {_DECLARE}: faults: [{fault}]."
    if drills.services and service not in drills.services:
        return f"{name} allows drills of {', '.join(drills.services)} only; {_DECLARE}: services: [{service}]."
    if not _in_window(drills, facts.now):
        return f"It is outside of the windows of drills.windows of {name}; wait for one."
    if not environment.recovery.automatic or environment.recovery.dry_run:
        return f"Automatic recovery of {name} is off in its file, so a drill would show nothing; see `recovery`."
    if facts.watcher is None:
        return f"Nothing watches {name} on this host; run `roas serve` here first."
    if facts.troubles:
        return f"{facts.troubles[0]}; a drill begins only where nothing is open: see `roas status {name}`."
    if facts.health.overall is not Health.HEALTHY:
        findings = "; ".join(facts.health.findings) or facts.health.summary
        return f"{name} is not healthy: {findings}; a drill begins only where all is well."
    if facts.places is None:
        return f"{name} has no running container of {service}; name a service that runs."
    return _cannot_have(service, fault, facts.places)


def measure_drill(drill: DrillRecord, reports: Sequence[ReportedError], *, healthy: bool, now: datetime) -> DrillRecord:
    """Add to a drill what is on record since its fault. Nothing else was open before, so all of it counts as its own.

    It is repaired once all is `healthy` and each failure is resolved, or was proven repaired by an attempt.
    """
    since = [report for report in reports if report.error.first_seen >= drill.made_at]
    if not since:
        # One that was never seen to fail is healthy again once its fault is undone.
        return drill.model_copy(update={"healthy_at": now}) if healthy and drill.undone_at is not None else drill
    first = min(since, key=lambda report: report.error.first_seen)
    sent = [at for report in since for at in (report.reported.last_at, report.reported.end_at) if at is not None]
    proven = [
        attempt.verified_at or attempt.ended_at
        for report in since
        for attempt in report.executions
        if attempt.success and attempt.ended_at is not None
    ]
    over = all(
        report.error.resolved_at is not None or any(one.success for one in report.executions) for report in since
    )
    healed = max((at for at in proven if at is not None), default=now)
    return drill.model_copy(
        update={
            "detected_at": first.error.first_seen,
            "error_id": first.error.error_id,
            "message_at": drill.message_at or min(sent, default=None),
            "healthy_at": drill.healthy_at or (healed if healthy and over else None),
        }
    )


def judge_drill(drill: DrillRecord) -> DrillRecord:
    """Add the verdict: each time beside its objective."""
    wanted, steps = drill.objectives, [("detected", drill.detected_at, drill.objectives.detect_seconds)]
    steps.append(("repaired", drill.repaired_at, wanted.repair_seconds))
    if drill.message_expected:
        steps.append(("message sent", drill.message_at, wanted.message_seconds))
    parts, passed = [], True
    for what, at, objective in steps:
        took = drill.seconds_to(at)
        passed = passed and took is not None and took <= objective
        parts.append(f"{what} after {took:.1f} s" if took is not None else f"not {what}")
        parts[-1] += f" (objective {objective:g} s)"
    if drill.undone_at is not None:
        parts.append("undone by the end of the drill")
    return drill.model_copy(update={"passed": passed, "verdict": ", ".join(parts)})


def is_over(drill: DrillRecord) -> bool:
    """Whether nothing more is to be measured."""
    return drill.healthy_at is not None and (drill.message_at is not None or not drill.message_expected)


def _in_window(drills: Drills, now: datetime) -> bool:
    times = times_around(drills.windows, now, (-1, 0))
    return not drills.windows or any(begins <= now < ends for _, begins, ends in times)


def _cannot_have(service: str, fault: Fault, places: FaultPlaces) -> str | None:
    if fault is Fault.UNHEALTHY and not places.has_check:
        return f"{service} has no health check that could notice a frozen process; give it a healthcheck."
    if fault is Fault.FULL_DISK and not places.path:
        return f"{service} has no tmpfs with a size, and a volume without a limit would fill the host; mount one."
    if fault is Fault.LOST_NETWORK and not places.networks:
        return f"{service} is in no network of its own project that could be given back; nothing is disconnected."
    if fault is Fault.REFUSED_LOGIN and not places.role:
        return f"{service} has no PostgreSQL role that may log in beside its superuser, whose loss nothing could undo."
    return None
