"""Facts that allow an action: text may propose one, only what the engine reports at that moment allows it.

`REQUIRED_FACTS` is the table: strategy -> the fact that enables it, and the checks that say what is lacking. A check
returns a sentence, None if its fact holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from core.common.exit_codes import describe_exit
from core.common.networks import lost_networks
from core.recovery.action_targets import (
    ActionContext,
    holders_of_wanted_ports,
    missing_networks,
    unused_networks,
    wanted_ports,
)
from core.recovery.tracker import LOOP
from models.containers import ContainerState
from models.errors import Strategy
from models.recovery import RecoveryStep, StepSpec

DISK_IS_FULL_PERCENT = 90.0
"""From this use of the engine's disk on, images may be removed."""

_STARTS = frozenset({StepSpec.START, StepSpec.RESTART, StepSpec.RECREATE})

_LOOPS_WITHIN = timedelta(minutes=1)
"""The engine waits up to a minute before it restarts what keeps ending."""

Check = Callable[[ActionContext], str | None]


@dataclass(frozen=True, slots=True)
class RequiredFacts:
    """What an action needs to be true.

    `fact` is the enabling fact, as a clause. `checks` hold for everybody; `unasked` only where no person decided.
    """

    fact: str
    checks: tuple[Check, ...]
    unasked: tuple[Check, ...]


def lacking_fact(strategy: Strategy, context: ActionContext) -> str | None:
    """Return the fact that an action lacks, as a sentence; None if it may be taken."""
    required = REQUIRED_FACTS[strategy]
    checks = required.checks if context.decided else (*required.checks, *required.unasked)
    return next((sentence for check in checks if (sentence := check(context)) is not None), None)


def without_lost_starts(
    steps: Sequence[RecoveryStep], containers: Sequence[ContainerState]
) -> tuple[RecoveryStep, ...]:
    """The steps of an attempt that was cut off which still hold: a start does not where its container failed since."""
    ends: dict[str, datetime] = {}
    for container in containers:
        if not container.up and container.exit_code != 0 and container.finished_at is not None:
            ends[container.service] = max(container.finished_at, ends.get(container.service, container.finished_at))
    starts = [step for step in steps if step.ok and step.name in _STARTS]
    failures = [step for step in starts if step.ended_at and ends.get(step.target, step.ended_at) > step.ended_at]
    return tuple(step for step in steps if step not in failures and not (failures and step.name == StepSpec.VERIFY))


def would_need(strategy: Strategy) -> str | None:
    """Return the fact without which a strategy is a person's; None for one that is a person's in any case."""
    required = REQUIRED_FACTS.get(strategy)
    return required.fact if required else None


def shows_failure(context: ActionContext) -> bool:
    """Whether the containers themselves show a failure, so that no probe has to be asked."""
    return any(
        _has_ended(context, container) or _loops(container) or _unhealthy(container) for container in context.containers
    )


def is_well(context: ActionContext) -> bool:
    """Whether every container of the service runs, is not starting, and no check of it fails."""
    up = bool(context.containers) and all(container.state == "running" for container in context.containers)
    starting = any(container.health == "starting" for container in context.containers)
    return up and not starting and context.probe_passes is not False and not shows_failure(context)


def _has_ended(context: ActionContext, container: ContainerState) -> bool:
    """Whether a container ended by itself, or could not be started, and its service is to stay up."""
    if container.state == "created":
        return bool(container.error)
    if container.state not in ("exited", "dead"):
        return False
    if container.exit_code or container.oom_killed or container.error:
        return True
    # Exit code 0 is the end of a job, and a failure of what Compose keeps up.
    return context.declaration is not None and not context.declaration.one_shot


def _unhealthy(container: ContainerState) -> bool:
    """Whether a container's health check failed as often in a row as its retries allow."""
    return container.state == "running" and container.health == "unhealthy"


def _loops(container: ContainerState) -> bool:
    if container.state == "restarting":
        return True
    recent = container.started_at is not None and container.seen_at - container.started_at < _LOOPS_WITHIN
    return container.state == "running" and container.restart_count >= LOOP and recent


def _has_container(context: ActionContext) -> str | None:
    return None if context.containers else f"{context.service} has no container; only a start makes new ones."


def _not_paused(context: ActionContext) -> str | None:
    if any(container.state == "paused" for container in context.containers):
        return f"A person paused {context.service}."
    return None


def _not_stopped(context: ActionContext) -> str | None:
    return f"A person stopped {context.service}, so it stays stopped." if context.stopped_by_person else None


def _not_starting(context: ActionContext) -> str | None:
    if any(container.state == "running" and container.health == "starting" for container in context.containers):
        return f"{context.service} is still starting; its health check has the word."
    return None


