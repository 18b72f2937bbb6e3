"""Evidence of a hook: its whole output, kept before its container is gone."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from adapters.docker.memory_signs import memory_signs
from adapters.pattern_files import shipped_set
from adapters.stores.recovery_writes import KeepEvidence
from core.common.stamps import without_stamp
from core.deployment.hooks import AFTER_ROLLBACK, BY_THE_CLOCK, failure, kind_of
from core.errors.evidence import best_line, container_evidence
from core.errors.evidence_size import excerpt, fit_bundle
from models.environments import Environment
from models.evidence import EvidenceBundle, EvidenceOccasion, MemorySigns, ProbeOutput
from models.failures import StoreError
from models.operations.record import HookRun
from tasks.deployment.hooks import OUTPUT_LINES, HookOutcome
from tasks.errors.evidence import show_evidence
from tasks.runtime.identifiers import new_evidence_id
from tasks.runtime.store_access import to_stores

log = logging.getLogger("roas")


async def keep_output(
    environment: Environment, run: HookRun, outcome: HookOutcome, deployment_id: str | None
) -> HookRun:
    """Keep the output of a hook as evidence. Returns the run with the bundle's id, and how it failed in one sentence.

    A store that does not take it is logged.
    """
    now, container = datetime.now(UTC), outcome.container
    named = f"{kind_of(run)} {run.name}"
    of = run.service or named
    written = excerpt(of, container.name if container else named, outcome.output, OUTPUT_LINES)
    line = "" if run.ok else decisive_line(of, outcome)
    sentence = f"{named} ended well ({run.does})" if run.ok else failure(run, line)
    probes: tuple[ProbeOutput, ...] = ()
    if not run.ok and container is None:
        answer = ProbeOutput(service=of, source=named, ok=False, output=line or run.problem, first_at=now, last_at=now)
        probes = (answer,)
    local = container is not None and environment.engine.startswith("unix://")
    bundle = EvidenceBundle(
        bundle_id=new_evidence_id(now),
        environment=environment.name,
        deployment_id=deployment_id,
        service=of,
        taken_at=now,
        # The other occasion is that a container is about to be replaced or removed, as this one is.
        # What is found after a rollback is no cause of it.
        occasion=EvidenceOccasion.REPLACEMENT if run.ok or run.when == AFTER_ROLLBACK else EvidenceOccasion.FAILURE,
        reason=f"{named} {BY_THE_CLOCK if run.when == BY_THE_CLOCK else 'of the update'}",
        first_cause=sentence,
        cause_service=of,
        containers=(
            (container_evidence(container, memory_signs(container.container_id) if local else MemorySigns()),)
            if container
            else ()
        ),
        logs=(written,) if written.lines else (),
        probes=probes,
    )
    bundle = fit_bundle(bundle)
    try:
        await to_stores(KeepEvidence(bundles=(bundle,)))
        await show_evidence.fn(environment.name, (bundle,))
    except StoreError as error:
        log.warning("the output of %s was not kept: %s", named, error)
        return run.model_copy(update={"sentence": sentence})
    return run.model_copy(update={"evidence": bundle.bundle_id, "sentence": sentence})


def decisive_line(service: str, outcome: HookOutcome) -> str:
    """The line of an output that shows a failure best; without one its last line."""
    log_lines = excerpt(service, "", outcome.output, OUTPUT_LINES)
    best = best_line(service, [log_lines], shipped_set())
    return best or next((without_stamp(line) for line in reversed(log_lines.lines) if line.strip()), "")
