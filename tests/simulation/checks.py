"""Health checks of a simulated engine's containers, as moby runs them (daemon/health.go, container/health.go)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tests.simulation.containers import Container, go_time

if TYPE_CHECKING:
    from tests.simulation.engine import Engine

_RESULTS = 5
"""So many an engine keeps."""


class HealthChecks:
    """Judges containers by their checks, and keeps the results, which are made when they are asked for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begin(self, container: Container) -> None:
        """A container was started."""
        check = container.check
        container.health = "starting" if check is not None else None
        container.checked_at, container.passes = container.started_at, False
        if check is not None:
            self._engine.later(check.fails_after, self._fail, container, container.life)

    def end(self, container: Container) -> None:
        """A container ends or is paused: what it checks no longer an engine calls unhealthy, and reports no event."""
        self.keep_results(container)
        if container.health is not None:
            container.health = "unhealthy"

    def resume(self, container: Container) -> None:
        """A container was paused, and goes on: it is healthy from its next check on, if that passes."""
        container.checked_at = self._engine.clock.now()
        if container.check is not None:
            self._engine.later(container.check.interval, self._check_again, container, container.life)

    def change(self, container: Container, *, passes: bool) -> None:
        """From now on its check passes, or fails until the container is started anew."""
        if container.health is None:
            return
        self.keep_results(container)
        container.passes = passes
        self._judge(container, container.life, "healthy" if passes else "unhealthy")

    def keep_results(self, container: Container) -> None:
        """Keep the results of the checks that were due since the last one."""
        check, at, until = container.check, container.checked_at, self._engine.clock.now()
        if check is None or at is None or container.started_at is None or container.status != "running":
            return
        while True:
            age = (at - container.started_at).total_seconds()
            is_young = container.health == "starting" and age < check.start_period
            step = check.start_interval if is_young else check.interval
            due = (until - at).total_seconds() // step
            if due < 1:
                return
            # Of many only the last ones are kept.
            at += timedelta(seconds=step * max(1.0, due - _RESULTS if not is_young else 1.0))
            self._keep(container, at)

    def _keep(self, container: Container, at: datetime) -> None:
        result = {"Start": go_time(at), "End": go_time(at), "ExitCode": 0 if container.passes else 1, "Output": ""}
        container.checked, container.checked_at = [*container.checked, result][-_RESULTS:], at

    def _fail(self, container: Container, life: int) -> None:
        """It has failed as often as it may, unless it passed before."""
        if container.health == "starting":
            self._judge(container, life, "unhealthy")

    def _check_again(self, container: Container, life: int) -> None:
        if container.passes:
            self._judge(container, life, "healthy")

    def _judge(self, container: Container, life: int, health: str) -> None:
        if container.life != life or container.status != "running" or container.health == health:
            return
        self.keep_results(container)
        was, container.health = container.health, health
        for _ in range(container.check.retries if container.check and was == "healthy" else 1):
            self._keep(container, self._engine.clock.now())
        self._engine.report(container, f"health_status: {health}")
