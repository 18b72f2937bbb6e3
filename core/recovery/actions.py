"""Recovery actions: what each acts on, when it may, how it is proven and how it is undone.

An action cannot be made without a precondition and a proof. It names its targets itself, as containers, images,
networks, a release or a script: there is no word for a volume, the engine, a credential or another project.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from models.compose import Application, NetworkFact, PortHolder, ServiceDeclaration
from models.containers import ContainerState
from models.errors import Strategy
from models.recovery import PlannedStep, StepSpec


class TargetKind(StrEnum):
    """What an action may act on."""

    CONTAINER = "container"
    IMAGE = "image"
    NETWORK = "network"
    RELEASE = "release"
    SCRIPT = "script"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionTarget:
    """One thing an action acts on, and the project that owns it."""

    kind: TargetKind
    name: str
    project: str


class ActionProof(StrEnum):
    """How an action is proven to have helped."""

    SERVICE = "the service's own probe answers, and it holds its health for its stabilisation time"
    RELEASE = "every service of the release is proven, as after any start"


@dataclass(frozen=True, slots=True)
class Irreversible:
    """Why an action cannot be taken back, and why it may be done nevertheless."""

    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DanglingImage:
    """An image of the project that no name leads to any more."""

    image_id: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionContext:
    """What is there when an action is about to be taken.

    `application` is None where the Compose files cannot be read. `container_states` are all containers of the
    project, `holders` the containers of any project that hold a port of the host. `anonymous_volumes` are
    those of the service's containers, `networks` the networks of the project, `empty_networks` the names of
    those without a container. `image_held` says whether the engine has the service's image. `release` is the
    proven release before the one that runs, `deployed_ago` how long ago this one was deployed before the error
    began; None where there is none. `script_problem` says why the script may not be run.
    """

    project: str
    service: str
    application: Application | None
    environment: str = ""
    container_states: tuple[ContainerState, ...] = ()
    dependencies_down: tuple[str, ...] = ()
    holders: tuple[PortHolder, ...] = ()
    anonymous_volumes: tuple[str, ...] = ()
    image_held: bool = True
    networks: tuple[NetworkFact, ...] = ()
    empty_networks: tuple[str, ...] = ()
    dangling: tuple[DanglingImage, ...] = ()
    release: str | None = None
    deployed_ago: timedelta | None = None
    roll_back_within: timedelta = timedelta()
    script: str | None = None
    script_problem: str | None = None

    @property
    def containers(self) -> tuple[ContainerState, ...]:
        """The service's own containers."""
        return tuple(seen for seen in self.container_states if seen.service == self.service and not seen.one_off)

    @property
    def declaration(self) -> ServiceDeclaration | None:
        """The service as the Compose files declare it; None where they do not."""
        return None if self.application is None else self.application.services.get(self.service)


Aim = Callable[[ActionContext], tuple[ActionTarget, ...]]
"""All that an action would act on."""

Precondition = Callable[[ActionContext], str | None]
"""Why an action may not be taken; None where it may."""


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
        """Check at run time as well what the types demand: a None from elsewhere must not pass."""
        if not callable(self.precondition) or not callable(self.aim):
            raise TypeError(f"{self.strategy} has no precondition or no aim, so it may not be taken")
        proven = self.steps[-1:] == (StepSpec.VERIFY,) or self.proof is ActionProof.RELEASE
        if not isinstance(self.proof, ActionProof) or not proven:
            raise TypeError(f"{self.strategy} is not verified, so it may not be taken")
        if not self.inverse or self.at_most < 1 or self.points < 1:
            raise TypeError(f"{self.strategy} has no inverse, no bound or no cost, so it may not be taken")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyAction:
    """An action that may be taken now, step by step, and the steps that take it back."""

    action: Action
    targets: tuple[ActionTarget, ...]
    steps: tuple[PlannedStep, ...]
    undo: tuple[PlannedStep, ...]


@dataclass(frozen=True, slots=True)
class RefusedAction:
    """Why an action may not be taken now, and what a person does instead where that is one command."""

    because: str
    instead: str = ""


