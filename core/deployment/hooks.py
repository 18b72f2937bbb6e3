"""Decide what the hooks of an update mean: what each does, how it ended, and what its interruption leads to."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum

from core.common.safe_text import printable, shorten
from core.common.stamps import without_stamp
from models.compose import Application
from models.containers import ContainerState
from models.hooks import Hook, Hooks, PlannedHook
from models.operations.record import HookRun, SnapshotRecord

BEFORE, AFTER, AFTER_ROLLBACK = "before", "after", "after the rollback"
BY_THE_CLOCK = "by the clock"
"""When a job of a schedule runs, which is run like a hook."""

LAST_LINES = 20
"""So many lines of a hook's output are in the operation's record; the whole is evidence."""

_LONGEST_LINE = 400
_LONGEST_WORDS = 120
_NAMED = "-hook-"
_JOB_NAMED = "-job-"


class AfterInterruption(StrEnum):
    """What becomes of a hook whose update was interrupted while it ran."""

    RUN = "run"
    TAKE_UP = "take up"
    REFUSE = "refuse"


def decide_after_interruption(hook: Hook, *, begun: bool, container_there: bool) -> AfterInterruption:
    """Decide on a hook that has no recorded end: a container outlives the process that began it, all else does not."""
    if container_there:
        return AfterInterruption.TAKE_UP
    if not begun or hook.again or hook.canary is not None:
        return AfterInterruption.RUN
    return AfterInterruption.REFUSE


def describe(hook: Hook) -> str:
    """Say in a few words what a hook does."""
    if hook.canary is not None:
        return f"canary of {minutes_in_words(hook.canary.minutes)}"
    command = hook.exec.command if hook.exec is not None else hook.command
    words = printable(shorten(shlex.join(command), _LONGEST_WORDS)) if command else ""
    if hook.exec is not None:
        return f"`{words}` in {hook.exec.service}"
    if hook.service is not None:
        return f"one-off container of {hook.service}{f' with `{words}`' if words else ''}"
    return f"`{words}` on this machine"


def minutes_in_words(minutes: float) -> str:
    """Write a time with the unit that suits it."""
    return f"{minutes:g} min" if minutes >= 1 else f"{60 * minutes:g} s"


def planned_hooks(hooks: Hooks) -> tuple[PlannedHook, ...]:
    """Return the hooks that an update would run, in their order."""
    before = [PlannedHook(name=hook.name, when=BEFORE, does=describe(hook)) for hook in hooks.before]
    after = [PlannedHook(name=hook.name, when=AFTER, does=describe(hook)) for hook in hooks.after]
    return (*before, *after)


def unknown_services(hooks: Hooks, services: Collection[str], running: Collection[str]) -> dict[str, str]:
    """Return what is wrong with the services that hooks name, by hook.

    `services` are those of all profiles, `running` those that are part of the application.
    """
    problems: dict[str, str] = {}
    for hook in (*hooks.before, *hooks.after):
        service = hook.concerns
        if service is None:
            continue
        if service not in services:
            problems[hook.name] = f"hook {hook.name} names {service}, which is no service of the Compose files"
        elif hook.exec is not None and service not in running:
            problems[hook.name] = f"hook {hook.name} runs inside of {service}, whose profile is not switched on"
    return problems


def not_running(hook: Hook, application: Application, running: Collection[str]) -> tuple[str, ...]:
    """Return the services that a one-off container needs and that do not run.

    `application` has the services of all profiles.
    """
    declaration = application.services.get(hook.service or "")
    needed = declaration.depends_on.items() if declaration is not None else ()
    return tuple(
        other
        for other, entry in needed
        if entry.required and other not in running and not application.services[other].one_shot
    )


def container_name(project: str, hook: str, deployment_id: str, when: str = "") -> str:
    """The name of a hook's one-off container: the same for one operation, whichever process runs it."""
    return f"{project}{_JOB_NAMED if when == BY_THE_CLOCK else _NAMED}{hook}{_mark(deployment_id)}"


def containers_of_job(project: str, job: str, containers: Iterable[ContainerState]) -> tuple[ContainerState, ...]:
    """The one-off containers of the runs of a job."""
    name = re.compile(rf"{re.escape(f'{project}{_JOB_NAMED}{job}')}-[0-9a-f]{{8}}")
    return tuple(container for container in containers if container.one_off and name.fullmatch(container.name))


