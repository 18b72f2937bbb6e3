"""A host with stores of its own ships what they record to its control plane, until the agent ends.

Nothing of the host waits for it: what is not shipped waits in the stores, oldest samples left out first.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from adapters.server.journal import Journal, NotTakenError
from adapters.server.membership import read_membership
from adapters.stores.outbox import Outbox, Taken
from adapters.stores.write_behind import waiting_writes
from flows.agent.contact import DEFAULT_ENGINE
from models.enrolment import Membership
from models.failures import RoasError
from models.hosts import CONTACT_EVERY
from models.settings import current_settings
from models.shipping import Batch, Receipt
from tasks.runtime.hosts import own_version, this_host
from tasks.runtime.store_access import journals_folder
from tasks.runtime.stores import open_stores

log = logging.getLogger("roas")

_EVERY_SECONDS = 5.0
_AT_ONCE = 5_000
"""Changes of each store in one batch."""
_MOST_WAITING = 3_000_000
"""More changes than wait in a week of 25 containers; beyond, the oldest samples are left out."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 2.0, 60.0


@dataclass(slots=True)
class Shipper:
    """Ships the changes of one host. `number` is that of the last batch that the control plane is known to have."""

    outbox: Outbox
    journal: Journal
    number: int = 0
    sent_at: float = 0.0
    most: int = _AT_ONCE
    has_begun: bool = False
    _told: str = ""

    def ship_once(self) -> bool:
        """Ship what waits, or show that this host is there; whether more waits.

        Raises:
            NotTakenError: The control plane does not take it now.
            StoreError: A store cannot be read or written.
        """
        if not self.has_begun:
            # A host pays for noting its changes only where somebody takes them.
            self._send(None)
            self.outbox.begin()
            self.has_begun = True
        taken = self.outbox.take(self.most)
        if taken is None and time.monotonic() - self.sent_at < CONTACT_EVERY.total_seconds():
            return False
        try:
            receipt = self._send(taken)
        except NotTakenError as error:
            if error.is_too_large:
                self.most = max(1, self.most // 4)
            raise
        self.most = min(_AT_ONCE, self.most * 2)
        self.sent_at = time.monotonic()
        self._tell(receipt)
        if taken is None:
            return False
        self.outbox.drop(taken.up_to)
        return taken.waiting > 0

    def _send(self, taken: Taken | None) -> Receipt:
        # A batch whose answer is lost may have been applied, or be applied late: the next one is later than it.
        self.number += 1
        receipt = self.journal.send(_batch(self.number, taken))
        if not receipt.applied:
            if self.sent_at:
                log.warning("another machine ships as this host: is its data folder a copy of this one's?")
            # An agent that begins anew does not know how far the one before it came.
            self.number = receipt.last + 1
            receipt = self.journal.send(_batch(self.number, taken))
        if not receipt.applied:
            raise NotTakenError("another process ships for this host")
        return receipt

    def _tell(self, receipt: Receipt) -> None:
        told = "; ".join(f"{refusal.what}: {refusal.why}" for refusal in receipt.refused)
        if told and told != self._told:
            log.warning("the control plane says of what this host records: %s", told)
        self._told = told


def _batch(number: int, taken: Taken | None) -> Batch:
    now = datetime.now(UTC)
    return Batch(
        number=number,
        sent_at=now,
        oldest_at=now if taken is None else taken.oldest_at,
        name=this_host().name,
        version=own_version(),
        engine=os.environ.get("DOCKER_HOST") or DEFAULT_ENGINE,
        waiting=(0 if taken is None else taken.waiting) + waiting_writes(journals_folder()),
        parts=[] if taken is None else taken.parts,
    )


async def keep_shipping(member: Membership) -> None:
    """Ship until this is cancelled; what fails is tried again with growing pauses, and logged once."""
    journal, failed, pause = Journal(member), "", 0.0
    try:
        outbox = Outbox(await asyncio.to_thread(open_stores))
        shipper = Shipper(outbox, journal)
        while True:
            again = 0.0
            try:
                more = await asyncio.to_thread(shipper.ship_once)
                if failed:
                    log.warning("the control plane takes what this host records again")
                failed, pause = "", 0.0 if more else _EVERY_SECONDS
            except (RoasError, OSError) as error:
                if failed != str(error):
                    failed = str(error)
                    log.warning("what this host records waits: %s", failed)
                if await asyncio.to_thread(read_membership, current_settings()) is None:
                    log.warning("this host left its control plane, and ships no more")
                    await asyncio.Event().wait()
                again = (error.again_seconds if isinstance(error, NotTakenError) else None) or 0.0
                pause = min(max(_FIRST_PAUSE_SECONDS, 2 * pause), _LONGEST_PAUSE_SECONDS)
                await asyncio.to_thread(outbox.thin, _MOST_WAITING)
            # Hosts that lost their control plane at one moment must not come back at one.
            await asyncio.sleep(max(again, pause) * random.uniform(1.0, 1.5))  # noqa: S311 - no secret
    finally:
        journal.close()
