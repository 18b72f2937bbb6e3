"""What waits for a person is no error in the log; what failed is."""

from __future__ import annotations

import logging

import pytest

import flows.recovery.approve


@pytest.mark.parametrize(
    ("message", "level"),
    [("Finished in state Suspended()", logging.INFO), ("Finished in state Failed('x')", logging.ERROR)],
)
def test_a_run_that_waits_for_a_person_is_no_error(message: str, level: int) -> None:
    assert flows.recovery.approve.WAITS
    logger = logging.getLogger("prefect.flow_runs")
    record = logger.makeRecord(logger.name, logging.ERROR, __file__, 1, message, (), None)
    assert logger.filter(record)
    assert record.levelno == level
