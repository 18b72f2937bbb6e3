"""Health judged now: what the engine shows and what each service's own probe answers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from core.health import judge_environment
from core.judging import judge_declared
from models.compose import Application
from models.environments import Environment
from models.health import HealthReport, ProbeResult
from models.metrics import Dependency, DependencyType, HealthImpact
from tasks.monitoring import sample_system
from tasks.probes import probe_service
from tasks.services import look_at_application


async def judge_now(
    environment: Environment,
    application: Application,
    *,
    deployment_id: str | None = None,
    critical_alerts: int = 0,
) -> HealthReport:
    """Look at every container, ask every probe, and judge the whole.

    Raises:
        EngineUnreachableError: The engine did not answer.
    """
    sightings, system = await asyncio.gather(look_at_application(environment), sample_system())
    running = {seen.service for seen in sightings if seen.state == "running"}
    probed = [name for name in application.services if environment.service(name).probe and name in running]
    answers: dict[str, ProbeResult] = dict(
        zip(probed, await asyncio.gather(*(probe_service(environment, name) for name in probed)), strict=True)
    )
    verdicts = [
        judge_declared(declaration, sightings, answers.get(declaration.name), environment.service(declaration.name))
        for declaration in application.services.values()
    ]
    return judge_environment(
        environment.name,
        verdicts,
        now=datetime.now(UTC),
        dependencies=dependencies_of(environment, application),
        deployment_id=deployment_id,
        system_load=system.load_1m,
        critical_alerts=critical_alerts,
    )


def dependencies_of(environment: Environment, application: Application) -> list[Dependency]:
    """Who needs whom: what the environment says, and what the Compose file says beyond it."""
    found: dict[tuple[str, str], Dependency] = {}
    for name, declaration in application.services.items():
        for other, needed in declaration.depends_on.items():
            found[name, other] = Dependency(
                service=name,
                depends_on=other,
                dependency_type=DependencyType.REQUIRED if needed.required else DependencyType.OPTIONAL,
                health_impact=HealthImpact.CRITICAL if needed.required else HealthImpact.MODERATE,
            )
        for spec in environment.service(name).dependencies:
            found[name, spec.service] = Dependency(
                service=name, depends_on=spec.service, dependency_type=spec.type, health_impact=spec.impact
            )
    return list(found.values())
