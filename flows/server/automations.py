"""What the server itself does: a run whose process and runner are both gone is ended, and the schedules that an agent
paused come back once it is gone for good.

`roas serve` declares it, and for a server of your own `python -m flows.server.automations`.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from prefect import get_client
from prefect.automations import Automation
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, ResumeDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from flows.common.pages import all_of
from flows.recovery.approve import SUSPENDED

SILENT_FOR = timedelta(seconds=90)
"""Three heartbeats of a run, which are sent every 30 s."""

GONE_AFTER = timedelta(minutes=20)

CARRIED = "roas.deployment.carried"
"""An agent does all the time what a deployment is scheduled for, and has paused it; its resource is that deployment."""

RELEASED = "roas.deployment.released"
"""A person resumed it beside the agent: whether it is paused is his from now on."""

PAUSED_SCHEDULES = "roas: schedules that an agent paused come back without it"

_GONE_FLOWS = {"watch": "flows.recovery.watch.watch", "monitoring": "flows.monitoring.continuous.monitoring"}
_GONE_AUTOMATIONS = [f"roas: a watch or monitoring that {ended} is begun again" for ended in ("crashed", "failed")]
_ALIVE = "prefect.flow-run.heartbeat"
_AT_REST = ("Completed", "Failed", "Crashed", "Cancelled", "Cancelling", "Suspended", "Paused", "Resuming", "Retrying")


async def declare_automations(silent_for: timedelta = SILENT_FOR, gone_after: timedelta = GONE_AFTER) -> None:
    """Create ours on the server, or bring those of the same name up to date; a person's own are left alone.

    Of an earlier version they and the deployments that they began again are removed: nothing could run them.
    """
    async with get_client() as client:
        for name in _GONE_AUTOMATIONS:
            for gone in await client.read_automations_by_name(name):
                await client.delete_automation(gone.id)
        flows = FlowFilter(name=FlowFilterName(any_=list(_GONE_FLOWS)))
        for deployment in await all_of(client.read_deployments, flow_filter=flows):
            # Others may have flows of these names.
            if deployment.entrypoint in _GONE_FLOWS.values():
                await client.delete_deployment(deployment.id)
        await declare(client, _dead_runs(silent_for))
        await declare(client, resume_paused_schedules(gone_after))


async def declare(client: PrefectClient, automation: Automation) -> None:
    """Create an automation or bring it up to date.

    One that is as it should be is not touched: the server would forget what it is waiting for a sign of. One that a
    person disabled stays so.
    """
    declaration = AutomationCore(**automation.model_dump(exclude_unset=True))
    existing = await client.read_automations_by_name(automation.name)
    if not existing:
        await client.create_automation(declaration)
        return
    declaration.enabled = existing[0].enabled
    if AutomationCore(**existing[0].model_dump(include=set(AutomationCore.model_fields))) != declaration:
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


def resume_paused_schedules(gone_after: timedelta) -> Automation:
    """A deployment that an agent carried is scheduled again, where no agent has carried it for so long."""
    return Automation(
        name=PAUSED_SCHEDULES,
        description=(
            f"Resumes a deployment of which no agent has said for {gone_after.total_seconds() / 60:.0f} minutes that "
            "it does its work."
        ),
        trigger=EventTrigger(
            after={CARRIED},
            expect={CARRIED, RELEASED},
            match=ResourceSpecification({"prefect.resource.id": "prefect.deployment.*"}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=gone_after,
        ),
        # Its type by name: what is left at its default is not sent, and the server would take it for a RunDeployment.
        actions=[ResumeDeployment(type="resume-deployment", source="inferred")],
    )


if __name__ == "__main__":
    asyncio.run(declare_automations())