def _not_looping(context: ActionContext) -> str | None:
    looping = next((container for container in context.containers if _loops(container)), None)
    if looping is None:
        return None
    times = f", {looping.restart_count} times so far" if looping.restart_count else ""
    return f"The engine restarts {context.service} already{times}; one more restart would add nothing."


def _failed_service(context: ActionContext) -> str | None:
    """The service ended by itself, is unhealthy past its retries, or its own probe fails."""
    if (
        any(_has_ended(context, container) or _unhealthy(container) for container in context.containers)
        or context.probe_passes is False
    ):
        return None
    return _why_not_failed(context)


def _failed_or_loops(context: ActionContext) -> str | None:
    return None if _not_looping(context) else _failed_service(context)


def _why_not_failed(context: ActionContext) -> str:
    if not context.containers:
        return f"{context.service} has no container; only a start makes new ones."
    done = [container for container in context.containers if container.state == "exited"]
    if done:
        return f"{context.service} ended with {describe_exit(done[0])}, and nothing shows that it is to stay up."
    if not any(container.state == "running" for container in context.containers):
        return f"{context.service} did not fail: its container is {context.containers[0].state}."
    return f"{context.service} runs, and none of its checks fails."


def _does_not_serve(context: ActionContext) -> str | None:
    """A healthy container is not stopped or replaced for what a line of a log says."""
    running = [container for container in context.containers if container.state == "running"]
    healthy = context.probe_passes or any(container.health == "healthy" for container in running)
    return f"{context.service} is healthy." if running and healthy and context.probe_passes is not False else None


def _is_down(context: ActionContext) -> str | None:
    if any(container.up for container in context.containers):
        return f"{context.service} runs, so it was not kept from starting."
    return None


def _dependency_down(context: ActionContext) -> str | None:
    down = context.dependencies_down
    if not down:
        return f"None of the dependencies that {context.service} declares is down."
    declared = context.application.services if context.application else {}
    if unknown := [name for name in down if name not in declared]:
        return f"{', '.join(unknown)} is not declared here, so nothing is known of it."
    paused = {container.service for container in context.container_states if container.state == "paused"}
    if paused_dependencies := [name for name in down if name in paused]:
        return f"A person paused {', '.join(paused_dependencies)}."
    return None


def _dependencies_connected(context: ActionContext) -> str | None:
    """A service does not reach a dependency that is off its network, however often either is restarted."""
    application, declaration = context.application, context.declaration
    if application is None or declaration is None:
        return None
    for name in sorted({*declaration.depends_on, *context.needs}):
        if networks := lost_networks(name, application, context.container_states):
            return f"{name} is not connected to network {', '.join(networks)}, and a restart does not connect it."
    return None


def _can_be_recreated(context: ActionContext) -> str | None:
    name, declaration = context.service, context.declaration
    if declaration is None:
        return f"The declaration of {name} is unknown: the Compose files could not be read or do not contain it."
    if not context.containers:
        return _has_container(context)
    if context.anonymous_volumes:
        count = len(context.anonymous_volumes)
        return f"{name} keeps data in {count} volumes without a name, which would be left behind."
    if any(container.copies for container in context.containers):
        return f"{name} runs with files that a rollback brought back: a start mounts those on disk, no recovery does."
    if declaration.config_hash and any(
        container.config_hash != declaration.config_hash for container in context.containers
    ):
        return f"The files of {name} have changed since it was started: a start applies that, no recovery does."
    return None


def _image_as_it_runs(context: ActionContext) -> str | None:
    """A new container would be of another image, which nothing has proven and may be held back."""
    image = context.declaration.image if context.declaration else ""
    if not context.image_held:
        return f"The engine has {image} no more, so a new container would be of one that is fetched or built now."
    if context.image_moved:
        return f"{image} means another image now than the one that runs: an update takes it, no recovery does."
    return None


def _port_held_by_left_over(context: ActionContext) -> str | None:
    if not wanted_ports(context):
        return f"{context.service} asks for no port of the host that is known."
    if not context.containers:
        return _has_container(context)
    holders = holders_of_wanted_ports(context)
    if not holders:
        return f"No container holds a port of {context.service}; a process of the host is a person's to end."
    if foreign := sorted({holder.container for holder in holders if holder.project != context.project}):
        return f"{', '.join(foreign)} holds the port and belongs to another project."
    one_off = {container.name for container in context.container_states if container.one_off}
    declared = context.application.services if context.application else {}
    if current := sorted(
        {holder.service for holder in holders if holder.service in declared and holder.container not in one_off}
    ):
        return f"{', '.join(current)} is declared with the same port: one of the two must get another."
    return None


