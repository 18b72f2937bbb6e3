"""The record of an operation: read from what any version stored, written as it is stored."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from models.operations.record import HookRun, OperationRecord, read_record, write_record

STORED = json.loads((Path(__file__).parents[2] / "golden" / "stores" / "records.json").read_text())
UNREADABLE = {"gate": "damaged", "hooks": [{"name": "half"}], "runner": [], "critical_path": None}
RUN = HookRun(
    name="migrate",
    when="before",
    does="one-off container of migrate",
    service=None,
    began_at=datetime(2026, 1, 1, tzinfo=UTC),
    took_seconds=1.23456,
    ok=False,
    exit_code=None,
    lines=("half of it",),
)


@pytest.mark.parametrize("name", [name for name in STORED if name != "words of another version"])
def test_a_record_is_stored_again_as_it_was(name: str) -> None:
    details = STORED[name]["details"]
    assert json.loads(json.dumps(write_record(read_record(details)))) == details


def test_a_value_that_cannot_be_read_counts_as_not_recorded_and_hides_no_other() -> None:
    record = read_record(UNREADABLE | {"reason": "web did not start", "moved_to": {"planet": "mars"}})

    assert (record.gate, record.hooks, record.runner, record.critical_path) == (None, (), None, ())
    assert write_record(record) == {"reason": "web did not start", "moved_to": {"planet": "mars"}}


def test_only_what_was_recorded_is_stored() -> None:
    record = OperationRecord(kept=(), advice="")
    record.mounted_copies = None
    assert write_record(record) == {"kept": [], "advice": ""}


def test_a_run_of_a_hook_is_stored_with_moments_as_text_and_milliseconds() -> None:
    stored = write_record(OperationRecord(hooks=(RUN,)))["hooks"]

    assert stored == [RUN.model_dump(mode="json")]
    assert (stored[0]["began_at"], stored[0]["took_seconds"]) == ("2026-01-01T00:00:00+00:00", 1.235)
    assert stored[0]["service"] is stored[0]["exit_code"] is None
    assert HookRun.model_validate_json(RUN.model_dump_json()) == RUN.model_copy(update={"took_seconds": 1.235})
