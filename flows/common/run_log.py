"""How runs speak in Prefect's log, which people read beside each run."""

from __future__ import annotations

import logging

from models.failures import RoasError

_OF_RUNS = ("prefect.flow_runs", "prefect.task_runs")


def keep_plain() -> None:
    """Let Prefect log a failure that a person can act on as its sentence, and a run that waits as no error."""
    for name in _OF_RUNS:
        logging.getLogger(name).addFilter(_make_plain)


def _make_plain(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, RoasError):
        # Where in our code it was raised helps nobody who reads this.
        record.msg, record.args, record.exc_info, record.exc_text = str(error), (), None, None
    elif record.levelno == logging.ERROR and record.getMessage().startswith("Finished in state Suspended"):
        # Prefect calls each run an error that does not complete.
        record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
    return True
