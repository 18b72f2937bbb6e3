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


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillFacts:
    """What decides whether a drill may begin. `troubles` names what is open, paused or under maintenance."""

    now: datetime
    watcher: str | None
    troubles: Sequence[str]
    health: HealthReport
    places: FaultPlaces | None


def refuse_drill(environment: Environment, service: str, fault: Fault, facts: DrillFacts) -> tuple[str, str] | None:
    """Why a drill may not begin, and what to do; None where it may."""
    drills, name, places = environment.drills, environment.name, facts.places
    faults, services = (drills.faults, drills.services or (service,)) if drills else ((), ())
    policy, declare = environment.recovery, f"`roas schema` describes `drills` in the file of {name}."
    trouble, findings = next(iter(facts.troubles), ""), "; ".join(facts.health.findings) or facts.health.summary
    offers = {
        Fault.UNHEALTHY: (
            (places and places.has_check) or environment.service(service).probe,
            "health check to notice a frozen process",
            "a healthcheck",
        ),
        Fault.FULL_DISK: (places and places.path, "tmpfs with a size: a full volume may fill the host", "one"),
        Fault.LOST_NETWORK: (places and places.networks, "network of its own project to lose", "one"),
        Fault.SLOW: (places and places.limit, "processor time left to lose", "more"),
        Fault.REFUSED_LOGIN: (
            places and places.database,
            "database of PostgreSQL that its probe's user may close, and open again from another database",
            "a postgresql probe of the user that owns it",
        ),
    }
    offered, what, how = offers.get(fault, (True, "", ""))
    checks = (
        (fault in faults, f"{name} does not allow drills of {fault};", declare),
        (service in services, f"{name} does not allow drills of {service};", declare),
        (drills and _in_window(drills, facts.now), f"Now is outside of drills.windows of {name};", "wait for one."),
        (policy.automatic and not policy.dry_run, f"Automatic recovery of {name} is off in its file;", "see recovery."),
        (facts.watcher, f"Nothing watches {name} on this host;", "run `roas serve` first."),
        (not trouble, f"{trouble}, and a drill begins only where all is well;", f"see `roas status {name}`."),
        (facts.health.overall is Health.HEALTHY, f"{name} is not healthy: {findings};", f"see `roas health {name}`."),
        (places, f"{name} has no running container of {service};", "name a service that runs."),
        (offered, f"{service} has no {what};", f"give it {how}, or choose another fault."),
    )
    return next(((why, advice) for holds, why, advice in checks if not holds), None)


def measure_drill(drill: DrillRecord, reports: Sequence[ReportedError], *, healthy: bool, now: datetime) -> DrillRecord:
    """Add to a drill what is on record since its fault. Nothing else was open before, so all of it counts as its own.

    It is repaired once all is `healthy` and each failure is resolved, or was proven repaired by an attempt.
    """
    since = [report for report in reports if report.error.first_seen >= drill.made_at]
    sent = [at for report in since for at in (report.reported.last_at, report.reported.end_at) if at is not None]
    proven = [[one.verified_at or now for one in report.executions if one.success] for report in since]
    over = all(moments or report.error.resolved_at for moments, report in zip(proven, since, strict=True))
    healed = max((at for moments in proven for at in moments), default=now)
    # A fault that nobody noticed is over once it is undone.
    is_over = healthy and over and (since or drill.undone_at is not None)
    return drill.model_copy(
        update={
            "detected_at": min((report.error.first_seen for report in since), default=None),
            "message_at": drill.message_at or min(sent, default=None),
            "healthy_at": drill.healthy_at or (healed if is_over else None),
        }
    )


def judge_drill(drill: DrillRecord, objectives: Drills, *, message_expected: bool) -> DrillRecord:
    """Add the verdict: each time beside its objective. What the end of the drill had to undo was not repaired."""
    steps = {
        "detected": (drill.detected_at, objectives.detect_seconds),
        "repaired": (None if drill.undone_at else drill.healthy_at, objectives.repair_seconds),
        **({"reported": (drill.message_at, objectives.message_seconds)} if message_expected else {}),
    }
    took = {step: (at - drill.made_at).total_seconds() if at else None for step, (at, _) in steps.items()}
    verdict = ", ".join(
        (f"not {step}" if took[step] is None else f"{step} after {took[step]:.1f} s") + f" (objective {seconds:g} s)"
        for step, (_, seconds) in steps.items()
    )
    passed = all((spent := took[step]) is not None and spent <= seconds for step, (_, seconds) in steps.items())
    return drill.model_copy(update={"passed": passed, "verdict": verdict})


def _in_window(drills: Drills, now: datetime) -> bool:
    times = times_around(drills.windows, now, (-1, 0))
    return not drills.windows or any(begins <= now < ends for _, begins, ends in times)
