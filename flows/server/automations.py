"""What the server itself does about runs: one whose process and runner are both gone is ended, and begun again
where it is to run all the time.

`roas serve` declares it, and for a server of your own `python -m flows.server.automations`.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from prefect import get_client
from prefect.automations import Automation
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from flows.recovery.approve import SUSPENDED

STANDING = ("watch", "monitoring")
"""The flows that run all the time where no agent does their work."""

SILENT_FOR = timedelta(seconds=90)
"""Three heartbeats of a run, which are sent every 30 s."""

_AFTER_A_CRASH = timedelta(seconds=10)
_AFTER_A_FAILURE = timedelta(seconds=60)
"""What fails each run at once, such as an environment's file, must not keep the machine busy with new ones."""

_ALIVE = "prefect.flow-run.heartbeat"
_AT_REST = ("Completed", "Failed", "Crashed", "Cancelled", "Cancelling", "Suspended", "Paused", "Resuming", "Retrying")


async def declare_automations(silent_for: timedelta = SILENT_FOR) -> None:
    """Create ours on the server, or bring those of the same name up to date; a person's own are left alone.

    One that is as it should be is not touched: the server would forget the runs that it is waiting for a sign of.
    """
    async with get_client() as client:
        for automation in (
            _dead_runs(silent_for),
            _standing_runs("Crashed", _AFTER_A_CRASH),
            _standing_runs("Failed", _AFTER_A_FAILURE),
        ):
            declaration = AutomationCore(**automation.model_dump(exclude_unset=True))
            existing = await client.read_automations_by_name(automation.name)
            if not existing:
                await client.create_automation(declaration)
            elif AutomationCore(**existing[0].model_dump(include=set(AutomationCore.model_fields))) != declaration:
                await client.update_automation(existing[0].id, declaration)


def _dead_runs(silent_for: timedelta) -> Automation:
    """A run that fell silent without having come to rest has crashed. One that is over already the server keeps so."""
    seconds = f"{silent_for.total_seconds():.0f} s"
    return Automation(
        name="roas: a run that nobody lives any more has crashed",
        description=(
            f"Sets a run to Crashed that showed no sign of life for {seconds}, where its runner was killed as well. "
            "Retry on its page then takes it up after its last finished step."
        ),
        trigger=EventTrigger(
            after={_ALIVE},
            expect={_ALIVE, SUSPENDED, *(f"prefect.flow-run.{state}" for state in _AT_REST)},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=silent_for,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"It showed no sign of life for {seconds}: its process and runner are gone.",
            )
        ],
    )


def _standing_runs(state: str, pause: timedelta) -> Automation:
    """A watch or a monitoring that ended so is begun again; one that a person cancelled waits for its schedule."""
    return Automation(
        name=f"roas: a watch or monitoring that {state.lower()} is begun again",
        description="What is to run all the time does not wait for its schedule after it ended by itself.",
        trigger=EventTrigger(
            expect={f"prefect.flow-run.{state}"},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification(
                {"prefect.resource.role": "flow", "prefect.resource.name": list(STANDING)}
            ),
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[RunDeployment(source="inferred", schedule_after=pause)],
    )


if __name__ == "__main__":
    asyncio.run(declare_automations())
