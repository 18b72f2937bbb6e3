"""Evidence as a page of Markdown, for the run that took it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from core.common.safe_text import shorten
from models.evidence import EvidenceBundle, EvidenceOccasion, LogExcerpt

_LINES = 60
_ANSWERS = 20
_EVENTS = 30


def page(bundles: Sequence[EvidenceBundle]) -> str:
    """One page of all bundles, those of failures first; logs, answers and events are cut to their ends."""
    ordered = sorted(bundles, key=lambda bundle: bundle.occasion is not EvidenceOccasion.FAILURE)
    return "\n\n".join(_bundle(bundle) for bundle in ordered)


def _bundle(bundle: EvidenceBundle) -> str:
    parts = [
        f"# {_plain(bundle.service)}",
        f"**{_plain(bundle.first_cause)}**",
        f"Taken {_moment(bundle.taken_at)} as {bundle.bundle_id}: {_plain(bundle.reason)}",
        _table(
            ("container", "state", "ended", "health", "restarts", "started", "finished"),
            [
                (
                    *(
                        container.name,
                        container.state,
                        container.ended or container.memory.sentence,
                        container.health or "",
                    ),
                    *(str(container.restart_count), _moment(container.started_at), _moment(container.finished_at)),
                )
                for container in bundle.containers
            ],
        ),
        *(_log(log) for log in bundle.logs if log.lines),
    ]
    if bundle.probes:
        answers = [
            (_moment(probe.first_at), probe.service, probe.source, shorten(probe.output) or "passed", str(probe.times))
            for probe in bundle.probes[-_ANSWERS:]
        ]
        parts += ["## Health checks and probes", _table(("at", "service", "by", "answer", "times"), answers)]
    if bundle.events:
        events = [(_moment(event.happened_at), event.service, event.action) for event in bundle.events[-_EVENTS:]]
        parts += ["## Events of the engine", _table(("at", "service", "event"), events)]
    if (host := bundle.host) is not None:
        parts.append(
            f"Host: load {host.load_1m:.2f} on {host.cpus} cores, memory {host.memory_percent:.0f} % in use, "
            f"disk {host.disk_percent:.0f} % in use."
        )
    parts += [f"Missing: {_plain(what)}" for what in bundle.missing]
    return "\n\n".join(part for part in parts if part)


def _log(log: LogExcerpt) -> str:
    lines = "\n".join(log.lines[-_LINES:])
    longest = max((len(run) for run in re.findall(r"`+", lines)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"## Log of {_plain(log.container)}\n\n{fence}text\n{lines}\n{fence}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *([_plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Text that neither breaks a table nor is taken for markup."""
    return re.sub(r"([\\`*\[\]<>|#])", r"\\\1", " ".join(text.split()))


def _moment(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"