def _image_missing(context: ActionContext) -> str | None:
    declaration = context.declaration
    if declaration is None or not declaration.image:
        return f"The image of {context.service} is unknown: the Compose files do not name it."
    if declaration.build:
        return f"The image of {context.service} is built here, not pulled."
    if context.image_held:
        return f"The engine has {declaration.image}; pulling it again could change what runs."
    return _can_be_recreated(context) if context.containers else None


def _disk_is_full(context: ActionContext) -> str | None:
    if context.disk_percent is None:
        return "How full the disk of the engine is could not be measured."
    if context.disk_percent < DISK_IS_FULL_PERCENT:
        return (
            f"The disk of the engine is {context.disk_percent:.0f} % full; images are removed only from"
            f" {DISK_IS_FULL_PERCENT:.0f} % on."
        )
    return None


def _images_dangle(context: ActionContext) -> str | None:
    if not context.dangling:
        return f"{context.project} has no dangling images to remove; a person has to make room."
    return None


def _network_missing(context: ActionContext) -> str | None:
    if context.application is None:
        return "The declared networks are unknown: the Compose files could not be read."
    if not missing_networks(context):
        return "Every network the application declares itself is there."
    return None


def _network_unused(context: ActionContext) -> str | None:
    if context.application is None:
        return "The declared networks are unknown: the Compose files could not be read."
    if not unused_networks(context):
        return f"{context.project} has no network that is neither declared nor used."
    return None


def _release_before(context: ActionContext) -> str | None:
    if context.release is None:
        return "There is no proven release before this one to go back to."
    if context.deployed_ago is None or context.deployed_ago > context.roll_back_within:
        return (
            "The error did not begin soon after a deployment"
            f" (within {context.roll_back_within.total_seconds():.0f} s), so going back may not be the answer."
        )
    return None


_THERE = (_has_container, _not_paused, _not_starting)

REQUIRED_FACTS: Mapping[Strategy, RequiredFacts] = MappingProxyType(
    {
        Strategy.WAIT_AND_RETRY: RequiredFacts(
            "the container of the service ended without a request to stop it, or is unhealthy past its retries",
            # A person's answer may come while it starts: then nothing is started, and its health check decides.
            (_has_container, _not_paused),
            (_not_starting, _not_stopped, _failed_or_loops),
        ),
        Strategy.RESTART_SERVICE: RequiredFacts(
            "the container of the service exited by itself, was killed for memory, or is unhealthy past its retries,"
            " and the engine does not restart it already",
            (*_THERE, _dependencies_connected),
            (_not_stopped, _not_looping, _failed_service),
        ),
        Strategy.RESTART_DEPENDENCY_THEN_SERVICE: RequiredFacts(
            "a dependency that the service declares is seen down",
            (*_THERE, _dependency_down, _dependencies_connected),
            (_not_stopped, _does_not_serve),
        ),
        Strategy.RECREATE_CONTAINER: RequiredFacts(
            "the container of the service is not healthy, its declaration and image are unchanged, and it has no volume"
            " without a name",
            (_can_be_recreated, _image_as_it_runs, _not_paused, _not_starting),
            (_not_stopped, _does_not_serve),
        ),
        Strategy.FREE_PORT: RequiredFacts(
            "the service is down, and a left-over container of the same project holds its port",
            (_port_held_by_left_over, _not_paused),
            (_not_stopped, _is_down),
        ),
        Strategy.PULL_IMAGE: RequiredFacts(
            "the service is down, and the engine does not have its image",
            (_image_missing, _not_paused),
            (_not_stopped, _is_down),
        ),
        Strategy.PRUNE_DISK: RequiredFacts(
            f"the disk of the engine is at least {DISK_IS_FULL_PERCENT:.0f} % full, and the project has dangling"
            " images",
            (_images_dangle, *_THERE),
            (_not_stopped, _disk_is_full),
        ),
        Strategy.CREATE_NETWORK: RequiredFacts(
            "a network that the application declares, and that is not external, is missing",
            (_network_missing, _can_be_recreated, _image_as_it_runs, _not_paused, _not_starting),
            (_not_stopped, _does_not_serve),
        ),
        Strategy.PRUNE_NETWORKS: RequiredFacts(
            "the project has a network that is neither declared nor used",
            (_network_unused, *_THERE),
            (_not_stopped, _does_not_serve),
        ),
        Strategy.ROLL_BACK_RELEASE: RequiredFacts(
            "the service failed soon after a deployment, and a release before it was proven",
            (_release_before,),
            (_not_stopped, _not_paused, _failed_or_loops),
        ),
        Strategy.RUN_SCRIPT: RequiredFacts(
            "the service failed, and the pattern names a script that may run",
            (lambda context: context.script_problem, *_THERE),
            (_not_stopped, _failed_or_loops),
        ),
    }
)
"""The facts that each automatic strategy needs."""
