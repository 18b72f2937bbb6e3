"""Watch: hear what happens to an application, look again for what was missed, and hand over what is wrong."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from prefect import flow
from pydantic import Field

from core.alerts import maintenance_windows
from core.watching import (
    LOOP,
    SETTLE,
    Round,
    Surroundings,
    is_bad,
    judge_sign,
    judge_verdict,
    sort_out,
)
from flows.error_recovery import recover
from flows.judging import dependencies_of, judge_now
from flows.parameters import ACT, COMPOSE_FILES, ENVIRONMENT
from models.compose import Application
from models.environments import Environment
from models.failures import EngineError, RoasError
from models.results import WatchReport
from models.sightings import ContainerEvent, Sighting
from tasks.loading import load_environment
from tasks.monitoring import stopped_on_request
from tasks.notifications import UNHEALTHY, announce, tell_people
from tasks.recovery import read_patterns, stopped_by_person
from tasks.services import look_at_application, read_application
from tasks.watching import beat, in_hand, listen

log = logging.getLogger("roas")

SWEEP = timedelta(seconds=60)
WATCH_HOURS = 12 - 20 / 3600
"""After so long a watch ends: whatever a process gathers goes with it. Just before twelve hours, since the next
run of its schedule then finds the place free."""

_EVENTS = 1_000_000
_GATHER_SECONDS = 0.1
"""Several services that fail together are heard of within this; nobody notices that one waits for it."""

_HOST = ""


@flow(name="watch", flow_run_name="watch {environment}")
async def watch(
    environment: str = ENVIRONMENT,
    compose_files: list[str] | None = COMPOSE_FILES,
    act: bool = ACT,
    hours: float = Field(WATCH_HOURS, gt=0, description="How long; a scheduled watch is begun again after it."),
) -> WatchReport:
    """Watch an environment for so many hours, whether its engine is there or not.

    `act` False judges and records only.

    Raises:
        EnvironmentFileError: The environment cannot be read.
    """
    declared = await load_environment(environment, tuple(compose_files or ()))
    until = datetime.now(UTC) + timedelta(hours=hours)
    async with listen(declared) as feed:
        vigil = _Vigil(declared, tuple(compose_files or ()), act=act, woken=feed.ring)
        # They are compiled before the first failure, not while something is down.
        await read_patterns()
        log.info("watching %s until %s", environment, f"{until:%Y-%m-%d %H:%M} UTC")
        try:
            while (now := datetime.now(UTC)) < until and vigil.heard < _EVENTS:
                await feed.wait(max(timedelta(), min(vigil.look_at, until) - now))
                events, missed = feed.take()
                vigil.hear(events)
                if vigil.suspects:
                    await asyncio.sleep(_GATHER_SECONDS)
                    events, more = feed.take()
                    missed |= more
                    vigil.hear(events)
                    await vigil.look()
                if missed or datetime.now(UTC) >= vigil.look_at:
                    await vigil.sweep()
        finally:
            await vigil.end()
    return WatchReport(environment=environment, events=vigil.heard, handed_over=vigil.handed_over)


class _Vigil:
    """What a watcher remembers of one environment; never more than a few things for each service."""

    def __init__(self, declared: Environment, files: tuple[str, ...], *, act: bool, woken: Callable[[], None]) -> None:
        self.heard = 0
        self.handed_over = 0
        self.suspects: set[str] = set()
        self.look_at = datetime.now(UTC)
        self._declared = declared
        self._files = files
        self._act = act
        self._woken = woken
        self._application: Application | None = None
        self._stopped: set[str] = set()
        self._ends: dict[str, deque[datetime]] = {}
        self._recovering: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, datetime] = {}
        self._handed: dict[str, tuple[str, datetime]] = {}
        self._said: dict[str, str] = {}

    def hear(self, events: Sequence[ContainerEvent]) -> None:
        """Note what happened, and to which services one must look."""
        self.heard += len(events)
        for event in events:
            if event.action == "stop":
                self._stopped.add(event.container_id)
            elif event.action in ("start", "destroy"):
                self._stopped.discard(event.container_id)
            elif event.action == "die" and event.service not in self._recovering:
                self._ends.setdefault(event.service, deque(maxlen=LOOP)).append(event.happened_at)
            if is_bad(event) and event.service not in self._recovering:
                self.suspects.add(event.service)

    async def look(self) -> None:
        """Judge the services that something bad happened to, by what the engine shows of them now."""
        suspects, self.suspects = self.suspects, set()
        application = self._application
        if application is None:
            # Before the first sweep nothing is known of the application; the sweep finds what is wrong.
            self._look_again(timedelta())
            return
        try:
            sightings, held = await asyncio.gather(look_at_application(self._declared), in_hand(self._declared.name))
        except EngineError as error:
            log.info("%s cannot be looked at: %s", ", ".join(sorted(suspects)), error)
            return
        now = datetime.now(UTC)
        signs = [
            judge_sign(
                application.services[name],
                sightings,
                spec=self._declared.service(name),
                ends=tuple(self._ends.get(name, ())),
                stopped=self._stopped,
                now=now,
            )
            for name in sorted(suspects)
            if name in application.services
        ]
        self._follow(sort_out(signs, self._surroundings(application, held, now), now), now)

    async def sweep(self) -> None:
        """Look at everything: for what no event told of, and for what was left to settle."""
        self.look_at = datetime.now(UTC) + SWEEP
        await beat(f"watch/{self._declared.name}", datetime.now(UTC))
        try:
            self._declared = await load_environment(self._declared.name, self._files)
            self._application = application = await read_application(self._declared)
            held, idle = await asyncio.gather(in_hand(self._declared.name), stopped_on_request(self._declared.name))
            health, sightings = await asyncio.gather(
                judge_now(self._declared, application), look_at_application(self._declared)
            )
        except RoasError as error:
            # The collection records it; here it only has to be survived.
            self._say(_HOST, f"{self._declared.name} cannot be looked at: {error}")
            return
        self._said.pop(_HOST, None)
        self._forget_all_but(application, sightings)
        if idle or not sightings:
            self._say(_HOST, f"{self._declared.name} is not meant to run")
            return
        signs = [
            judge_verdict(verdict, sightings, stopped=await self._stopped_by_person(verdict.service, sightings))
            for verdict in health.services
        ]
        now = datetime.now(UTC)
        self._follow(sort_out(signs, self._surroundings(application, held, now), now), now)
        await tell_people(self._declared)

    async def end(self) -> None:
        """Let the recoveries that run come to their end; one that only waits for its time is given up."""
        for running in self._recovering.values():
            running.cancel()
        await asyncio.gather(*self._recovering.values(), return_exceptions=True)

    def _surroundings(self, application: Application, held: str | None, now: datetime) -> Surroundings:
        windows = maintenance_windows(self._declared.maintenance, now)
        return Surroundings(
            dependencies=dependencies_of(self._declared, application),
            held=held,
            recovering=tuple(name for name in self._recovering if name != _HOST),
            failed=self._failed,
            muted=frozenset(name for name in application.services if any(one.covers(name, now) for one in windows)),
            handed=self._handed,
        )

    async def _stopped_by_person(self, service: str, sightings: Sequence[Sighting]) -> bool:
        if not any(seen.service == service and seen.state == "exited" for seen in sightings):
            return False
        return await stopped_by_person(self._declared, service)

    def _follow(self, found: Round, now: datetime) -> None:
        for sign in (*found.wait, *found.leave):
            self._say(sign.service, f"{sign.service} is left alone: {sign.reason}")
        if found.wait:
            self._look_again(SETTLE)
        for sign in found.hand_over:
            self._failed[sign.service] = now
            self._handed[sign.service] = (sign.likeness, now)
            self._said.pop(sign.service, None)
            announce(UNHEALTHY, self._declared.name, service=sign.service, text=sign.reason)
            if not found.at_once:
                self._recover(sign.service, f"service {sign.service} is {sign.reason}")
        if found.at_once:
            named = "; ".join(f"{sign.service} is {sign.reason}" for sign in found.hand_over)
            text = f"{', '.join(found.at_once)} failed within {SETTLE.seconds} s: {named}"
            log.warning("none of them is acted on, because %s", text)
            self._recover(_HOST, text, len(found.at_once))

    def _recover(self, service: str, text: str, failing: int = 1) -> None:
        self.handed_over += 1
        self._recovering[service] = asyncio.create_task(self._recovered(service, text, failing))

    async def _recovered(self, service: str, text: str, failing: int) -> None:
        application = self._application
        try:
            await recover(
                self._declared.name,
                # Every word of it came through the engine's door, which lets no secret pass.
                text,
                self._declared,
                application,
                dependencies_of(self._declared, application) if application else (),
                service=service or None,
                source="watch",
                act=self._act,
                failing_services=failing,
            )
            await tell_people(self._declared)
        except RoasError as error:
            log.error("recovery of %s ended: %s", service or self._declared.name, error)
        finally:
            self._recovering.pop(service, None)
            if service != _HOST:
                self._ends.pop(service, None)
                self._failed[service] = datetime.now(UTC)
                # What happened to it meanwhile was taken for the recovery's own doing.
                self.suspects.add(service)
            # Who needs it has had time to notice by then.
            self._look_again(SETTLE)

    def _look_again(self, after: timedelta) -> None:
        self.look_at = min(self.look_at, datetime.now(UTC) + after)
        self._woken()

    def _say(self, about: str, words: str) -> None:
        """Once, until something else is to be said about the same thing."""
        if self._said.get(about) != words:
            self._said[about] = words
            log.info("%s", words)

    def _forget_all_but(self, application: Application, sightings: Sequence[Sighting]) -> None:
        self._stopped &= {seen.container_id for seen in sightings}
        for known in (self._ends, self._failed, self._handed, self._said):
            for name in [name for name in known if name not in application.services and name != _HOST]:
                known.pop(name)
