"""Long runs: longer periods of the agent, records that are kept for hours, and what is done each night."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

from adapters.stores.archiver import Archived, Archiver
from flows.reporting.report import report
from tasks.runtime.plain_tasks import without_task_runs
from tasks.storage.retention import STEPS, _let_go

STAND_INS: dict[str, Any] = {
    "flows.recovery.watch.SWEEP": timedelta(minutes=4),
    "models.hosts.CONTACT_EVERY": timedelta(minutes=4),
    "tasks.reporting.reports.acreate_markdown_artifact": lambda **_: asyncio.sleep(0),
}
"""What an idle agent does by its clock costs most of a quiet hour, and seldom meets anything. No server has pages."""

LOOK_EVERY = timedelta(minutes=1)

VARIABLES = {
    "ROAS_KEEP_MONITORING_DAYS": "0.5",
    "ROAS_KEEP_ERRORS_DAYS": "0.25",
    "ROAS_KEEP_DEPLOYMENTS_DAYS": "0.5",
    "ROAS_KEEP_FAILED_DAYS": "0.75",
}
"""So that each night something leaves the stores."""


async def clean() -> bool:
    """Carry out the life cycle, but for what it does in Prefect's own records."""
    with without_task_runs():
        for step in STEPS[:-1]:
            await step(False)
    _let_go()
    return True


async def make_report(environment: str) -> bool:
    """Make the report of the day."""
    with without_task_runs():
        await report.fn(environment, days=7, send="due")
    return True


def write_plain_archives() -> None:
    """Let archives be plain files: Parquet is written by a process that takes a second to begin."""
    Archiver.write = _write_plainly  # type: ignore[method-assign]


def _write_plainly(_: Archiver, store: str, query: str, file: Path, **_kinds: Any) -> Archived:
    with closing(sqlite3.connect(f"{Path(store).as_uri()}?mode=ro", uri=True)) as connection:
        rows = connection.execute(query).fetchall()
    data = "\n".join(map(repr, rows)).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return Archived(file=file, rows=len(rows), size=len(data), sha256=hashlib.sha256(data).hexdigest())