def prepare(strategy: Strategy, action_context: ActionContext) -> ReadyAction | RefusedAction:
    """Check an action against what is there, and list its steps.

    Refused where its precondition does not hold, and where its targets are none, more than is plausible, or
    not all of the own project.
    """
    action = ACTIONS[strategy]
    if hindrance := action.precondition(action_context):
        return RefusedAction(hindrance, _instead(action_context))
    targets = action.aim(action_context)
    if not targets:
        return RefusedAction(f"{strategy} finds nothing to act on, and nothing never means everything.")
    if len(targets) > action.at_most:
        return RefusedAction(f"{strategy} would act on {len(targets)} at once; at most {action.at_most} are plausible.")
    if foreign := [one.name for one in targets if one.project != action_context.project]:
        return RefusedAction(f"{', '.join(foreign)} belongs to another project than {action_context.project}.")
    names = tuple(one.name for one in targets)
    first = action_context.dependencies_down if action.dependencies_first else ()
    steps = [PlannedStep(doing=doing, service=name) for name in first for doing in (StepSpec.RESTART, StepSpec.VERIFY)]
    if StepSpec.RECREATE not in action.steps and (lost := _lost_networks(action_context)):
        # Neither a start nor a restart brings a container back into a network that somebody took it out of.
        steps.append(PlannedStep(doing=StepSpec.JOIN, service=action_context.service, targets=lost))
    steps += [_step(doing, action_context.service, names) for doing in action.steps]
    inverse = () if isinstance(action.inverse, Irreversible) else action.inverse
    return ReadyAction(
        action=action,
        targets=targets,
        steps=tuple(steps),
        undo=tuple(_step(doing, action_context.service, names) for doing in inverse),
    )


def _lost_networks(action_context: ActionContext) -> tuple[str, ...]:
    """The declared networks that are there, and that a container of the service is not in."""
    application, declaration = action_context.application, action_context.declaration
    if application is None or declaration is None:
        return ()
    there = {network.name for network in action_context.networks}
    declared = [
        network.name
        for network in application.networks
        if network.key in declaration.networks and (network.external or network.name in there)
    ]
    return tuple(name for name in declared if any(name not in seen.networks for seen in action_context.containers))


def _instead(action_context: ActionContext) -> str:
    compose = f"docker compose -p {action_context.project}"
    if not action_context.containers:
        target = action_context.environment or action_context.project
        return f"Make its containers anew, and start them: roas start {target}"
    if any(seen.state == "paused" for seen in action_context.containers):
        return f"Let it go on: {compose} unpause {action_context.service}"
    return ""


def _step(doing: StepSpec, service: str, targets: tuple[str, ...]) -> PlannedStep:
    return PlannedStep(doing=doing, service=service, targets=targets if doing in _ON_TARGETS else ())


_ON_TARGETS = frozenset(
    {
        *(StepSpec.STOP_HOLDER, StepSpec.START_HOLDER, StepSpec.REMOVE_IMAGES, StepSpec.REMOVE_NETWORKS),
        *(StepSpec.ROLL_BACK, StepSpec.RUN_SCRIPT),
    }
)


def _containers(action_context: ActionContext) -> tuple[ActionTarget, ...]:
    return tuple(
        ActionTarget(kind=TargetKind.CONTAINER, name=seen.container_id, project=seen.project)
        for seen in action_context.containers
    )


def _with_dependencies(action_context: ActionContext) -> tuple[ActionTarget, ...]:
    down = [
        seen
        for seen in action_context.container_states
        if seen.service in action_context.dependencies_down and not seen.one_off
    ]
    return _containers(action_context) + tuple(
        ActionTarget(kind=TargetKind.CONTAINER, name=seen.container_id, project=seen.project) for seen in down
    )


def _holders(action_context: ActionContext) -> tuple[ActionTarget, ...]:
    return tuple(
        ActionTarget(kind=TargetKind.CONTAINER, name=holder.container, project=holder.project)
        for holder in {one.container: one for one in _in_the_way(action_context)}.values()
    )


def _image(action_context: ActionContext) -> tuple[ActionTarget, ...]:
    declaration = action_context.declaration
    if declaration is None:
        return ()
    return (ActionTarget(kind=TargetKind.IMAGE, name=declaration.image, project=action_context.project),)


def _dangling(action_context: ActionContext) -> tuple[ActionTarget, ...]:
    return tuple(
        ActionTarget(kind=TargetKind.IMAGE, name=one.image_id, project=action_context.project)
        for one in action_context.dangling
    )


def _missing_networks(action_context: ActionContext) -> tuple[ActionTarget, ...]:
    there = {network.name for network in action_context.networks}
    return tuple(
        ActionTarget(kind=TargetKind.NETWORK, name=network.name, project=action_context.project)
        for network in (action_context.application.networks if action_context.application else ())
        if not network.external and network.name not in there
    )


def _empty_networks(action_context: ActionContext) -> tuple[ActionTarget, ...]:
    declared = {network.name for network in (action_context.application.networks if action_context.application else ())}
    return tuple(
        ActionTarget(kind=TargetKind.NETWORK, name=network.name, project=network.project)
        for network in action_context.networks
        if network.name in action_context.empty_networks and network.name not in declared
    )


def _release(action_context: ActionContext) -> tuple[ActionTarget, ...]:
    if action_context.release is None:
        return ()
    return (ActionTarget(kind=TargetKind.RELEASE, name=action_context.release, project=action_context.project),)


