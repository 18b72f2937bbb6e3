"""Report: once a day, how an environment's last days went and what to mend first."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Literal

from prefect import flow
from pydantic import Field

from core.reporting.report_message import is_due, report_message
from core.reporting.reports import report_text
from flows.common.parameters import ENVIRONMENT, Count, EnvironmentName
from models.failures import BadInputError, RoasError
from tasks.reporting.days import Days
from tasks.reporting.reports import keep_report, last_sent, read_days, read_delivery, send_report

log = logging.getLogger("roas")

Send = Literal["due", "now", "no"]


@flow(name="report", flow_run_name="report on {environment}")
async def report(
    environment: EnvironmentName = ENVIRONMENT,
    days: Count = Field(7, description="How many days it looks back."),
    send: Send = Field("due", description="Send it to those that the environment's file names: when due, now or not."),
) -> str:
    """Put the last days on one page of Markdown: on the run's page, and in the store. Send it where it is asked for.

    Raises:
        StoreError: The stores cannot be read, or do not take it.
        BadInputError: It is to be sent now, and the environment's file names no receiver.
        RoasError: It is to be sent now, and a receiver did not get it.
    """
    now = datetime.now(UTC)
    records = await read_days(environment, days, now)
    text = report_text(records.analysis, records.scores, records.alerts, records.predictions, records.drills)
    await keep_report(environment, now, records.analysis.since, text)
    log.info("report on %s is stored, with %d recommendations", environment, len(records.analysis.recommendations))
    if send != "no":
        await _send(environment, records, days, now, send)
    return text


async def _send(environment: str, records: Days, days: int, now: datetime, send: Send) -> None:
    """Send the report where it is due, or now; a scheduled one that is not delivered is logged."""
    delivery = await asyncio.to_thread(read_delivery, environment)
    if delivery is None:
        if send == "now":
            raise BadInputError(
                f"The file of {environment} names no receiver of its report;",
                advice="write `report: {to: [roas-email/operations]}` into it, and keep the address with `roas notify "
                "add email`.",
            )
        return
    if send == "due" and not is_due(delivery.every, await last_sent(environment), now):
        return
    summary = report_message(records.analysis, records.scores, records.alerts, records.predictions)
    failed = await send_report(environment, days, now, delivery.to, summary)
    if failed and send == "now":
        raise RoasError(
            f"The report on {environment} was not sent: {'; '.join(failed)};", advice="see `roas notify list`."
        )
    for reason in failed:
        log.warning("report on %s was not sent: %s", environment, reason)
    if len(failed) < len(delivery.to):
        log.info("report on %s: sent", environment)
