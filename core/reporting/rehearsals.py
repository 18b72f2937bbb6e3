"""Rehearsals of updates in words, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Iterator

from core.common.quantities import size_in_words
from models.rehearsals import UpdateRehearsal


def rehearsal_in_words(rehearsal: UpdateRehearsal) -> Iterator[str]:
    """What became of an update in its copy, beside the verdict: times, sizes, and notes of hooks and of the copy."""
    if rehearsal.took_seconds:
        yield f"started   {', '.join(f'{name} {took:.1f} s' for name, took in rehearsal.took_seconds.items())}"
    if rehearsal.changes:
        data = f", data {size_in_words(rehearsal.data_bytes)} of {rehearsal.snapshot}" if rehearsal.snapshot else ""
        # Measured once all is ready, so not where something did not start.
        memory = f", memory {size_in_words(rehearsal.memory_bytes)}" if rehearsal.memory_bytes else ""
        yield f"needed    images {size_in_words(rehearsal.image_bytes)}{data}{memory}"
    yield from rehearsal.notes