def _script(action_context: ActionContext) -> tuple[ActionTarget, ...]:
    if action_context.script is None:
        return ()
    return (ActionTarget(kind=TargetKind.SCRIPT, name=action_context.script, project=action_context.project),)


def _may_restart(action_context: ActionContext) -> str | None:
    name = action_context.service
    if not action_context.containers:
        return f"{name} has no container; only a start makes new ones."
    if any(seen.state == "paused" for seen in action_context.containers):
        return f"A person paused {name}."
    if any(seen.state == "running" and seen.health == "starting" for seen in action_context.containers):
        return f"{name} is still starting; its health check has the word."
    return None


def _may_recreate(action_context: ActionContext) -> str | None:
    name, declaration = action_context.service, action_context.declaration
    if declaration is None:
        return f"What {name} is to be made from is not known: the Compose files do not tell."
    if not action_context.containers:
        return f"{name} has no container; only a start makes new ones."
    if action_context.anonymous_volumes:
        count = len(action_context.anonymous_volumes)
        return f"{name} keeps data in {count} volumes without a name, which would be left behind."
    if declaration.config_hash and any(
        seen.config_hash != declaration.config_hash for seen in action_context.containers
    ):
        return f"The files of {name} have changed since it was started: a start applies that, no recovery does."
    return None


def _may_free_port(action_context: ActionContext) -> str | None:
    declaration = action_context.declaration
    if declaration is None or not _wanted_ports(declaration):
        return f"{action_context.service} asks for no port of the host that is known."
    if not action_context.containers:
        return f"{action_context.service} has no container; only a start makes new ones."
    holders = _in_the_way(action_context)
    if not holders:
        return f"No container holds a port of {action_context.service}; a process of the host is a person's to end."
    if foreign := sorted({holder.container for holder in holders if holder.project != action_context.project}):
        return f"{', '.join(foreign)} holds the port and belongs to somebody else."
    one_off = {seen.name for seen in action_context.container_states if seen.one_off}
    declared = action_context.application.services if action_context.application else {}
    if current := sorted({one.service for one in holders if one.service in declared and one.container not in one_off}):
        return f"{', '.join(current)} is declared with the same port: one of the two must get another."
    return None


def _may_pull(action_context: ActionContext) -> str | None:
    declaration = action_context.declaration
    if declaration is None or not declaration.image:
        return f"The image of {action_context.service} is not known: the Compose files do not tell."
    if declaration.build:
        return f"The image of {action_context.service} is built here, not pulled."
    if action_context.image_held:
        return f"The engine has {declaration.image}; pulling it again could change what runs."
    return _may_recreate(action_context) if action_context.containers else None


def _may_prune_disk(action_context: ActionContext) -> str | None:
    if not action_context.dangling:
        return f"{action_context.project} has no dangling images; what else fills the disk is a person's to judge."
    return _may_restart(action_context)


def _may_create_network(action_context: ActionContext) -> str | None:
    if action_context.application is None:
        return "Which networks there should be is not known: the Compose files do not tell."
    if not _missing_networks(action_context):
        return "Every network the application declares itself is there."
    return _may_recreate(action_context)


def _may_prune_networks(action_context: ActionContext) -> str | None:
    if action_context.application is None:
        return "Which networks are still wanted is not known: the Compose files do not tell."
    if not _empty_networks(action_context):
        return f"{action_context.project} has no network that is neither declared nor used."
    return _may_restart(action_context)


def _may_roll_back(action_context: ActionContext) -> str | None:
    if action_context.release is None:
        return "There is no proven release before this one to go back to."
    if action_context.deployed_ago is None or action_context.deployed_ago > action_context.roll_back_within:
        return (
            "The error did not begin soon after a deployment"
            f" (within {action_context.roll_back_within.total_seconds():.0f} s), so going back may not be the answer."
        )
    return None


def _may_run_script(action_context: ActionContext) -> str | None:
    return action_context.script_problem or _may_restart(action_context)


def _wanted_ports(declaration: ServiceDeclaration) -> set[tuple[int, str]]:
    return {(port.published, port.protocol) for port in declaration.ports if port.published is not None}


def _in_the_way(action_context: ActionContext) -> list[PortHolder]:
    declaration = action_context.declaration
    wanted = _wanted_ports(declaration) if declaration else set()
    mine = {seen.name for seen in action_context.containers}
    return [one for one in action_context.holders if (one.port, one.protocol) in wanted and one.container not in mine]


def left_to_restart(
    mine: Sequence[ContainerState], *, since: datetime | None, asked_to_end: Collection[str]
) -> list[ContainerState]:
    """The containers that a restart has still to act on, where another runner began it at `since` and is gone.

    `asked_to_end` are those that the engine was told to end since then: it starts them again by itself. What is not
    up is to be started in any case.
    """
    if since is None:
        return list(mine)
    return [
        seen
        for seen in mine
        if not seen.up or (seen.container_id not in asked_to_end and not _after(seen.started_at, since))
    ]


