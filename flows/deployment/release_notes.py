"""Put into the record of an update what its images change."""

from __future__ import annotations

import json
import logging

from core.deployment.release_notes import note_lines, record_of
from flows.operation.recorder import OperationRecorder
from models.compose import Plan

log = logging.getLogger("roas")

_NOTED = "release notes"
"""Step of an update: what its images change is recorded, before the first container is replaced."""


async def note_what_changes(recorder: OperationRecorder, plan: Plan) -> None:
    """Log and record what the fetched images change; of an update that is taken up again, what it recorded.

    It is called again where an interrupted run has replaced all, so that the record has the notes there too.
    """
    if "release_notes" in recorder.facts:
        return
    if (detail := recorder.reported(_NOTED)) is not None:
        recorder.facts["release_notes"] = json.loads(detail)
        return
    if not plan.release_notes:
        return
    for note in plan.release_notes:
        log.info("%s", "\n".join(note_lines(note.text, note.commits, note.more_commits)))
    recorder.facts["release_notes"] = notes = [record_of(note) for note in plan.release_notes]
    await recorder.step(_NOTED, detail=json.dumps(notes))
