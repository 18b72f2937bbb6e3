"""Evidence as a page of Markdown, for the run that took it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from core.common.markdown import fenced_block, plain, table
from core.common.safe_text import shorten
from models.evidence import EvidenceBundle, EvidenceOccasion

_CONTAINER = ("container", "state", "ended", "health", "restarts", "started", "finished")
_LINES = 60
_ANSWERS = 20
_EVENTS = 30


def page(bundles: Sequence[EvidenceBundle]) -> str:
    """One page of all bundles, those of failures first; logs, answers and events are cut to their ends."""
    ordered = sorted(bundles, key=lambda bundle: bundle.occasion is not EvidenceOccasion.FAILURE)
    return "\n\n".join(_bundle(bundle) for bundle in ordered)


def _bundle(bundle: EvidenceBundle) -> str:
    containers = [
        (
            *(container.name, container.state, container.ended or container.memory.sentence, container.health or ""),
            *(str(container.restart_count), _moment(container.started_at), _moment(container.finished_at)),
        )
        for container in bundle.containers
    ]
    parts = [
        f"# {plain(bundle.service)}",
        f"**{plain(bundle.first_cause)}**",
        f"Taken {_moment(bundle.taken_at)} as {bundle.bundle_id}: {plain(bundle.reason)}",
        table(_CONTAINER, containers) if containers else "",
        *(
            f"## Log of {plain(log.container)}\n\n{fenced_block(log.lines[-_LINES:])}"
            for log in bundle.logs
            if log.lines
        ),
    ]
    if bundle.probes:
        answers = [
            (_moment(probe.first_at), probe.service, probe.source, shorten(probe.output) or "passed", str(probe.times))
            for probe in bundle.probes[-_ANSWERS:]
        ]
        parts += ["## Health checks and probes", table(("at", "service", "by", "answer", "times"), answers)]
    if bundle.events:
        events = [(_moment(event.happened_at), event.service, event.action) for event in bundle.events[-_EVENTS:]]
        parts += ["## Events of the engine", table(("at", "service", "event"), events)]
    if (host := bundle.host) is not None:
        parts.append(
            f"Host: load {host.load_1m:.2f} on {host.cpus} cores, memory {host.memory_percent:.0f} % in use, "
            f"disk {host.disk_percent:.0f} % in use."
        )
    parts += [f"Missing: {plain(what)}" for what in bundle.missing]
    return "\n\n".join(part for part in parts if part)


def _moment(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"
