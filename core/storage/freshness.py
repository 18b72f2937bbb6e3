"""Decide whether an environment's snapshots are as new, and as well proven, as it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from core.common.quantities import age_in_words
from core.storage.snapshots import offered_snapshots
from models.environments import Environment
from models.snapshots import DataSnapshot


def snapshot_problems(environment: Environment, snapshots: Sequence[DataSnapshot], now: datetime) -> tuple[str, ...]:
    """What is wrong with the snapshots of an environment that says how old they may be; else nothing.

    `snapshots` are all of the environment. Each problem is a clause that names the command to use.
    """
    settings = environment.data
    if settings is None or settings.max_age_hours is None:
        return ()
    name, whole = environment.name, offered_snapshots(snapshots)
    take, rehearse = f"`roas snapshot create {name}` takes one", f"`roas snapshot rehearse {name}` does it"
    if not whole:
        return (f"there is no whole snapshot of its data; {take}",)
    problems = []
    age = now - whole[0].begun_at
    if age > timedelta(hours=settings.max_age_hours):
        allowed = age_in_words(settings.max_age_hours * 3600)
        old = age_in_words(age.total_seconds())
        problems.append(f"the newest whole snapshot is {old} old, data.max_age_hours allows {allowed}; {take}")
    rehearsed = [snapshot.rehearsal for snapshot in whole if snapshot.rehearsal is not None]
    if not rehearsed:
        problems.append(f"no restore of its snapshots was rehearsed; {rehearse}")
    elif not rehearsed[0].ok:
        problems.append(f"the last rehearsal of a restore failed: {rehearsed[0].problem.rstrip('.')}")
    return tuple(problems)
