"""Describe the result of a stop: killed containers, and what a stop leaves alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from core.common.exit_codes import describe_exit
from models.compose import Application
from models.containers import ContainerState

KILLED = 137
"""The exit code of what did not end within its grace period."""


def how_it_stopped(after: Sequence[ContainerState], grace: timedelta, took: timedelta) -> str:
    """Describe in one sentence how the containers of a service stopped.

    `took` is how long the engine needed: exit code 137 before the grace period ended has another origin.
    """
    ended = [container for container in after if container.exit_code == KILLED and not container.oom_killed]
    killed = [container.name for container in ended] if took >= grace else []
    if killed:
        return (
            f"{', '.join(killed)} did not end within the grace period of {grace.total_seconds():g} s and was killed "
            f"(exit code {KILLED})"
        )
    ends = sorted({describe_exit(container) for container in after if container.exit_code != 0})
    return f"it ended with {'; '.join(ends)}" if ends else "it ended with exit code 0"


def left_alone(application: Application, container_states: Iterable[ContainerState]) -> dict[str, str]:
    """The project's containers that a stop does not touch, each with why, by container."""
    reasons = {}
    for container in container_states:
        if container.one_off:
            reasons[container.name] = f"a one-off container of {container.service} (docker compose run)"
        elif container.service not in application.services:
            reasons[container.name] = f"service {container.service} is not declared (any more)"
    return reasons


def returning_with_engine(application: Application) -> tuple[str, ...]:
    """The services that the engine starts again at its own next start, stopped or not: restart "always"."""
    return tuple(sorted(name for name, declaration in application.services.items() if declaration.restart == "always"))
