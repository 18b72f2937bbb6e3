"""Pages of the Prefect UI on what the agent watches: an artifact an environment, as long as a server is there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
from prefect import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.exceptions import PrefectHTTPStatusError

from core.runtime.host_access import ENVIRONMENT_FACT
from tasks.runtime.naming import artifact_key

log = logging.getLogger("roas")

_LOOK_SECONDS = 30.0
_SHOWN_AGAIN_AFTER = timedelta(minutes=15)
_ANSWERS_WITHIN_SECONDS = 10.0
"""A client whose server is away tries for a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchState:
    """What a page says of one environment; `since` None: the agent does not watch it now."""

    environment: str
    host: str
    since: datetime | None
    collections: int


async def show_watches(states: Callable[[], Iterable[WatchState]]) -> None:
    """Show each environment again where it changed, and every quarter of an hour, until this is cancelled."""
    shown: dict[str, tuple[bool, datetime]] = {}
    while True:
        now = datetime.now(UTC)
        for state in list(states()):
            before = shown.get(state.environment)
            is_watched = state.since is not None
            if before is not None and before[0] == is_watched and now - before[1] < _SHOWN_AGAIN_AFTER:
                continue
            if not await _show(state, now):
                # The server is away; all of it is shown when it is back.
                break
            shown[state.environment] = is_watched, now
        await asyncio.sleep(_LOOK_SECONDS)


def page_of(state: WatchState, now: datetime) -> str:
    """The page as Markdown."""
    if state.since is None:
        return f"**{state.environment}** is not watched by the agent on {state.host} at {now:%Y-%m-%d %H:%M} UTC."
    return (
        f"**{state.environment}** is watched by the agent on {state.host} since {state.since:%Y-%m-%d %H:%M} UTC.\n\n"
        f"Seen at {now:%Y-%m-%d %H:%M} UTC; {state.collections} collections. `roas why {state.environment}` explains "
        f"what failed, `roas top {state.environment}` shows it live."
    )


async def _show(state: WatchState, now: datetime) -> bool:
    artifact = ArtifactCreate(
        key=artifact_key("watch", state.environment),
        type="markdown",
        description=f"Watch of {state.environment}",
        data=page_of(state, now),
        # By it a control plane knows whose page it is.
        metadata_={ENVIRONMENT_FACT: state.environment},
    )
    try:
        async with asyncio.timeout(_ANSWERS_WITHIN_SECONDS), get_client() as client:
            await client.create_artifact(artifact)
    except (httpx.HTTPError, PrefectHTTPStatusError, OSError, RuntimeError, ValueError) as error:
        log.debug("the page of the watch of %s was not made: %s", state.environment, error or type(error).__name__)
        return False
    return True
