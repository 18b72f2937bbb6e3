"""Define the recovery actions: targets, steps, proof and rollback of each; facts.py says what allows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from core.recovery import action_targets as of
from core.recovery.action_targets import ActionContext, ActionTarget
from core.recovery.facts import REQUIRED_FACTS, lacking_fact
from models.errors import Strategy
from models.recovery import PlannedStep, StepSpec


@dataclass(frozen=True, slots=True)
class Action:
    """One way to recover: what it acts on, and its steps.

    - `inverse`: the steps that roll it back, or why it is allowed without any.
    - `at_most`: the most targets that are plausible; more are refused.
    - `points`: what it takes of the budgets of the service and the host.
    - `dependencies_first`: restart and prove first what the service needs and lacks.

    Raises TypeError where a part that makes it safe is missing, such as the proof, its last step.
    """

    strategy: Strategy
    aim: Callable[[ActionContext], tuple[ActionTarget, ...]]
    steps: tuple[StepSpec, ...]
    inverse: tuple[StepSpec, ...] | str
    at_most: int
    points: int
    dependencies_first: bool = False

    def __post_init__(self) -> None:
        """Check the required parts at run time, too."""
        if self.strategy not in REQUIRED_FACTS or not callable(self.aim):
            raise TypeError(f"{self.strategy} has no required facts or no aim, so it may not be taken")
        # A rollback proves every service of its release, as any start does.
        if self.steps[-1:] not in ((StepSpec.VERIFY,), (StepSpec.ROLL_BACK,)):
            raise TypeError(f"{self.strategy} is not verified, so it may not be taken")
        if not self.inverse or self.at_most < 1 or self.points < 1:
            raise TypeError(f"{self.strategy} has no inverse, no bound or no cost, so it may not be taken")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyAction:
    """An allowed action: the names of its targets, its steps, and the steps that roll it back."""

    targets: tuple[str, ...]
    steps: tuple[PlannedStep, ...]
    undo: tuple[PlannedStep, ...]


@dataclass(frozen=True, slots=True)
class RefusedAction:
    """Why an action is not allowed now, and the command for a person instead, if there is one."""

    because: str
    instead: str = ""


def prepare(strategy: Strategy, context: ActionContext) -> ReadyAction | RefusedAction:
    """Check the facts and the targets of an action, and list its steps.

    Refused if a fact is lacking, or if the targets are none, too many, or of another project.
    """
    action = ACTIONS[strategy]
    if lacking := lacking_fact(strategy, context):
        return RefusedAction(lacking, _instead(context))
    targets = action.aim(context)
    if not targets:
        return RefusedAction(f"{strategy} finds nothing to act on, and nothing never means everything.")
    if len(targets) > action.at_most:
        return RefusedAction(f"{strategy} would act on {len(targets)} at once; at most {action.at_most} are plausible.")
    if foreign := [target.name for target in targets if target.project != context.project]:
        return RefusedAction(f"{', '.join(foreign)} belongs to another project than {context.project}.")
    names = tuple(target.name for target in targets)
    first = context.dependencies_down if action.dependencies_first else ()
    steps = [PlannedStep(doing=doing, service=name) for name in first for doing in (StepSpec.RESTART, StepSpec.VERIFY)]
    if StepSpec.RECREATE not in action.steps and (networks := _lost_networks(context)):
        # Neither a start nor a restart reconnects a container to a network that it was disconnected from.
        steps.append(PlannedStep(doing=StepSpec.JOIN, service=context.service, targets=networks))
    steps += [_step(doing, context.service, names) for doing in action.steps]
    inverse = () if isinstance(action.inverse, str) else action.inverse
    undo = tuple(_step(doing, context.service, names) for doing in inverse)
    return ReadyAction(targets=names, steps=tuple(steps), undo=undo)


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
    return tuple(name for name in declared if any(name not in container.networks for container in context.containers))


def _instead(context: ActionContext) -> str:
    if not context.containers:
        target = context.environment or context.project
        return f"Make its containers anew, and start them: roas start {target}"
    if any(container.state == "paused" for container in context.containers):
        paused = " ".join(container.name for container in context.containers if container.state == "paused")
        return f"Unpause it: docker unpause {paused}"
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
    """The actions by strategy, one for each automatic one. Raises TypeError if one lacks, is double or manual."""
    listed = tuple(actions)
    by_strategy = {action.strategy: action for action in listed}
    automatic = {strategy for strategy in Strategy if strategy.automatic}
    if len(by_strategy) != len(listed) or set(by_strategy) != automatic:
        odd = sorted(str(strategy) for strategy in automatic.symmetric_difference(by_strategy)) or ["one of them twice"]
        raise TypeError(f"actions and automatic strategies do not match: {', '.join(odd)}")
    return MappingProxyType(by_strategy)


_KEEPS_DATA = "What it held in memory is gone; its files and volumes are as before."

ACTIONS = register(
    (
        Action(
            Strategy.WAIT_AND_RETRY, of.service_containers, (StepSpec.START, StepSpec.VERIFY),
            "Only what did not run is started; what runs is left alone.", at_most=10, points=1,
        ),
        Action(
            Strategy.RESTART_SERVICE, of.service_containers, (StepSpec.RESTART, StepSpec.VERIFY),
            _KEEPS_DATA, at_most=10, points=1,
        ),
        Action(
            Strategy.RESTART_DEPENDENCY_THEN_SERVICE, of.service_and_dependencies,
            (StepSpec.RESTART, StepSpec.VERIFY),
            _KEEPS_DATA, at_most=10, points=2, dependencies_first=True,
        ),
        Action(
            Strategy.RECREATE_CONTAINER, of.service_containers, (StepSpec.RECREATE, StepSpec.VERIFY),
            "The new container is made from the same declaration; named volumes stay.", at_most=5, points=2,
        ),
        Action(
            Strategy.FREE_PORT, of.port_holders,
            (StepSpec.STOP_HOLDER, StepSpec.START, StepSpec.VERIFY),
            (StepSpec.START_HOLDER,), at_most=2, points=2,
        ),
        Action(
            Strategy.PULL_IMAGE, of.service_image, (StepSpec.PULL, StepSpec.RECREATE, StepSpec.VERIFY),
            "An image that was not there is added; nothing is replaced.", at_most=1, points=2,
        ),
        Action(
            Strategy.PRUNE_DISK, of.dangling_images,
            (StepSpec.REMOVE_IMAGES, StepSpec.START, StepSpec.VERIFY),
            "No name leads to a dangling image, and none that a container uses is removed.", at_most=50, points=1,
        ),
        Action(
            Strategy.CREATE_NETWORK, of.missing_networks, (StepSpec.RECREATE, StepSpec.VERIFY),
            "A declared network is created; nothing else changes.", at_most=5, points=2,
        ),
        Action(
            Strategy.PRUNE_NETWORKS, of.unused_networks,
            (StepSpec.REMOVE_NETWORKS, StepSpec.START, StepSpec.VERIFY),
            "The network is neither declared nor used.", at_most=10, points=1,
        ),
        Action(
            Strategy.ROLL_BACK_RELEASE, of.previous_release, (StepSpec.ROLL_BACK,),
            "A rollback that fails is undone by itself, like any start.", at_most=1, points=2,
        ),
        Action(
            Strategy.RUN_SCRIPT, of.recovery_script, (StepSpec.RUN_SCRIPT, StepSpec.VERIFY),
            "What a script does, its author answers for.", at_most=1, points=2,
        ),
    )
)  # fmt: skip
"""Every action, by its strategy. Checked when this module is imported."""
