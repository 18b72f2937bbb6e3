"""What wakes who waits for a service's containers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from models.containers import ONE_OFF_LABEL, ContainerEvent
from tasks.monitoring.events import ContainerWatch

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
SOON = timedelta(milliseconds=1)


def event(action: str, container: str = "a", one_off: str = "False") -> ContainerEvent:
    return ContainerEvent(
        happened_at=NOON, container_id=container, service="web", project="shop", action=action,
        attributes={ONE_OFF_LABEL: one_off},
    )  # fmt: skip


async def test_a_one_off_is_none_of_a_services_containers() -> None:
    watch = ContainerWatch()
    watch.know({"a": "web"})
    assert await watch.change("web", at_most=SOON) is False
    for action in ("create", "start", "die"):
        watch.see(event(action, "run", one_off="True"))
    assert (watch.containers("web"), watch.has_died("web")) == (("a",), False)
    assert await watch.change("web", at_most=SOON) is False

    watch.see(event("die"))

    assert watch.has_died("web")
    assert await watch.change("web", at_most=SOON) is True
