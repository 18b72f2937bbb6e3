"""Reports: read what a report is made of, and put it where it is kept and shown."""

from __future__ import annotations

import asyncio
from datetime import datetime

from prefect.artifacts import acreate_markdown_artifact

from adapters.pages import page_html
from models.environments import ReportDelivery
from models.failures import BadInputError
from models.notifications import Attachment, Message
from tasks.recovery.send_messages import deliver
from tasks.reporting.days import days_of, page_of_days
from tasks.runtime.clients import find_environment
from tasks.runtime.naming import artifact_key
from tasks.runtime.retry_policy import EFFECT, WRITE, make_async, retry_read
from tasks.runtime.stores import open_stores
from tasks.runtime.task import task

read_days = retry_read(make_async(days_of))


@task(name="keep the report", **WRITE)
async def keep_report(environment: str, made_at: datetime, since: datetime, text: str) -> None:
    """Keep a report in the store, and put it on the run's page."""
    await asyncio.to_thread(open_stores().reports.keep, environment, made_at, since, text)
    await acreate_markdown_artifact(key=artifact_key("report", environment), markdown=text)


def read_delivery(environment: str) -> ReportDelivery | None:
    """Who gets the report, as the environment's file says; None without a file, such as for bare Compose files."""
    try:
        return find_environment(environment).report
    except BadInputError:
        return None


@retry_read
@make_async
def last_sent(environment: str) -> datetime | None:
    """When the report on an environment was last sent."""
    return open_stores().heartbeats.last_beat(_name(environment))


@task(name="send the report", **EFFECT)
async def send_report(environment: str, days: int, now: datetime, to: tuple[str, ...], summary: Message) -> list[str]:
    """Send the summary and the page through each block; return why one was not delivered, for each that was not.

    It is noted as sent once one receiver has it: the others would get it with the next.
    """
    page = await asyncio.to_thread(lambda: page_html(page_of_days(environment, days, now)))
    attached = Attachment(name=f"report-{environment}-{now:%Y-%m-%d}.html", text=page, subtype="html")
    results = await asyncio.gather(*(deliver(block, summary, attached) for block in to))
    if None in results:
        await asyncio.to_thread(open_stores().heartbeats.beat, _name(environment), now)
    return [failed for failed in results if failed is not None]


def _name(environment: str) -> str:
    return f"report/{environment}"
