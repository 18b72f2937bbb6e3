"""Needs of environments as the stores show them, also those of another host; plain reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from adapters.config.needs import declared_needs
from adapters.stores import Stores
from core.deployment.desired_state import should_run, time_of_stop
from core.deployment.needs import judge_need
from models.needs import NeedState
from models.settings import current_settings
from tasks.runtime.stores import open_stores, stores_exist

_STALE = timedelta(minutes=15)
"""A record that is older says what was."""

_LATEST_ERRORS = 20


def recorded_needs(environment: str) -> tuple[NeedState, ...]:
    """The needs of an environment by the records of their environments; none where its file cannot be read.

    Raises:
        StoreError: The stores cannot be read.
    """
    return tuple(map(recorded_need, declared_needs(current_settings()).get(environment, ())))


def recorded_need(need: str) -> NeedState:
    """One need by the record of its environment.

    Raises:
        StoreError: The stores cannot be read.
    """
    name, _, service = need.partition("/")
    if not stores_exist() or not (recorded := (stores := open_stores()).operations.latest_recorded(name)):
        return NeedState(need=need, up=None, reason=f"no environment {name} is known here, or on another host")
    if stopped_at := time_of_stop(recorded):
        return NeedState(need=need, up=False, reason=f"stopped {stopped_at:%Y-%m-%d %H:%M} UTC, on request")
    health = next(iter(stores.health.history(environment=name, limit=1)), None)
    # A collection that finds no change stores no report.
    collected = stores.heartbeats.all().get(f"collection/{name}")
    seen_at = max(health.checked_at, collected or health.checked_at) if health is not None else None
    if health is None or seen_at is None or datetime.now(UTC) - seen_at > _STALE:
        when = f"at {seen_at:%Y-%m-%d %H:%M} UTC" if seen_at is not None else "never"
        return NeedState(need=need, up=None, reason=f"its health was judged last {when}", coming=True)
    state, (_, since) = judge_need(need, health, (), stopped=False, held=True), stopped_and_outage(stores, need)
    errors = [error for error in stores.errors.list_unresolved(name) if service in ("", error.service)]
    if state.up and (newer := next((error for error in errors if error.last_seen > seen_at), None)):
        # Its failure is on record before the next collection.
        return NeedState(need=need, up=False, reason=newer.text, since=since, coming=True)
    return NeedState(need=need, up=state.up, reason=state.reason, since=since, coming=state.coming)


def stopped_and_outage(stores: Stores, need: str) -> tuple[bool, datetime | None]:
    """Whether a person stopped the environment of a need, and when the need last failed or got over it.

    Raises:
        StoreError: The stores cannot be read.
    """
    name, _, service = need.partition("/")
    errors = (error for error in stores.errors.latest(name, _LATEST_ERRORS) if service in ("", error.service))
    outage = max((error.resolved_at or error.last_seen for error in errors), default=None)
    return not should_run(stores.operations.latest_recorded(name)), outage