def kind_of(run: HookRun) -> str:
    """What people call what was run."""
    return "job" if run.when == BY_THE_CLOCK else "hook"


def left_behind(project: str, containers: Iterable[ContainerState], deployment_id: str) -> tuple[ContainerState, ...]:
    """Return the one-off containers that were made for hooks of other operations than this one."""
    prefix, suffix = f"{project}{_NAMED}", _mark(deployment_id)
    of_hooks = (container for container in containers if container.one_off and container.name.startswith(prefix))
    return tuple(container for container in of_hooks if not container.name.endswith(suffix))


def _mark(deployment_id: str) -> str:
    return f"-{hashlib.sha256(deployment_id.encode()).hexdigest()[:8]}"


def last_lines(output: str, *, stamped: bool = False) -> tuple[str, ...]:
    """The last lines of an output, each cut where it is long; without empty ones at its end.

    `stamped`: the engine's time stamp stands before each, and is left out.
    """
    lines = [line.rstrip() for line in output.rstrip().splitlines()]
    lines = [without_stamp(line) for line in lines] if stamped else lines
    return tuple(line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 3]}..." for line in lines)[
        -LAST_LINES:
    ]


def how_it_ended(run: HookRun) -> str:
    """Say how a hook ended, in words that follow its name."""
    if run.problem:
        return run.problem
    return "ended well" if run.ok else f"ended with exit code {run.exit_code}"


def failure(run: HookRun, decisive: str = "") -> str:
    """Say in one sentence that a hook failed, and how; `decisive` is the line of its output that shows it best."""
    return f"{kind_of(run)} {run.name} failed ({run.does}): {how_it_failed(run, decisive)}"


def how_it_failed(run: HookRun, decisive: str = "") -> str:
    """Say how a hook failed, where its name is known; `decisive` as of `failure`."""
    quote = f'; it said "{shorten(decisive, 200)}"' if decisive.strip() else ""
    return f"it {how_it_ended(run)}{quote}"


def proof_of_rollback(services: int, hooks: Hooks, runs: Sequence[HookRun] | None, *, data_changed: bool) -> str:
    """Say what proves a release that was gone back to; "proven" only where no check is left out.

    `runs` are those of the hooks that check it, None where a person ended the operation.
    """
    healthy = f"{services} services are healthy"
    failed = [run for run in runs or () if not run.ok]
    passed = [run.name for run in runs or () if run.ok]
    if failed and (not passed or not all(run.warns for run in failed)):
        return f"{healthy}, but not proven: {'; '.join(run.sentence for run in failed)}"
    if passed:
        return f"{services} services proven, also by hook {', '.join(passed)}"
    if hook_names := [hook.name for hook in hooks.after if hook.canary is None]:
        return f"{healthy}, not proven: hook {', '.join(hook_names)} did not run again"
    if data_changed:
        return f"{healthy}, not proven: no hook checked them on the data that may have changed"
    return f"{services} services proven"


def proves_data(runs: Sequence[HookRun] | None, begun: Sequence[str]) -> bool:
    """Whether the hooks that checked a release which was gone back to prove it on the data that is there now.

    They do not where a hook before the change of containers had begun: it changes data on purpose, and what it did to
    them is for a person to judge. Else only containers of the new version may have written something, and to put the
    data back would lose what users wrote since.
    """
    return not begun and bool(runs) and all(run.ok for run in runs or ())


def later_data_warning(release_id: str) -> str:
    """Say that data may have changed since a release that runs again."""
    return f"data may have changed: a version after release {release_id} may have used it"


def data_warning(runs: Sequence[HookRun], begun: Sequence[str], snapshots: Sequence[SnapshotRecord] = ()) -> str:
    """Say that data may have changed, where a hook before the change of containers had begun; else nothing.

    `begun` are the names of such hooks. `snapshots` is what the record says of the snapshots that were taken before:
    without a hook they mean that containers were about to change which use that data.
    """
    if not begun and not snapshots:
        return ""
    ended = {run.name: how_it_ended(run) for run in runs}
    hooks = ", ".join(f"hook {name} {ended.get(name, 'had begun')}" for name in begun)
    ids = ", ".join(snapshot.id for snapshot in snapshots)
    snapshot_note = f"snapshot {ids} was taken before" if ids else "no snapshot was taken before"
    return f"data may have changed: {hooks or 'the new version may have used it'}; {snapshot_note}"
