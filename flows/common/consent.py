"""Ask for a person's consent in a flow: what runs by itself is not asked."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from flows.common.requester import AUTOMATION, SCHEDULE, requester
from tasks.reporting.consent import refuse_without_consent


async def require_consent(
    environment: str, verb: str, confirm: str, asked_by: str | None, services: Collection[str] = ()
) -> None:
    """Refuse what a person asks for, unless its name was given where it has to be.

    Raises:
        BadInputError: It was not; nothing was touched.
    """
    if requester(asked_by)[0] not in (SCHEDULE, AUTOMATION):
        await asyncio.to_thread(refuse_without_consent, environment, verb, confirm, services)
