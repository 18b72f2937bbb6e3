"""Reports: read what a report is made of, and put it where it is kept and shown."""

from __future__ import annotations

import asyncio
from datetime import datetime

from prefect import task
from prefect.artifacts import acreate_markdown_artifact

from tasks.reporting.days import days_of
from tasks.runtime.naming import artifact_key
from tasks.runtime.retry_policy import WRITE, in_thread, retry_read
from tasks.runtime.stores import open_stores

read_days = retry_read(in_thread(days_of))


@task(name="keep the report", **WRITE)
async def keep_report(environment: str, made_at: datetime, since: datetime, text: str) -> None:
    """Keep a report in the store, and put it on the run's page."""
    await asyncio.to_thread(open_stores().reports.keep, environment, made_at, since, text)
    await acreate_markdown_artifact(key=artifact_key("report", environment), markdown=text)
