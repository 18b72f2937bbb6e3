"""Read what `roas doctor` judges, from this machine and from the stores; a plain read, and no task run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from adapters.config.environment_files import known_environments
from adapters.doctor import (
    data_folder,
    engine_facts,
    inspect_environment_file,
    inspect_server,
    installed_programs,
)
from core.deployment.doctor import diagnose
from core.storage.freshness import snapshot_problems
from models.doctor import DoctorFinding, EnvironmentFacts, MachineFacts
from models.environments import Environment
from models.failures import RoasError, StoreError
from models.settings import current_settings
from models.validation import Trouble
from tasks.monitoring.watch_lock import watcher_of
from tasks.runtime.hosts import has_other_hosts
from tasks.runtime.stores import open_stores, stores_exist


def read_diagnoses(environment: str | None) -> tuple[DoctorFinding, ...]:
    """Judge this machine and one environment, or all of them; the engine is the environment's, else DOCKER_HOST's."""
    settings = current_settings()
    beats, stores_problem = _heartbeats()
    names = (environment,) if environment is not None else known_environments(settings)
    environments = [inspect_environment_file(name, settings, beats.get(f"watch/{name}")) for name in names]
    usable = [declared for _, declared in environments if declared is not None]
    engine_answer = engine_facts(usable[0] if environment is not None and usable else _this_machine())
    if environment is not None and usable and not isinstance(engine_answer.engine, Trouble):
        environments = [(_with_overlaps(facts, declared), declared) for facts, declared in environments]
    checked_at = datetime.now(UTC)
    facts = MachineFacts(
        checked_at=checked_at,
        user=os.geteuid(),
        programs=installed_programs(),
        engine_url=engine_answer.address,
        engine=engine_answer.engine,
        refused=engine_answer.refused,
        compose_version=engine_answer.compose_version,
        clock_offset=engine_answer.clock_offset,
        host=engine_answer.host,
        data=data_folder(settings.data_dir),
        server=inspect_server(settings),
        environments=tuple(
            replace(_with_snapshots(facts, declared, checked_at), watched_by=watcher_of(facts.name))
            for facts, declared in environments
        ),
        stores_problem=stores_problem,
        stores_clock_skew=_skew() if stores_problem is None else None,
    )
    return diagnose(facts)


def _with_overlaps(facts: EnvironmentFacts, environment: Environment | None) -> EnvironmentFacts:
    """Add what an update finds out about the services that should be replaced start-first; nothing it cannot."""
    from core.deployment.overlap import wants_overlap
    from tasks.runtime.project import Project

    if environment is None:
        return facts
    project = Project(environment)
    try:
        application = project.compose().render()
        if not any(wants_overlap(service, environment) for service in application.services.values()):
            return facts
        from tasks.deployment.overlap import decide_overlaps

        decided = decide_overlaps(environment, application, project.inspect_containers())
    except RoasError:
        # Validation says what is wrong with the Compose files.
        return facts
    return replace(
        facts,
        stop_first={name: decision.because for name, decision in decided.items() if not decision.possible},
        overlap_notes={
            name: decision.note for name, decision in decided.items() if decision.possible and decision.note
        },
    )


def _heartbeats() -> tuple[Mapping[str, datetime], Trouble | None]:
    """The last heartbeats; none where nothing was recorded yet, since this command makes no stores."""
    if not stores_exist():
        return {}, None
    try:
        return open_stores().heartbeats.all(), None
    except RoasError as error:
        return {}, Trouble(what=error.what, advice=error.advice)


def _skew() -> timedelta | None:
    if not has_other_hosts():
        return None
    with suppress(StoreError):
        return open_stores().hosts.skew()
    return None


def _with_snapshots(facts: EnvironmentFacts, declared: Environment | None, now: datetime) -> EnvironmentFacts:
    if declared is None or declared.data is None or not stores_exist():
        return facts
    try:
        snapshots = open_stores().snapshots.list_for(declared.name)
    except RoasError:
        # Another line says what is wrong with the stores.
        return facts
    return replace(facts, snapshot_problems=snapshot_problems(declared, snapshots, now))


def _this_machine() -> Environment:
    """A stand-in for the engine that commands without an environment use."""
    engine = os.environ.get("DOCKER_HOST")
    named = {} if not engine else {"engine": engine}
    return Environment.model_validate(
        {"name": "doctor", "project": "doctor", "compose_files": [Path("compose.yaml")], **named}
    )
