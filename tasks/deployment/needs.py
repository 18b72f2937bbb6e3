"""What the records add to a need that is judged by its containers."""

from __future__ import annotations

from datetime import datetime

from adapters.stores import Stores
from core.deployment.desired_state import should_run
from tasks.reporting.needs import last_outage
from tasks.runtime.retry_policy import retry_read
from tasks.runtime.store_access import from_stores


@retry_read
async def stopped_and_outage(need: str) -> tuple[bool, datetime | None]:
    """Whether a person stopped the environment of a need, and when the need last failed or got over it.

    While the stores are away neither is known.
    """

    def read(stores: Stores) -> tuple[bool, datetime | None]:
        recorded = stores.operations.latest_recorded(need.partition("/")[0])
        return not should_run(recorded), last_outage(stores, need)

    return await from_stores(read, lambda _: (False, None))
