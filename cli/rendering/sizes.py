"""Text output of proposed sizes."""

from __future__ import annotations

from rich.markup import escape

from cli.rendering.console import say
from core.common.quantities import size_in_words
from models.sizes import Size, SizeProposal, SizeReport

_FIELDS = {
    "memory_limit_bytes": "memory limit",
    "memory_reservation_bytes": "memory reservation",
    "cpu_limit": "cpus limit",
    "cpu_reservation": "cpus reservation",
}


def show_sizes(report: SizeReport) -> None:
    """Print what is proposed for each service and its risk, the change of the files, and the next command."""
    for proposal in report.proposals:
        say(f"[bold]{escape(proposal.service)}[/bold]: {escape(_change(proposal))}")
        say(f"    {_use(proposal)} in {report.days} days")
        if proposal.changes:
            say(f"    risk: {escape(proposal.risk)}")
    if report.diff:
        say(f"\n{escape(report.diff)}\n")
    if report.written:
        say(f"written: {escape(', '.join(report.written))}; apply it: roas update {report.environment}")
    elif report.diff:
        say(f"write it: roas size {report.environment} --write   then: roas update {report.environment}")


def _change(proposal: SizeProposal) -> str:
    values = [
        f"{words} {_value(proposal.declared, field)} -> {_value(proposal.proposed, field)}"
        for field, words in _FIELDS.items()
        if getattr(proposal.declared, field) != getattr(proposal.proposed, field)
    ]
    change = ", ".join(values) or ("nothing is proposed" if proposal.because else "fits")
    return f"{change}; {proposal.because}" if proposal.because else change


def _value(size: Size, field: str) -> str:
    value = getattr(size, field)
    return "none" if value is None else size_in_words(value) if field.endswith("bytes") else f"{value:g}"


def _use(proposal: SizeProposal) -> str:
    kills, seen = proposal.kills, [f"measured in {proposal.hours} hours"]
    if proposal.memory_highest_bytes is not None:
        seen.append(f"at most {size_in_words(proposal.memory_highest_bytes)}")
    if proposal.cpu_highest is not None:
        seen.append(f"at most {proposal.cpu_highest:.2f} processors")
    if kills.count:
        limit = f" at {size_in_words(kills.limit_bytes)}" if kills.limit_bytes else ""
        seen.append(f"killed for memory {'once' if kills.count == 1 else f'{kills.count} times'}{limit}")
    return ", ".join(seen)
