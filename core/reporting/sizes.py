"""Proposed sizes in words, for the terminal and the page."""

from __future__ import annotations

from core.common.quantities import size_in_words
from models.sizes import Size, SizeProposal

_FIELDS = {
    "memory_limit_bytes": "memory limit",
    "memory_reservation_bytes": "memory reservation",
    "cpu_limit": "cpus limit",
    "cpu_reservation": "cpus reservation",
}


def change_in_words(proposal: SizeProposal) -> str:
    """What is proposed for a service, or why nothing is."""
    values = [
        f"{words} {_value(proposal.declared, field)} -> {_value(proposal.proposed, field)}"
        for field, words in _FIELDS.items()
        if getattr(proposal.declared, field) != getattr(proposal.proposed, field)
    ]
    change = ", ".join(values) or ("nothing is proposed" if proposal.because else "fits")
    return f"{change}; {proposal.because}" if proposal.because else change


def use_in_words(proposal: SizeProposal) -> str:
    """What a service was measured to use."""
    kills, seen = proposal.kills, [f"measured in {proposal.hours} hour{'s' * (proposal.hours != 1)}"]
    if proposal.memory_highest_bytes is not None:
        seen.append(f"at most {size_in_words(proposal.memory_highest_bytes)}")
    if proposal.cpu_highest is not None:
        seen.append(f"at most {proposal.cpu_highest:.2f} processors")
    if kills.count:
        limit = f" at {size_in_words(kills.limit_bytes)}" if kills.limit_bytes else ""
        seen.append(f"killed for memory {'once' if kills.count == 1 else f'{kills.count} times'}{limit}")
    return ", ".join(seen)


def _value(size: Size, field: str) -> str:
    value = getattr(size, field)
    return "none" if value is None else size_in_words(value) if field.endswith("bytes") else f"{value:g}"