def all_made_since(since: datetime | None, mine: Sequence[ContainerState]) -> bool:
    """Whether all containers were made anew by a runner that began it at `since` and is gone, all but the start."""
    return since is not None and bool(mine) and all(_after(seen.created_at, since) for seen in mine)


def _after(moment: datetime | None, since: datetime) -> bool:
    return moment is not None and moment > since


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
            aim=_containers,
            at_most=10,
            precondition=_may_restart,
            steps=(StepSpec.START, StepSpec.VERIFY),
            proof=ActionProof.SERVICE,
            inverse=Irreversible("Only what did not run is started; what runs is left alone."),
            points=1,
        ),
        Action(
            strategy=Strategy.RESTART_SERVICE,
            aim=_containers,
            at_most=10,
            precondition=_may_restart,
            steps=(StepSpec.RESTART, StepSpec.VERIFY),
            proof=ActionProof.SERVICE,
            inverse=_KEEPS_DATA,
            points=1,
        ),
        Action(
            strategy=Strategy.RESTART_DEPENDENCY_THEN_SERVICE,
            aim=_with_dependencies,
            at_most=10,
            precondition=_may_restart,
            steps=(StepSpec.RESTART, StepSpec.VERIFY),
            proof=ActionProof.SERVICE,
            inverse=_KEEPS_DATA,
            points=2,
            dependencies_first=True,
        ),
        Action(
            strategy=Strategy.RECREATE_CONTAINER,
            aim=_containers,
            at_most=5,
            precondition=_may_recreate,
            steps=(StepSpec.RECREATE, StepSpec.VERIFY),
            proof=ActionProof.SERVICE,
            inverse=Irreversible("The new container is made from the same declaration; named volumes stay."),
            points=2,
        ),
        Action(
            strategy=Strategy.FREE_PORT,
            aim=_holders,
            at_most=2,
            precondition=_may_free_port,
            steps=(StepSpec.STOP_HOLDER, StepSpec.START, StepSpec.VERIFY),
            proof=ActionProof.SERVICE,
            inverse=(StepSpec.START_HOLDER,),
            points=2,
        ),
        Action(
            strategy=Strategy.PULL_IMAGE,
            aim=_image,
            at_most=1,
            precondition=_may_pull,
            steps=(StepSpec.PULL, StepSpec.RECREATE, StepSpec.VERIFY),
            proof=ActionProof.SERVICE,
            inverse=Irreversible("An image that was not there is added; nothing is replaced."),
            points=2,
        ),
        Action(
            strategy=Strategy.PRUNE_DISK,
            aim=_dangling,
            at_most=50,
            precondition=_may_prune_disk,
            steps=(StepSpec.REMOVE_IMAGES, StepSpec.START, StepSpec.VERIFY),
            proof=ActionProof.SERVICE,
            inverse=Irreversible("No name leads to a dangling image, and none that a container uses is removed."),
            points=1,
        ),
        Action(
            strategy=Strategy.CREATE_NETWORK,
            aim=_missing_networks,
            at_most=5,
            precondition=_may_create_network,
            steps=(StepSpec.RECREATE, StepSpec.VERIFY),
            proof=ActionProof.SERVICE,
            inverse=Irreversible("A declared network is made; it takes nothing from anybody."),
            points=2,
        ),
        Action(
            strategy=Strategy.PRUNE_NETWORKS,
            aim=_empty_networks,
            at_most=10,
            precondition=_may_prune_networks,
            steps=(StepSpec.REMOVE_NETWORKS, StepSpec.START, StepSpec.VERIFY),
            proof=ActionProof.SERVICE,
            inverse=Irreversible("A network that nothing declares and nothing uses is missed by nobody."),
            points=1,
        ),
        Action(
            strategy=Strategy.ROLL_BACK_RELEASE,
            aim=_release,
            at_most=1,
            precondition=_may_roll_back,
            steps=(StepSpec.ROLL_BACK,),
            proof=ActionProof.RELEASE,
            inverse=Irreversible("A rollback that fails is undone by itself, like any start."),
            points=2,
        ),
        Action(
            strategy=Strategy.RUN_SCRIPT,
            aim=_script,
            at_most=1,
            precondition=_may_run_script,
            steps=(StepSpec.RUN_SCRIPT, StepSpec.VERIFY),
            proof=ActionProof.SERVICE,
            inverse=Irreversible("What a script does, its author answers for."),
            points=2,
        ),
    )
)
"""Every action, by its strategy. Checked when this module is imported."""
