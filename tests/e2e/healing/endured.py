"""Let the watched sample endure a harm, and tell what is not as expected afterwards."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from flows.deployment.startup import startup
from flows.recovery.watch import watch
from models.errors import Category, RecordedError, Strategy
from models.recovery import RecoveryExecution, Ticket, TicketState
from models.results import OperationResult
from tasks.runtime.stores import open_stores
from tests.e2e.faults.scenes import Services
from tests.e2e.flows.test_interruption import roas
from tests.e2e.healing.scenes import SERVICES, Sample

PRECIOUS = "what a person would miss"
TIMEOUT_SECONDS = 300.0
QUIET_SECONDS = 17.0
"""Longer than the watch lets things settle: what would loop has begun again by then."""

_BEGUN_WITHIN_SECONDS = 300
_MOST_ATTEMPTS = 3


class End(StrEnum):
    """What a harm must come to."""

    HEALED = "healed"
    TICKET = "one ticket"
    LEFT = "left alone"
    BACK = "back by itself"


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """One way to hurt the sample while it is watched, and what must come of it.

    `service` is the one to blame, None where it is the host or the whole. `strategies` are those that may be
    carried out. `changes` is how this sample differs from the usual one. `release` is deployed once the usual
    one is proven. `unwatched`: it happens before the watch begins. `meanwhile` goes on from before the harm to
    the end. `killed_at`: the first watch is a process of its own, killed at that moment. `down` are services
    that do not serve afterwards. `own_engine`: the sample has an engine of its own, which may be hurt.
    """

    name: str
    inject: Callable[[Sample], object]
    end: End = End.HEALED
    service: str | None = "bot"
    categories: tuple[Category, ...] = ()
    strategies: tuple[Strategy, ...] = (Strategy.RESTART_SERVICE,)
    changes: Services = field(default_factory=dict)
    release: Services | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    unwatched: bool = False
    meanwhile: Callable[[Sample], AbstractContextManager[object]] | None = None
    killed_at: Callable[[Sample], bool] | None = None
    down: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    loses_data: bool = False
    own_engine: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Survived:
    """Result of a harm to one sample, and of its recovery."""

    harm: Harm
    sample: Sample
    before: dict[str, tuple[str, str]]
    after: dict[str, tuple[str, str]]
    stands: dict[str, str]
    precious: str
    errors: tuple[RecordedError, ...]
    tries: tuple[RecoveryExecution, ...]
    tickets: tuple[Ticket, ...]
    in_time: bool
    began: datetime
    later_tries: int
    starts: int = 0

    @property
    def open_tickets(self) -> tuple[Ticket, ...]:
        return tuple(one for one in self.tickets if one.state is not TicketState.RESOLVED)

    @property
    def blamed(self) -> RecordedError | None:
        """The error of the service to blame, the last where one led to the next."""
        return next((one for one in self.errors[::-1] if one.service == self.harm.service), None)

    def complaints(self) -> list[str]:
        """Return all that is not as expected."""
        return [*self._end(), *self._rows(), *self._steps(), *self._no_worse()]

    def _end(self) -> list[str]:
        harm, said = self.harm, [] if self.in_time else ["it did not come to an end in time"]
        well = {name: "healthy" for name in SERVICES if name not in harm.down}
        stands = {name: self.stands.get(name, "gone") for name in well}
        if harm.end is not End.LEFT and stands != well:
            said.append(f"it stands {self.stands}")
        open_errors = [one.error_id for one in self.errors if one.resolved_at is None]
        if harm.end in (End.HEALED, End.BACK):
            said += [f"errors stay open: {open_errors}"] if open_errors else []
            said += [f"tickets stay open: {[one.title for one in self.open_tickets]}"] if self.open_tickets else []
        elif harm.end is End.TICKET:
            titles = [one.title for one in self.open_tickets]
            said += [] if len(titles) == 1 else [f"there are {len(titles)} tickets: {titles}"]
            said += [f"a ticket has no commands: {one.title}" for one in self.open_tickets if not one.steps]
        elif self.errors or self.tries or self.tickets:
            said.append(f"something was made of it: {[one.text for one in self.errors]}")
        return said

    def _rows(self) -> list[str]:
        if self.harm.end in (End.LEFT, End.BACK):
            return []
        error = self.blamed
        if error is None:
            return [f"no error blames {self.harm.service}: {[(one.service, one.text) for one in self.errors]}"]
        said = []
        if self.harm.categories and error.verdict.category not in self.harm.categories:
            said.append(f"it is judged {error.verdict.category}: {error.verdict.reason}")
        bundles = open_stores().evidence.find(environment=self.sample.name, error_id=error.error_id)
        if error.service is not None and not bundles:
            said.append("no evidence is kept")
        acted = [one.acted_at for one in self.tries if one.acted_at is not None]
        acted = [at for at in acted if at >= error.first_seen]
        if bundles and acted and min(one.taken_at for one in bundles) > min(acted):
            said.append("its evidence is from after the first action")
        return said

    def _steps(self) -> list[str]:
        said = []
        for one in self.tries:
            if one.strategy not in self.harm.strategies:
                said.append(f"{one.strategy} was tried: {one.final_status}")
            if one.ended_at is None:
                said.append(f"attempt {one.attempt_id} never ended")
            names = [(step.name, step.target) for step in one.steps]
            if len(names) != len(set(names)):
                said.append(f"a step was done twice: {names}")
            if one.success and one.strategy is not Strategy.ROLL_BACK_RELEASE:
                moments = [one.detected_at, one.diagnosed_at, one.acted_at, one.verified_at]
                known = [moment for moment in moments if moment is not None]
                if len(known) < len(moments) or known != sorted(known):
                    said.append(f"its moments are {moments}")
        return said

    def _no_worse(self) -> list[str]:
        said = [f"{self.later_tries} attempts came after its end"] if self.later_tries else []
        if self.harm.killed_at is not None and self.starts != 1:
            said.append(f"{self.harm.service} was started {self.starts} times")
        for error in self.errors:
            mine = [one for one in self.tries if one.error_id == error.error_id]
            if len(mine) > _MOST_ATTEMPTS:
                said.append(f"{len(mine)} attempts at {error.error_id}")
        if not self.harm.loses_data and "redis" not in self.harm.down and self.precious != PRECIOUS:
            said.append(f"the volume holds {self.precious!r}")
        touched = {self.harm.service, *self.harm.replaced, *self.harm.down, *(one.service for one in self.errors)}
        touched |= {step.target for one in self.tries for step in one.steps}
        changed = [name for name in SERVICES if self.after.get(name) != self.before.get(name)]
        return said + [f"{name} had no part in it and was restarted" for name in changed if name not in touched]


async def survive(harm: Harm, sample: Sample, *, quiet: float = QUIET_SECONDS) -> Survived:
    """Start the sample, watch it, hurt it, and wait for the end."""
    await started(sample, harm)
    before = await asyncio.to_thread(sample.lives)
    with ExitStack() as held:
        starts = held.enter_context(sample.starts(harm.service or ""))
        if harm.meanwhile is not None:
            held.enter_context(harm.meanwhile(sample))
        began = datetime.now().astimezone()
        if harm.killed_at is not None:
            began = await asyncio.to_thread(_killed_in_the_middle, harm, sample)
        elif harm.unwatched:
            await asyncio.to_thread(harm.inject, sample)
        async with watching(sample):
            if harm.killed_at is None and not harm.unwatched:
                return await hurt(harm, sample, quiet=quiet)
            survived = await _endured(harm, sample, before, began, quiet=quiet)
            return replace(survived, starts=len(starts))


async def started(sample: Sample, harm: Harm) -> None:
    """Start the sample as a harm wants it, with something precious in its volume."""
    await asyncio.to_thread(sample.set_up)
    sample.declare(harm.changes, **harm.fields)
    await _proven(sample)
    await asyncio.to_thread(sample.set_down, PRECIOUS)
    if harm.release is not None:
        sample.declare(harm.release, **harm.fields)
        await _proven(sample)


async def hurt(harm: Harm, sample: Sample, *, quiet: float = QUIET_SECONDS) -> Survived:
    """Hurt the watched sample, and wait for the end."""
    before = await asyncio.to_thread(sample.lives)
    began = datetime.now().astimezone()
    await asyncio.to_thread(harm.inject, sample)
    return await _endured(harm, sample, before, began, quiet=quiet)


async def _endured(
    harm: Harm, sample: Sample, before: dict[str, tuple[str, str]], began: datetime, *, quiet: float
) -> Survived:
    in_time = await asyncio.to_thread(_ended, harm, sample, began)
    tries = len(tries_of(sample, began))
    await asyncio.sleep(quiet)
    if harm.end is End.BACK:
        # What the watch noted of it meanwhile is closed only once all has been well for a while.
        in_time = in_time and await asyncio.to_thread(_ended, harm, sample, began)
    return await _seen(harm, sample, before, began, in_time=in_time, tries=tries)


@asynccontextmanager
async def watching(sample: Sample) -> AsyncIterator[None]:
    """A watch of its own that has swept once."""
    task = asyncio.create_task(watch(sample.name))
    name = f"watch/{sample.name}"
    last = open_stores().heartbeats.all().get(name)
    try:
        assert await asyncio.to_thread(
            _comes, lambda: open_stores().heartbeats.all().get(name) != last, _BEGUN_WITHIN_SECONDS
        ), "the watch did not begin"
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _proven(sample: Sample) -> None:
    result = await startup(sample.name)
    assert isinstance(result, OperationResult)
    assert result.success, result.reason


def _killed_in_the_middle(harm: Harm, sample: Sample) -> datetime:
    """A watch in a process of its own, killed where it has come to that moment; gives when the harm was done."""
    at = harm.killed_at
    assert at is not None
    with roas("watch", sample.name) as process:
        name = f"watch/{sample.name}"
        assert _comes(lambda: name in open_stores().heartbeats.all(), _BEGUN_WITHIN_SECONDS)
        began = datetime.now().astimezone()
        harm.inject(sample)
        assert _comes(lambda: at(sample), TIMEOUT_SECONDS, look_again=0.005), "it did not come to that moment"
        process.send_signal(signal.SIGKILL)
    return began


def _ended(harm: Harm, sample: Sample, began: datetime) -> bool:
    if harm.end is End.LEFT:
        return True
    return _comes(lambda: _has_ended(harm, sample, began), TIMEOUT_SECONDS)


def _has_ended(harm: Harm, sample: Sample, began: datetime) -> bool:
    if any(one.ended_at is None for one in tries_of(sample, began)):
        return False
    rolled_back = [one.success for one in tries_of(sample, began) if one.strategy is Strategy.ROLL_BACK_RELEASE]
    if harm.release is not None and not any(rolled_back):
        # Until then the bad one comes up, and falls again.
        return False
    if harm.end is End.TICKET:
        return any(one.state is not TicketState.RESOLVED for one in _tickets_of(sample, began))
    errors = _errors_of(sample, began)
    if any(one.resolved_at is None for one in errors) or (not errors and harm.end is not End.BACK):
        return False
    return all(reported[-1] == "healthy" for name, reported in sample.state().containers.items() if name in SERVICES)


def _comes(seen: Callable[[], bool], within: float, *, look_again: float = 0.05) -> bool:
    deadline = time.monotonic() + within
    while not seen():
        if time.monotonic() > deadline:
            return False
        time.sleep(look_again)
    return True


def tries_of(sample: Sample, since: datetime | None = None) -> tuple[RecoveryExecution, ...]:
    """Return the attempts at the sample, oldest first."""
    tries = open_stores().recoveries.find(environment=sample.name)
    return tuple(one for one in tries if since is None or one.started_at >= since)


def _errors_of(sample: Sample, began: datetime) -> tuple[RecordedError, ...]:
    errors = [one for one in open_stores().errors.latest(sample.name) if one.last_seen >= began]
    return tuple(sorted(errors, key=lambda one: one.first_seen))


def _tickets_of(sample: Sample, began: datetime) -> tuple[Ticket, ...]:
    return tuple(one for one in open_stores().tickets.find(environment=sample.name) if one.opened_at >= began)


async def _seen(
    harm: Harm, sample: Sample, before: dict[str, tuple[str, str]], began: datetime, *, in_time: bool, tries: int
) -> Survived:
    state = await asyncio.to_thread(sample.state)
    after = tries_of(sample, began)
    return Survived(
        harm=harm,
        sample=sample,
        before=before,
        after=await asyncio.to_thread(sample.lives),
        stands={name: reported[-1] for name, reported in state.containers.items()},
        precious=await asyncio.to_thread(sample.precious),
        errors=_errors_of(sample, began),
        tries=after,
        tickets=_tickets_of(sample, began),
        in_time=in_time,
        began=began,
        later_tries=len(after) - tries,
    )
