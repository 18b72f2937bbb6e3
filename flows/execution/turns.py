"""Turns: an update replaces one service at a time, each when it is its turn, and none after a failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from models.compose import Plan, PlannedAction
from models.results import ServiceStart
from tasks.deployment.service_inspector import StartProof


class Turns:
    """Lets the services that a plan changes begin one after the other. A service that is kept needs no turn."""

    def __init__(self, plan: Plan, create: Callable[[str], Awaitable[str | None]]) -> None:
        """`create` makes or replaces the containers of one service, and says how where a user should know."""
        self._changes = {line.service: line for line in plan.changes}
        self._create = create
        self._one = asyncio.Lock()
        self._failed: str | None = None
        self.seconds: dict[str, float] = {}
        """How long it took to make or replace the containers of each service."""
        self.how: dict[str, str] = {}
        """How the containers of a service were replaced, where not by Compose."""

    @asynccontextmanager
    async def wait_turn(self, service: str) -> AsyncIterator[str | None]:
        """Wait for the turn of a service. Yields the service whose failure means that this one is left as it is."""
        if not self.has(service):
            yield None
            return
        async with self._one:
            yield self._failed

    def has(self, service: str) -> bool:
        """Whether the plan changes a service."""
        return service in self._changes

    def replaces(self, service: str) -> bool:
        """Whether Compose replaces the containers of a service: what runs then is stopped first."""
        line = self._changes.get(service)
        return line is not None and line.action is PlannedAction.RECREATE and not line.start_first

    async def create(self, service: str) -> None:
        """Make or replace the service's containers where the plan says so.

        Raises:
            RoasError: As for `create`.
        """
        line = self._changes.get(service)
        if line is not None and line.action in (PlannedAction.CREATE, PlannedAction.RECREATE):
            began = time.monotonic()
            if (how := await self._create(service)) is not None:
                self.how[service] = how
            self.seconds[service] = time.monotonic() - began

    def describe(self, service: str, proof: StartProof) -> StartProof:
        """The proof of a service with how its containers were replaced."""
        how = self.how.get(service)
        return proof if how is None else replace(proof, kept=False, reason=f"{how}; {proof.reason}")

    def end(self, result: ServiceStart) -> None:
        """A service was proven or failed."""
        if not result.ok and self._failed is None:
            self._failed = result.service
