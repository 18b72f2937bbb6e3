"""Report: once a day, how an environment's last days went and what to mend first."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from prefect import flow
from pydantic import Field

from core.reporting.reports import report_text
from flows.runtime.parameters import ENVIRONMENT, Count, EnvironmentName
from tasks.reporting.reports import keep_report, read_days

log = logging.getLogger("roas")


@flow(name="report", flow_run_name="report on {environment}")
async def report(
    environment: EnvironmentName = ENVIRONMENT, days: Count = Field(7, description="How many days it looks back.")
) -> str:
    """Put the last days on one page of Markdown: on the run's page, and in the store.

    Raises:
        StoreError: The stores cannot be read, or do not take it.
    """
    now = datetime.now(UTC)
    seen = await read_days(environment, days, now)
    text = report_text(seen.analysis, seen.scores, seen.alerts, seen.predictions)
    await keep_report(environment, now, seen.analysis.since, text)
    log.info("report on %s: %d pieces of advice", environment, len(seen.analysis.recommendations))
    return text
