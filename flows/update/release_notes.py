"""Put into the record of an update what its images change."""

from __future__ import annotations

import json
import logging

from core.deployment.release_notes import note_lines, record_of
from flows.update.context import Update
from models.operations.record import NoteRecord

log = logging.getLogger("roas")

NOTED = "release notes"
"""Step of an update: what its images change is recorded, before the first container is replaced."""


async def note_what_changes(update: Update) -> str | None:
    """Log and note what the fetched images change; of an update that is taken up again, what it recorded.

    Returns the detail of its step where there is something new to record.
    """
    recorder, plan = update.recorder, update.plan
    if (detail := recorder.step_detail(NOTED)) is not None:
        recorder.record.release_notes = tuple(map(NoteRecord.model_validate, json.loads(detail)))
        return None
    if not plan.release_notes:
        return None
    for note in plan.release_notes:
        log.info("%s", "\n".join(note_lines(note)))
    recorder.record.release_notes = notes = tuple(map(record_of, plan.release_notes))
    return json.dumps([note.model_dump(mode="json") for note in notes])
