"""Define the recovery actions: targets, precondition, steps, proof and rollback of each.

An action needs a precondition and a proof. Its targets are containers, images, networks, a release or a script: never
a volume, the engine, a credential or another project.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from core.recovery.action_targets import (
    ActionContext,
    ActionTarget,
    dangling_images,
    missing_networks,
    port_holders,
    previous_release,
    recovery_script,
    service_and_dependencies,
    service_containers,
    service_image,
    unused_networks,
)
from core.recovery.preconditions import (
    may_create_network,
    may_free_port,
    may_prune_disk,
    may_prune_networks,
    may_pull,
    may_recreate,
    may_restart,
    may_roll_back,
    may_run_script,
)
from models.errors import Strategy
from models.recovery import PlannedStep, StepSpec


class ActionProof(StrEnum):
    """How an action is proven to have helped."""

    SERVICE = "the service's own probe answers, and it holds its health for its stabilisation time"
    RELEASE = "every service of the release is proven, as after any start"


@dataclass(frozen=True, slots=True)
class Irreversible:
    """Why an action cannot be rolled back, and why it is allowed nevertheless."""

    because: str


Aim = Callable[[ActionContext], tuple[ActionTarget, ...]]
"""Returns all targets of an action."""

Precondition = Callable[[ActionContext], str | None]
"""Returns why an action is not allowed, None if it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One way to recover. `at_most` is the largest set of targets that is plausible; a larger one is refused.

    `points` are what it takes of the budgets of the service and the host. With `dependencies_first` what the
    service needs and lacks is restarted and proven before it.

    Raises:
        TypeError: A part that makes it safe is missing.
    """

    strategy: Strategy
    aim: Aim
    at_most: int
    precondition: Precondition
    steps: tuple[StepSpec, ...]
    proof: ActionProof
    inverse: tuple[StepSpec, ...] | Irreversible
    points: int
    dependencies_first: bool = False

    def __post_init__(self) -> None:
        """Check the required parts at run time, too."""
        if not callable(self.precondition) or not callable(self.aim):
            raise TypeError(f"{self.strategy} has no precondition or no aim, so it may not be taken")
        proven = self.steps[-1:] == (StepSpec.VERIFY,) or self.proof is ActionProof.RELEASE
        if not isinstance(self.proof, ActionProof) or not proven:
            raise TypeError(f"{self.strategy} is not verified, so it may not be taken")
        if not self.inverse or self.at_most < 1 or self.points < 1:
            raise TypeError(f"{self.strategy} has no inverse, no bound or no cost, so it may not be taken")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyAction:
    """An allowed action with its steps, and the steps that roll it back."""

    action: Action
    targets: tuple[ActionTarget, ...]
    steps: tuple[PlannedStep, ...]
    undo: tuple[PlannedStep, ...]


@dataclass(frozen=True, slots=True)
class RefusedAction:
    """Why an action is not allowed now, and the command for a person instead, if there is one."""

    because: str
    instead: str = ""


def prepare(strategy: Strategy, context: ActionContext) -> ReadyAction | RefusedAction:
    """Check the precondition and the targets of an action, and list its steps.

    Refused if the precondition fails, or if the targets are none, too many, or of another project.
    """
    action = ACTIONS[strategy]
    if obstacle := action.precondition(context):
        return RefusedAction(obstacle, _instead(context))
    targets = action.aim(context)
    if not targets:
        return RefusedAction(f"{strategy} finds nothing to act on, and nothing never means everything.")
    if len(targets) > action.at_most:
        return RefusedAction(f"{strategy} would act on {len(targets)} at once; at most {action.at_most} are plausible.")
    if foreign := [one.name for one in targets if one.project != context.project]:
        return RefusedAction(f"{', '.join(foreign)} belongs to another project than {context.project}.")
    names = tuple(one.name for one in targets)
    first = context.dependencies_down if action.dependencies_first else ()
    steps = [PlannedStep(doing=doing, service=name) for name in first for doing in (StepSpec.RESTART, StepSpec.VERIFY)]
    if StepSpec.RECREATE not in action.steps and (lost := _lost_networks(context)):
        # Neither a start nor a restart reconnects a container to a network that it was disconnected from.
        steps.append(PlannedStep(doing=StepSpec.JOIN, service=context.service, targets=lost))
    steps += [_step(doing, context.service, names) for doing in action.steps]
    inverse = () if isinstance(action.inverse, Irreversible) else action.inverse
    return ReadyAction(
        action=action,
        targets=targets,
        steps=tuple(steps),
        undo=tuple(_step(doing, context.service, names) for doing in inverse),
    )


def _lost_networks(context: ActionContext) -> tuple[str, ...]:
    """The declared networks that are there, and that a container of the service is not in."""
    application, declaration = context.application, context.declaration
    if application is None or declaration is None:
        return ()
    there = {network.name for network in context.networks}
    declared = [
        network.name
        for network in application.networks
        if network.key in declaration.networks and (network.external or network.name in there)
    ]
    return tuple(name for name in declared if any(name not in seen.networks for seen in context.containers))


def _instead(context: ActionContext) -> str:
    compose = f"docker compose -p {context.project}"
    if not context.containers:
        target = context.environment or context.project
        return f"Make its containers anew, and start them: roas start {target}"
    if any(seen.state == "paused" for seen in context.containers):
        return f"Let it go on: {compose} unpause {context.service}"
    return ""


def _step(doing: StepSpec, service: str, targets: tuple[str, ...]) -> PlannedStep:
    return PlannedStep(doing=doing, service=service, targets=targets if doing in _ON_TARGETS else ())


_ON_TARGETS = frozenset(
    {
        *(StepSpec.STOP_HOLDER, StepSpec.START_HOLDER, StepSpec.REMOVE_IMAGES, StepSpec.REMOVE_NETWORKS),
        *(StepSpec.ROLL_BACK, StepSpec.RUN_SCRIPT),
    }
)


def register(actions: Iterable[Action]) -> Mapping[Strategy, Action]:
    """The actions by strategy: one for each that needs no person.

    Raises:
        TypeError: A strategy has no action or two, or one is a person's.
    """
    listed = tuple(actions)
    known = {action.strategy: action for action in listed}
    wanted = {strategy for strategy in Strategy if strategy.automatic}
    if len(known) != len(listed) or set(known) != wanted:
        odd = sorted(str(one) for one in wanted.symmetric_difference(known)) or ["one of them twice"]
        raise TypeError(f"actions and automatic strategies do not match: {', '.join(odd)}")
    return MappingProxyType(known)


_KEEPS_DATA = Irreversible("What it held in memory is gone; its files and volumes are as before.")

ACTIONS = register(
    (
        Action(
            strategy=Strategy.WAIT_AND_RETRY,
            aim=service_containers,
            at_most=10,
            precondition=may_restart,
            steps=(StepSpec.START, StepSpec.VERIFY),
            proof=ActionProof.SERVICE,
            inverse=Irreversible("Only what did not run is started; what runs is left alone."),
            points=1,
        ),
        Action(
            strategy=Strategy.RESTART_SERVICE,
            aim=service_containers,
            at_most=10,
            precondition=may_restart,
            steps=(StepSpec.RESTART, StepSpec.VERIFY),
            proof=ActionProof.SERVICE,
            inverse=_KEEPS_DATA,
            points=1,
        ),
        Action(
            strategy=Strategy.RESTART_DEPENDENCY_THEN_SERVICE,
            aim=service_and_dependencies,
            at_most=10,
            precondition=may_restart,
            steps=(StepSpec.RESTART, StepSpec.VERIFY),
            proof=ActionProof.SERVICE,
            inverse=_KEEPS_DATA,
            points=2,
            dependencies_first=True,
        ),
        Action(
            strategy=Strategy.RECREATE_CONTAINER,
            aim=service_containers,
            at_most=5,
            precondition=may_recreate,
            steps=(StepSpec.RECREATE, StepSpec.VERIFY),
            proof=ActionProof.SERVICE,
            inverse=Irreversible("The new container is made from the same declaration; named volumes stay."),
            points=2,
        ),
        Action(
            strategy=Strategy.FREE_PORT,
            aim=port_holders,
            at_most=2,
            precondition=may_free_port,
            steps=(StepSpec.STOP_HOLDER, StepSpec.START, StepSpec.VERIFY),
            proof=ActionProof.SERVICE,
            inverse=(StepSpec.START_HOLDER,),
            points=2,
        ),
        Action(
            strategy=Strategy.PULL_IMAGE,
            aim=service_image,
            at_most=1,
            precondition=may_pull,
            steps=(StepSpec.PULL, StepSpec.RECREATE, StepSpec.VERIFY),
            proof=ActionProof.SERVICE,
            inverse=Irreversible("An image that was not there is added; nothing is replaced."),
            points=2,
        ),
        Action(
            strategy=Strategy.PRUNE_DISK,
            aim=dangling_images,
            at_most=50,
            precondition=may_prune_disk,
            steps=(StepSpec.REMOVE_IMAGES, StepSpec.START, StepSpec.VERIFY),
            proof=ActionProof.SERVICE,
            inverse=Irreversible("No name leads to a dangling image, and none that a container uses is removed."),
            points=1,
        ),
        Action(
            strategy=Strategy.CREATE_NETWORK,
            aim=missing_networks,
            at_most=5,
            precondition=may_create_network,
            steps=(StepSpec.RECREATE, StepSpec.VERIFY),
            proof=ActionProof.SERVICE,
            inverse=Irreversible("A declared network is created; nothing else changes."),
            points=2,
        ),
        Action(
            strategy=Strategy.PRUNE_NETWORKS,
            aim=unused_networks,
            at_most=10,
            precondition=may_prune_networks,
            steps=(StepSpec.REMOVE_NETWORKS, StepSpec.START, StepSpec.VERIFY),
            proof=ActionProof.SERVICE,
            inverse=Irreversible("The network is neither declared nor used."),
            points=1,
        ),
        Action(
            strategy=Strategy.ROLL_BACK_RELEASE,
            aim=previous_release,
            at_most=1,
            precondition=may_roll_back,
            steps=(StepSpec.ROLL_BACK,),
            proof=ActionProof.RELEASE,
            inverse=Irreversible("A rollback that fails is undone by itself, like any start."),
            points=2,
        ),
        Action(
            strategy=Strategy.RUN_SCRIPT,
            aim=recovery_script,
            at_most=1,
            precondition=may_run_script,
            steps=(StepSpec.RUN_SCRIPT, StepSpec.VERIFY),
            proof=ActionProof.SERVICE,
            inverse=Irreversible("What a script does, its author answers for."),
            points=2,
        ),
    )
)
"""Every action, by its strategy. Checked when this module is imported."""
