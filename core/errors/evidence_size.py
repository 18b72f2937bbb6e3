"""Keep evidence small: excerpts of logs, and bundles that fit."""

from __future__ import annotations

from dataclasses import replace

from models.containers import ContainerEvent
from models.evidence import (
    BUNDLE_BYTES,
    LOG_BYTES,
    EvidenceBundle,
    LogExcerpt,
    ProbeOutput,
)


def excerpt(service: str, container: str, text: str, lines_asked: int, most_bytes: int = LOG_BYTES) -> LogExcerpt:
    """The end of a log, cut between lines where it is too long."""
    lines = text.splitlines()
    start, room = len(lines), most_bytes
    while start and room >= len(lines[start - 1].encode()) + 1:
        start -= 1
        room -= len(lines[start].encode()) + 1
    return LogExcerpt(
        service=service, container=container, lines=tuple(lines[start:]), cut=start > 0 or len(lines) >= lines_asked
    )


def fit_bundle(bundle: EvidenceBundle, most_bytes: int = BUNDLE_BYTES) -> EvidenceBundle:
    """Shrink a bundle to its largest size: first the logs of other services, then its own, then old probe outputs."""
    logs, probes, events = list(bundle.logs), list(bundle.probes), list(bundle.events)
    over = _size(bundle) - most_bytes
    # A quarter of each log stays at first: the ends of all logs say more than one whole log.
    over = _shrink(logs, bundle.service, over, share=4)
    while over > 0 and len(probes) > 2:
        # The first answer shows when it began, the last how it ended; those between are dropped first.
        over -= _probe_size(probes.pop(len(probes) // 2))
    while over > 0 and events:
        over -= _event_size(events.pop(0))
    _shrink(logs, bundle.service, over)
    return replace(bundle, logs=tuple(logs), probes=tuple(probes), events=tuple(events))


def _shrink(logs: list[LogExcerpt], service: str, over: int, share: int = 0) -> int:
    """Cut logs at their beginnings, those of other services first; return how many bytes are still too many."""
    for place in sorted(range(len(logs)), key=lambda i: (logs[i].service == service, -_log_size(logs[i]))):
        if over <= 0:
            break
        log, size = logs[place], _log_size(logs[place])
        room = max(size - over, size // share if share else 0)
        shorter = excerpt(log.service, log.container, "\n".join(log.lines), len(log.lines) + 1, room)
        logs[place] = replace(shorter, cut=log.cut or shorter.cut)
        over -= size - _log_size(shorter)
    return over


def _size(bundle: EvidenceBundle) -> int:
    logs, probes = sum(map(_log_size, bundle.logs)), sum(map(_probe_size, bundle.probes))
    return logs + probes + sum(map(_event_size, bundle.events))


def _log_size(log: LogExcerpt) -> int:
    return sum(len(line.encode()) + 1 for line in log.lines)


def _probe_size(probe: ProbeOutput) -> int:
    return len(probe.output.encode()) + 100


def _event_size(event: ContainerEvent) -> int:
    return 200 + sum(len(key) + len(str(value)) for key, value in event.attributes.items())
