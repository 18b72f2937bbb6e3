"""What Prefect logs of a run says what a person needs: failures in a sentence, and no error where a run waits."""

from __future__ import annotations

import logging
import sys

import pytest

import flows.common
from models.failures import EnvironmentFileError


def record_of(message: str, error: Exception | None = None) -> logging.LogRecord:
    assert flows.common.keep_plain
    logger = logging.getLogger("prefect.flow_runs")
    try:
        if error is not None:
            raise error
        found = None
    except Exception:  # noqa: BLE001 - as Prefect logs it
        found = sys.exc_info()
    record = logger.makeRecord(logger.name, logging.ERROR, __file__, 1, message, (error,) if error else (), found)
    assert logger.filter(record)
    return record


@pytest.mark.parametrize(
    ("message", "level"),
    [("Finished in state Suspended()", logging.INFO), ("Finished in state Failed('x')", logging.ERROR)],
)
def test_a_run_that_waits_for_a_person_is_no_error(message: str, level: int) -> None:
    assert record_of(message).levelno == level


def test_a_failure_that_a_person_can_act_on_is_its_sentence() -> None:
    error = EnvironmentFileError("shop.yaml names no Compose file;", advice="add compose_files.")
    record = record_of("Encountered exception during execution: %r", error)
    assert logging.Formatter().format(record) == "shop.yaml names no Compose file; add compose_files."
    assert record.levelno == logging.ERROR


def test_a_defect_of_ours_keeps_its_traceback() -> None:
    record = record_of("Encountered exception during execution: %r", KeyError("web"))
    assert "Traceback" in logging.Formatter().format(record)
