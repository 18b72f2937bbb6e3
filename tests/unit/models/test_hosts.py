"""Who was without the stores says of no host that it is silent, until all had the time to report."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from models.hosts import CONTACT_EVERY, SILENT_AFTER, Contact

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


def contacts(*seconds: float) -> Contact:
    contact = Contact(since=NOON, last=NOON)
    for one in seconds:
        contact = contact.renew(NOON + timedelta(seconds=one))
    return contact


def test_contact_that_holds_for_a_minute_is_settled() -> None:
    assert not contacts().is_settled
    assert not contacts(20, 40).is_settled
    assert contacts(20, 40, 60).is_settled
    assert contacts(39, 78).is_settled, "one that is late breaks nothing"


@pytest.mark.parametrize("gap", [2 * CONTACT_EVERY, SILENT_AFTER, timedelta(days=1)])
def test_a_gap_between_contacts_is_an_outage_though_none_failed(gap: timedelta) -> None:
    settled = contacts(20, 40, 60)
    back = settled.renew(settled.last + gap)
    assert not back.is_settled
    assert not back.renew(back.last + CONTACT_EVERY).is_settled
    for _ in range(3):
        back = back.renew(back.last + CONTACT_EVERY)
    assert back.is_settled
